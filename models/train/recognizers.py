"""Reads back from a picture what its prompt asked for, with rules simple enough to port.

The rules are told in plain words in `models/scorers/README.md`; both must agree.
"""

import math
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from . import data_landscapes as land
from .data_landscapes import Scene
from .data_shapes import PALETTE, SHAPES, Combination, outline

LEAST_OVERLAP = 0.7


def read_shape(picture: np.ndarray) -> Combination:
    """The figure and the two colours of a `[64, 64, 3]` picture; "unclear" if no figure fits."""
    pixels = picture.astype(np.float64)
    frame = np.ones((64, 64), bool)
    frame[4:60, 4:60] = False
    background = _nearest(np.median(pixels[frame], axis=0), PALETTE)
    colour = _nearest(np.median(pixels[28:36, 28:36].reshape(-1, 3), axis=0), PALETTE)
    figure = _distance(pixels, PALETTE[colour]) < _distance(pixels, PALETTE[background])
    overlaps = {shape: _overlap(figure, shape) for shape in SHAPES}
    best = max(overlaps, key=overlaps.get)
    return Combination(best if overlaps[best] >= LEAST_OVERLAP else "unclear", colour, background)


def _nearest(colour: np.ndarray, palette: dict) -> str:
    return min(palette, key=lambda name: _distance(colour, palette[name]))


def _distance(pixels: np.ndarray, colour) -> np.ndarray:
    return ((pixels - np.asarray(colour)) ** 2).sum(-1)


def _overlap(figure: np.ndarray, shape: str) -> float:
    """Intersection over union with the ideal shape of equal area and equal centroid."""
    area = figure.sum()
    if area == 0:
        return 0.0
    y, x = np.mgrid[0:64, 0:64] + 0.5
    dx, dy = x - x[figure].mean(), y - y[figure].mean()
    if shape == "circle":
        ideal = np.hypot(dx, dy) <= math.sqrt(area / math.pi)
    else:
        unit = outline(shape, 1.0)
        side = math.sqrt(area / _polygon_area(unit))
        ideal = _inside(dx, dy, [(side * cx, side * cy) for cx, cy in unit])
    return (figure & ideal).sum() / (figure | ideal).sum()


def _polygon_area(corners: list[tuple[float, float]]) -> float:
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return abs(sum(ax * by - bx * ay for (ax, ay), (bx, by) in pairs)) / 2


def _inside(x: np.ndarray, y: np.ndarray, corners: list[tuple[float, float]]) -> np.ndarray:
    """Even-odd rule: a ray to the right crosses the outline an odd number of times."""
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return inside


def digit_features(pictures: np.ndarray) -> np.ndarray:
    """Ink in each of 16x16 cells: `[n, 64, 64, 3]` bytes to `[n, 256]` from 0 to 1."""
    grey = pictures.astype(np.float32).mean(-1) / 255
    return 1 - grey.reshape(-1, 16, 4, 16, 4).mean((2, 4)).reshape(-1, 256)


def read_digits(pictures: np.ndarray, classifier: Path) -> np.ndarray:
    weights = load_file(classifier)
    hidden = digit_features(pictures) @ weights["hidden.weight"].T + weights["hidden.bias"]
    return (np.maximum(hidden, 0) @ weights["output.weight"].T + weights["output.bias"]).argmax(1)


def read_landscape(picture: np.ndarray) -> Scene:
    """The hour from the sky's top, the ground from the lower edge, the place from the disc."""
    pixels = picture.astype(np.float64)
    tops = {name: hour.top for name, hour in land.HOURS.items()}
    hour = _nearest(np.median(pixels[0:6].reshape(-1, 3), axis=0), tops)
    grounds = {name: land.ground_colours(hour, name)[1] for name in land.GROUNDS}
    ground = _nearest(np.median(pixels[57:63].reshape(-1, 3), axis=0), grounds)
    light = pixels[4:34].mean(-1)
    excess = np.maximum(light - np.median(light, axis=1, keepdims=True), 0) ** 2
    centre = (excess.sum(0) @ (np.arange(64) + 0.5)) / max(excess.sum(), 1e-9)
    place = "left" if centre < 23 else "right" if centre > 41 else "centre"
    return Scene(hour, ground, place)
