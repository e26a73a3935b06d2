"""Trains the autoencoder that turns pictures into analytic latents and back.

Encoder and decoder never see each other's output, so their losses just add up. The
decoder gets slightly noisy latents, as a diffusion model's are.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from .datasets import DATASETS, bank
from .latents import analytic
from .networks import new_vae
from .training import Average, Schedule, steps

BATCH = 16
PICTURES = 3000  # of each data set
LOG_VARIANCE = -8.0  # the encoder is all but certain
NOISE = 0.03


def train(folder: Path, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    pictures = torch.cat([bank(name, PICTURES, seed + 1)[0] for name in DATASETS])
    targets = analytic(pictures)
    vae = new_vae().to(memory_format=torch.channels_last)
    schedule = Schedule(vae.parameters(), 3e-3, count)
    average = Average(vae)
    for step in steps("vae", count):
        chosen = torch.randint(len(pictures), (BATCH,))
        picture, latent = pictures[chosen], targets[chosen]
        drawn = vae.decode(latent + NOISE * torch.randn_like(latent)).sample
        loss = F.l1_loss(drawn, picture) + F.mse_loss(drawn, picture)
        # The encoder's task is far easier: a quarter of the pictures is plenty.
        moments = vae.quant_conv(vae.encoder(picture[: BATCH // 4]))
        mean, log_variance = moments.chunk(2, 1)
        loss = loss + F.mse_loss(mean, latent[: BATCH // 4])
        loss = loss + 0.01 * F.mse_loss(log_variance, torch.full_like(mean, LOG_VARIANCE))
        schedule.descend(loss)
        average.update(vae)
        step.report(loss)
        if step.is_checkpoint:
            average.of(new_vae()).save_pretrained(folder)


def load(folder: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(folder).eval()
