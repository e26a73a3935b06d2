"""Reference numbers from Python, for the Rust engine to agree with.

Everything is computed in single precision from the exported half-precision weights.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from .pipeline import GUIDANCE, STEPS, load
from .tokenizer import encode

PROMPTS = {"shapes": "a red circle on a blue background", "digits": "a handwritten seven"}
TIMESTEP = 501


@torch.no_grad()
def write(name: str, folder: Path, target: Path) -> None:
    pipe, prompt = load(folder), PROMPTS[name]
    tokens, empty_tokens = encode(pipe.tokenizer, [prompt]), encode(pipe.tokenizer, [""])
    words = pipe.text_encoder(tokens).last_hidden_state
    empty_words = pipe.text_encoder(empty_tokens).last_hidden_state
    initial = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    unet_output = pipe.unet(initial, TIMESTEP, words).sample

    latent = initial
    pipe.scheduler.set_timesteps(STEPS)
    for time in pipe.scheduler.timesteps:
        free = pipe.unet(latent, time, empty_words).sample
        guided = free + GUIDANCE * (pipe.unet(latent, time, words).sample - free)
        latent = pipe.scheduler.step(guided, time, latent).prev_sample
    picture = pipe.vae.decode(latent / pipe.vae.config.scaling_factor).sample

    tensors = {
        "tokens": tokens,
        "empty_tokens": empty_tokens,
        "text": words,
        "empty_text": empty_words,
        "initial_latent": initial,
        "unet_output": unet_output,
        "final_latent": latent,
        "picture": picture,
    }
    facts = {
        "model": name,
        "prompt": prompt,
        "timestep": str(TIMESTEP),
        "scheduler": "ddim",
        "steps": str(STEPS),
        "guidance": str(GUIDANCE),
        "timesteps": json.dumps(pipe.scheduler.timesteps.tolist()),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, target, facts)
    target.chmod(0o644)
