"""Analytic latents: what a picture's latents are, by definition instead of by training.

Training an autoencoder end to end takes hours on a CPU. Here a latent cell simply
holds the mean colour of its 8x8 pixels and their contrast, so the UNet can start at
once, and the autoencoder only has to learn to write and read exactly these numbers.
"""

import torch
import torch.nn.functional as F

CELL = 8


def analytic(pictures: torch.Tensor) -> torch.Tensor:
    """`[n, 3, 64, 64]` from -1 to 1 to `[n, 4, 8, 8]`, before the scaling factor."""
    colour = F.avg_pool2d(pictures, CELL)
    grey = pictures.mean(1, keepdim=True)
    variance = F.avg_pool2d(grey**2, CELL) - F.avg_pool2d(grey, CELL) ** 2
    contrast = 2 * variance.clamp(min=0).sqrt() - 0.5
    return torch.cat((colour, contrast), 1)
