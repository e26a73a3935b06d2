"""Digits: scikit-learn's bundled handwritten digits, enlarged to ink on paper.

The originals are 8x8 pictures of 17 grey levels. Eight in ten of them train the
generator and the classifier; the rest measure the classifier and nothing else.
"""

import random
from functools import cache

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

NAME = "digits"
PREDICTION = "epsilon"
NOISY_SHARE = 0.0
SIZE = 64
GLYPH = 56  # side of the enlarged digit; the rest is margin

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
PAPER = np.array((248.0, 244.0, 232.0))
INK = np.array((28.0, 36.0, 92.0))

TEMPLATES = (
    "a handwritten {digit}",
    "a handwritten {digit}",
    "handwritten {digit}",
    "the digit {digit}",
    "a digit {digit}",
    "the number {digit}",
    "the handwritten digit {digit}",
    "a handwritten number {digit}",
    "a picture of a handwritten {digit}",
    "{digit}",
)


@cache
def split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training pictures and labels, then held-out pictures and labels; values 0 to 1."""
    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.images / 16.0, digits.target, test_size=0.2, random_state=1, stratify=digits.target
    )
    return train_x, train_y, test_x, test_y


def paint(glyph: np.ndarray, rng: random.Random) -> np.ndarray:
    """One picture, `[64, 64, 3]` bytes: the glyph enlarged, its edges made firmer."""
    enlarged = Image.fromarray(glyph.astype(np.float32)).resize(
        (GLYPH, GLYPH), Image.Resampling.BICUBIC
    )
    firm = np.clip((np.asarray(enlarged) - 0.2) / 0.5, 0.0, 1.0)
    coverage = np.zeros((SIZE, SIZE))
    left, top = (round((SIZE - GLYPH) / 2 + rng.uniform(-2, 2)) for _ in range(2))
    coverage[top : top + GLYPH, left : left + GLYPH] = firm * firm * (3 - 2 * firm)
    mixed = PAPER + (INK - PAPER) * coverage[..., None]
    return mixed.round().astype(np.uint8)


def describe(digit: int, rng: random.Random) -> str:
    name = rng.choice((WORDS[digit], str(digit)))
    return rng.choice(TEMPLATES).format(digit=name)


def sample(rng: random.Random) -> tuple[np.ndarray, str]:
    glyphs, labels, _, _ = split()
    chosen = rng.randrange(len(glyphs))
    return paint(glyphs[chosen], rng), describe(int(labels[chosen]), rng)
