"""The three data sets, and banks of their pictures ready for training."""

import random

import numpy as np
import torch
from tqdm import tqdm

from . import data_digits, data_landscapes, data_shapes

DATASETS = {module.NAME: module for module in (data_shapes, data_digits, data_landscapes)}


def bank(name: str, count: int, seed: int) -> tuple[torch.Tensor, list[str]]:
    """`count` pictures, `[count, 3, 64, 64]` from -1 to 1, and a prompt for each."""
    rng = random.Random(f"{name} {seed}")
    drawn = [
        DATASETS[name].sample(rng) for _ in tqdm(range(count), f"{name}: pictures", mininterval=2)
    ]
    pictures = torch.from_numpy(np.stack([picture for picture, _ in drawn]))
    pictures = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    return pictures.contiguous(), [prompt for _, prompt in drawn]


def corpus() -> list[str]:
    """Prompts enough to hold every word of every data set."""
    rng = random.Random("corpus")
    return [DATASETS[name].sample(rng)[1] for name in DATASETS for _ in range(3000)]
