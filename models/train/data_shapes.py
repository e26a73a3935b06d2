"""Shapes: one large coloured figure, near the centre, on a plain background.

The figures are large on purpose. A latent cell covers 8x8 pixels, so a figure has to
span several cells before a network can tell a triangle from a star.
"""

import math
import random
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

NAME = "shapes"
PREDICTION = "v_prediction"
NOISY_SHARE = 0.0
SIZE = 64
SUPERSAMPLING = 4

SHAPES = ("circle", "square", "triangle", "star")
PALETTE = {
    "red": (215, 45, 45),
    "orange": (245, 140, 35),
    "yellow": (250, 225, 70),
    "green": (50, 160, 75),
    "blue": (45, 85, 210),
    "purple": (135, 60, 170),
    "black": (25, 25, 28),
    "white": (245, 245, 242),
}
STAR_WAIST = 0.45  # inner radius of the star over its outer radius

TEMPLATES = (
    "a {colour} {shape} on a {background} background",
    "a {colour} {shape} on a {background} background",
    "{colour} {shape} on {background}",
    "a {colour} {shape} on {background}",
    "{colour} {shape} on {background} background",
    "the {colour} {shape} on the {background} background",
    "a {background} background with a {colour} {shape}",
    "{background} background with {colour} {shape}",
    "{colour} {shape}, {background} background",
    "{background} background, {colour} {shape}",
    "a {shape} in {colour} on a {background} background",
    "a picture of a {colour} {shape} on a {background} background",
)
PARTIAL_TEMPLATES = ("a {colour} {shape}", "{colour} {shape}")
PARTIAL_SHARE = 0.08
HELD_OUT_PER_SHAPE = 6


@dataclass(frozen=True)
class Combination:
    """What a prompt asks for, and what the scorer looks for."""

    shape: str
    colour: str
    background: str


def combinations() -> list[Combination]:
    return [
        Combination(shape, colour, background)
        for shape in SHAPES
        for colour in PALETTE
        for background in PALETTE
        if colour != background
    ]


def held_out() -> list[Combination]:
    """The combinations no training picture shows, the same ones for every seed.

    Each shape misses six pairs of colours, so that every word is still seen often.
    """
    rng = random.Random("held out")
    chosen = []
    for shape in SHAPES:
        of_shape = [c for c in combinations() if c.shape == shape]
        chosen += rng.sample(of_shape, HELD_OUT_PER_SHAPE)
    return chosen


@cache
def trained() -> list[Combination]:
    missing = set(held_out())
    return [c for c in combinations() if c not in missing]


def outline(shape: str, radius: float) -> list[tuple[float, float]]:
    """Corners of a polygonal figure whose centroid is the origin; y points down."""

    def ring(corners: int, radii: tuple[float, ...], turn: float):
        angles = (turn + 2 * math.pi * k / corners for k in range(corners))
        return [
            (radii[k % len(radii)] * math.cos(a), radii[k % len(radii)] * math.sin(a))
            for k, a in enumerate(angles)
        ]

    up = -math.pi / 2
    if shape == "square":
        return ring(4, (radius * 1.15,), math.pi / 4)
    if shape == "triangle":
        return ring(3, (radius * 1.15,), up)
    if shape == "star":
        return ring(10, (radius * 1.15, radius * 1.15 * STAR_WAIST), up)
    raise ValueError(f"{shape} has no corners")


def paint(wanted: Combination, rng: random.Random) -> np.ndarray:
    """One picture, `[64, 64, 3]` bytes, with a little play in place, size and colour."""

    def shade(name: str):
        return tuple(min(255, max(0, v + rng.randint(-6, 6))) for v in PALETTE[name])

    scale = SUPERSAMPLING
    canvas = Image.new("RGB", (SIZE * scale, SIZE * scale), shade(wanted.background))
    x, y = (scale * (SIZE / 2 + rng.uniform(-2.5, 2.5)) for _ in range(2))
    radius = scale * rng.uniform(18, 23)
    draw = ImageDraw.Draw(canvas)
    if wanted.shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), shade(wanted.colour))
    else:
        corners = [(x + dx, y + dy) for dx, dy in outline(wanted.shape, radius)]
        draw.polygon(corners, shade(wanted.colour))
    return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX))


def describe(wanted: Combination, template: str) -> str:
    text = template.format(shape=wanted.shape, colour=wanted.colour, background=wanted.background)
    return text.replace("a orange", "an orange")


def sample(rng: random.Random) -> tuple[np.ndarray, str]:
    """A training picture and its prompt, never of a held-out combination."""
    wanted = rng.choice(trained())
    templates = PARTIAL_TEMPLATES if rng.random() < PARTIAL_SHARE else TEMPLATES
    return paint(wanted, rng), describe(wanted, rng.choice(templates))
