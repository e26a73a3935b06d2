"""Landscapes: a sky that tells the hour, a sun or moon, and one kind of ground.

Everything is broad and soft, because a latent cell covers 8x8 pixels.
"""

import math
import random
from dataclasses import dataclass

import numpy as np

NAME = "landscapes"
PREDICTION = "v_prediction"
NOISY_SHARE = 0.5  # only in much noise must the prompt say where the sun is
SIZE = 64
HORIZON = 40


@dataclass(frozen=True)
class Hour:
    top: tuple[int, int, int]
    horizon: tuple[int, int, int]
    light: tuple[int, int, int]  # of the disc
    tint: tuple[float, float, float]  # what the light does to the ground
    height: float  # y of the disc's centre


HOURS = {
    "dawn": Hour((122, 132, 200), (255, 208, 190), (255, 244, 214), (1.0, 0.86, 0.88), 27),
    "noon": Hour((48, 128, 222), (186, 224, 246), (255, 252, 214), (1.0, 1.0, 1.0), 14),
    "sunset": Hour((92, 40, 112), (255, 142, 54), (255, 226, 120), (0.92, 0.62, 0.52), 29),
    "night": Hour((8, 12, 42), (44, 56, 108), (238, 238, 224), (0.28, 0.34, 0.55), 15),
}

# Colour at the horizon and from 16 pixels below it, under the light of noon.
GROUNDS = {
    "sea": ((52, 126, 172), (16, 64, 120)),
    "hills": ((112, 176, 84), (42, 108, 44)),
    "desert": ((240, 200, 124), (208, 150, 74)),
    "snow": ((248, 250, 255), (206, 220, 242)),
}
PLACES = {"left": 14, "centre": 32, "right": 50}

HOUR_TEMPLATES = {
    "dawn": (
        "dawn over {ground}",
        "a dawn over {ground}",
        "sunrise over {ground}",
        "{ground} at dawn",
        "the sun over {ground} at dawn",
    ),
    "noon": (
        "noon over {ground}",
        "a noon sun over {ground}",
        "midday over {ground}",
        "{ground} at noon",
        "the sun over {ground} at noon",
    ),
    "sunset": (
        "sunset over {ground}",
        "a sunset over {ground}",
        "dusk over {ground}",
        "{ground} at sunset",
        "the sun over {ground} at sunset",
    ),
    "night": (
        "night over {ground}",
        "a full moon over {ground}",
        "the moon over {ground}",
        "{ground} at night",
        "a full moon over {ground} at night",
    ),
}
GROUND_NAMES = {
    "sea": ("the sea", "the ocean", "a calm sea"),
    "hills": ("green hills", "the hills", "a green valley"),
    "desert": ("the desert", "a desert", "sand dunes"),
    "snow": ("the snow", "a snowy field", "snowy hills"),
}
PLACE_NAMES = {
    "left": ("on the left", "to the left"),
    "centre": ("in the centre", "in the middle", "in the center"),
    "right": ("on the right", "to the right"),
}
UNPLACED_SHARE = 0.15  # prompts that leave the disc's place open


@dataclass(frozen=True)
class Scene:
    """What a prompt asks for, and what the scorer looks for."""

    hour: str
    ground: str
    place: str


def scenes() -> list[Scene]:
    return [Scene(hour, ground, place) for hour in HOURS for ground in GROUNDS for place in PLACES]


def ground_colours(hour: str, ground: str) -> tuple[np.ndarray, np.ndarray]:
    tint = np.array(HOURS[hour].tint)
    far, near = GROUNDS[ground]
    return np.array(far) * tint, np.array(near) * tint


def paint(scene: Scene, rng: random.Random) -> np.ndarray:
    """One picture, `[64, 64, 3]` bytes."""
    hour = HOURS[scene.hour]
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    sun_x = PLACES[scene.place] + rng.uniform(-2, 2)
    sun_y = hour.height + rng.uniform(-1.5, 1.5)
    horizon = HORIZON + rng.uniform(-1.5, 1.5)

    picture = _mix(np.array(hour.top, float), np.array(hour.horizon, float), y / horizon)
    distance = np.hypot(x - sun_x, y - sun_y)
    light = np.array(hour.light, float)
    glow = 0.45 * np.exp(-((distance / 13) ** 2))
    picture = _mix(picture, light, np.maximum(glow, _edge(7.5 - distance)))

    far, near = ground_colours(scene.hour, scene.ground)
    skyline = horizon + _relief(scene.ground, x, rng)
    land = _mix(far, near, (y - skyline) / 16)
    if scene.ground == "sea":
        path = 0.5 * np.exp(-(((x - sun_x) / (4 + 0.12 * (y - horizon))) ** 2))
        land = _mix(land, light, path * np.clip(1 - (y - horizon) / 18, 0, 1))
    picture = _mix(picture, land, _edge(y - skyline))
    return picture.round().clip(0, 255).astype(np.uint8)


def _mix(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)[..., None]
    return a * (1 - share) + b * share


def _edge(depth: np.ndarray) -> np.ndarray:
    """Coverage of a pixel that lies `depth` inside an edge."""
    return np.clip(depth + 0.5, 0, 1)


def _relief(ground: str, x: np.ndarray, rng: random.Random) -> np.ndarray:
    """How far the skyline departs from the horizon, in pixels."""
    height, waves = {"sea": (0, 1), "hills": (3.5, 1.6), "desert": (2.5, 1.0), "snow": (1.5, 0.8)}[
        ground
    ]
    return height * np.sin(2 * math.pi * (waves * x / SIZE + rng.random()))


def describe(scene: Scene, rng: random.Random, placed: bool) -> str:
    ground = rng.choice(GROUND_NAMES[scene.ground])
    text = rng.choice(HOUR_TEMPLATES[scene.hour]).format(ground=ground)
    if not placed:
        return text
    body = "moon" if scene.hour == "night" else "sun"
    place = rng.choice(PLACE_NAMES[scene.place])
    return text + rng.choice((f", {body} {place}", f", {place}"))


def sample(rng: random.Random) -> tuple[np.ndarray, str]:
    scene = rng.choice(scenes())
    placed = rng.random() >= UNPLACED_SHARE
    return paint(scene, rng), describe(scene, rng, placed)
