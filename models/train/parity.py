"""Reference numbers from Python, for the Rust engine to agree with.

Everything is computed in single precision from the exported half-precision weights.
"""

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionImg2ImgPipeline
from safetensors.torch import save_file

from .pipeline import GUIDANCE, STEPS, load
from .tokenizer import encode

PROMPTS = {"shapes": "a red circle on a blue background", "digits": "a handwritten seven"}
TIMESTEP = 501
STRENGTH = 0.6
ENCODING_SEED = 7


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

    # Drawn from that picture again, by the pipeline itself.
    torch.manual_seed(_encoding_seed(ENCODING_SEED))
    encoded = pipe.vae.encode(picture.clamp(-1, 1)).latent_dist.sample()
    encoded = encoded * pipe.vae.config.scaling_factor
    noise = torch.randn(encoded.shape, generator=torch.Generator().manual_seed(11))
    redraw = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    redraw.set_progress_bar_config(disable=True)
    redrawn = redraw(
        prompt,
        image=encoded,  # latents are taken as they are
        strength=STRENGTH,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(11),
        output_type="latent",
    ).images

    tensors = {
        "tokens": tokens,
        "empty_tokens": empty_tokens,
        "text": words,
        "empty_text": empty_words,
        "initial_latent": initial,
        "unet_output": unet_output,
        "final_latent": latent,
        "picture": picture,
        "encoded": encoded,
        "redraw_noise": noise,
        "redrawn_latent": redrawn,
    }
    facts = {
        "model": name,
        "prompt": prompt,
        "timestep": str(TIMESTEP),
        "scheduler": "ddim",
        "steps": str(STEPS),
        "guidance": str(GUIDANCE),
        "strength": str(STRENGTH),
        "encoding_seed": str(ENCODING_SEED),
        "timesteps": json.dumps(pipe.scheduler.timesteps.tolist()),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, target, facts)
    target.chmod(0o644)


def _encoding_seed(seed: int) -> int:
    """The engine's seed of torch where a picture is encoded: see worker/diffusion/src/noise.rs."""
    return (seed * 0x9E3779B97F4A7C15 + 0xFFFFFFFF) % 2**64
