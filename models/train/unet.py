"""Trains a UNet and its text encoder together on analytic latents."""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from transformers import CLIPTokenizer

from .datasets import DATASETS, bank
from .latents import analytic
from .networks import SCALING_FACTOR, new_text_encoder, new_unet
from .tokenizer import encode
from .training import Average, Schedule, steps

BATCH = 48
UNPROMPTED_SHARE = 0.1  # what classifier-free guidance learns from
PICTURES = 12_000
TIMES = 1000


def new_scheduler(name: str) -> DDIMScheduler:
    """Stable Diffusion's noise schedule; these settings make Rust and Python agree."""
    return DDIMScheduler(
        num_train_timesteps=TIMES,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=DATASETS[name].PREDICTION,
    )


def train(name: str, tokenizer_folder: Path, folder: Path, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    dataset = DATASETS[name]
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    pictures, prompts = bank(name, PICTURES, seed)
    latents = analytic(pictures) * SCALING_FACTOR
    tokens, unprompted = encode(tokenizer, prompts), encode(tokenizer, [""])
    scheduler = new_scheduler(name)
    unet, text_encoder = new_unet(), new_text_encoder(len(tokenizer))
    networks = torch.nn.ModuleList((unet, text_encoder))
    schedule = Schedule(networks.parameters(), 1.2e-3, count)
    average = Average(networks)

    for step in steps(name, count):
        chosen = torch.randint(len(latents), (BATCH,))
        clean, noise = latents[chosen], torch.randn(BATCH, 4, 8, 8)
        times = _times(dataset.NOISY_SHARE)
        if scheduler.config.prediction_type == "epsilon":
            target = noise
        else:
            target = scheduler.get_velocity(clean, noise, times)
        silent = torch.rand(BATCH, 1) < UNPROMPTED_SHARE
        words = text_encoder(torch.where(silent, unprompted, tokens[chosen])).last_hidden_state
        predicted = unet(scheduler.add_noise(clean, noise, times), times, words).sample
        loss = F.mse_loss(predicted, target)
        schedule.descend(loss)
        average.update(networks)
        step.report(loss)
        if step.is_checkpoint:
            fresh = torch.nn.ModuleList((new_unet(), new_text_encoder(len(tokenizer))))
            averaged_unet, averaged_text_encoder = average.of(fresh)
            averaged_unet.save_pretrained(folder / "unet")
            averaged_text_encoder.save_pretrained(folder / "text_encoder")


def _times(noisy_share: float) -> torch.Tensor:
    """Random times, a share of them from the last third, where layout is decided."""
    anywhere = torch.randint(TIMES, (BATCH,))
    noisy = torch.randint(TIMES * 2 // 3, TIMES, (BATCH,))
    return torch.where(torch.rand(BATCH) < noisy_share, noisy, anywhere)
