"""Weights that both Python and Rust can compute, so that no file has to store them.

The number at `index` of a tensor is that of SplitMix64 (Steele et al., 2014) at the state
`fnv1a(name) + (index + 1) * 2^64/phi`. See worker/diffusion/tests/support/keyed.rs.
"""

import math
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

GOLDEN = 0x9E3779B97F4A7C15
SPREAD = 0.2  # of biases, and of the weights of norms around 1


def fill(folder: Path) -> None:
    """Fills all tensors of a pipeline's folder."""
    for file in folder.rglob("*.safetensors"):
        component = file.parent.name
        tensors = {name: tensor(f"{component}/{name}", of) for name, of in shapes(file).items()}
        save_file(tensors, file, {"format": "pt"})


def shapes(file: Path) -> dict[str, list[int]]:
    """The shapes of a file's tensors, by name."""
    with safe_open(file, "pt") as stored:
        return {name: stored.get_slice(name).get_shape() for name in sorted(stored.keys())}


def tensor(key: str, shape: list[int]) -> torch.Tensor:
    """Uniform numbers: a matrix keeps the variance of its input, a norm nearly its scale."""
    numbers = uniform(key, math.prod(shape))
    if len(shape) > 1:
        numbers = numbers * math.sqrt(3 / math.prod(shape[1:]))
    else:
        numbers = numbers * SPREAD + (1 if key.endswith("weight") else 0)
    return torch.from_numpy(numbers.astype(np.float32)).view(shape)


def uniform(key: str, count: int) -> np.ndarray:
    """Multiples of 2^-23 from -1 to 1, in double precision."""
    index = np.arange(1, count + 1, dtype=np.uint64)
    state = np.uint64(_fnv1a(key)) + index * np.uint64(GOLDEN)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def _fnv1a(text: str) -> int:
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state
