"""What the tiny pipelines of the references have in common."""

import json
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from ..train import tokenizer
from . import keyed

PROMPT = "a red circle on a blue background, naïve style ☂"
WORDS = [
    "a red circle on a blue background",
    "a green star on a white background, naïve style",
    "two yellow squares beside a black triangle",
    "the picture of a large orange cross",
]
LONG_PROMPT = ", ".join(WORDS * 20)
STEPS = 4
STRENGTH = 0.6
HEIGHT, WIDTH = 64, 80  # pixels
CELL = 8  # pixels along a side of a latent cell
ENCODING_SEED = 7
WIDTH_OF_TEXT = 32


def clip_tokenizer() -> CLIPTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.train(WORDS, Path(folder))
        files = [Path(folder, name) for name in ("vocab.json", "merges.txt")]
        vocabulary = json.loads(files[0].read_text())
        merges = [tuple(line.split()) for line in files[1].read_text().splitlines()[1:]]
    return CLIPTokenizer(vocabulary, merges, model_max_length=77)


def vae(channels: int, **options: object) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=2,
        sample_size=64,
        **options,
    )


def tokens(words, prompt: str, length: int) -> torch.Tensor:
    options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    return words([prompt], max_length=length, **options).input_ids


def encoded(autoencoder: AutoencoderKL, picture: torch.Tensor) -> torch.Tensor:
    """Latents of a picture, drawn with the engine's seed: see worker/diffusion/src/noise.rs."""
    torch.manual_seed((ENCODING_SEED * keyed.GOLDEN + 0xFFFFFFFF) % 2**64)
    latents = autoencoder.encode(picture).latent_dist.sample()
    config = autoencoder.config
    return (latents - (config.shift_factor or 0)) * config.scaling_factor


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe
