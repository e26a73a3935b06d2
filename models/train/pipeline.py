"""Loads an exported folder into Hugging Face's own pipeline and draws with it."""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

GUIDANCE = 2.5
STEPS = 20
BATCH = 16


def load(folder: Path) -> StableDiffusionPipeline:
    """The pipeline in single precision: half precision is slow, or missing, on CPUs."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, dtype=torch.float32)
    assert isinstance(pipe.scheduler, DDIMScheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(
    pipe: StableDiffusionPipeline, prompts: list[str], seeds: list[int], steps: int = STEPS
) -> np.ndarray:
    """Pictures `[n, 64, 64, 3]` in bytes; a picture depends on its own seed only."""
    batches = []
    for start in range(0, len(prompts), BATCH):
        noises = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + BATCH]]
        batches.append(
            pipe(
                prompts[start : start + BATCH],
                height=64,
                width=64,
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
                generator=noises,
                output_type="np",
            ).images
        )
    return (np.concatenate(batches) * 255).round().astype(np.uint8)
