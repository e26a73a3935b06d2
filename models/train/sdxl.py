"""References of Stable Diffusion XL, and of inpainting with it and with Stable Diffusion 1.5."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from . import keyed
from .families import (
    CELL,
    ENCODING_SEED,
    HEIGHT,
    PROMPT,
    STEPS,
    STRENGTH,
    WIDTH,
    WIDTH_OF_TEXT,
    _clip_tokenizer,
    _generator,
    _quiet,
)

GUIDANCE = 5.0
TIMESTEP = 601


@torch.no_grad()
def sdxl(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Stable Diffusion XL: its second text encoder has a projection and pads with another token."""
    words = _clip_tokenizer()
    padded = _clip_tokenizer()
    padded.pad_token = "!"
    StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_text_config(words, "quick_gelu")),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(padded, "gelu")),
        tokenizer=words,
        tokenizer_2=padded,
        unet=_unet(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    ).save_pretrained(folder)
    keyed.fill(folder)
    pipe = _quiet(StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False))
    noise = torch.randn(1, 4, HEIGHT // CELL, WIDTH // CELL, generator=_generator(7))
    states, negative, pooled, _ = pipe.encode_prompt(PROMPT, PROMPT)
    times = pipe._get_add_time_ids(
        (HEIGHT, WIDTH), (0, 0), (HEIGHT, WIDTH), torch.float32, pipe.text_encoder_2.config.projection_dim
    )
    prediction = pipe.unet(
        noise, TIMESTEP, states, added_cond_kwargs={"text_embeds": pooled, "time_ids": times}
    ).sample
    options = {
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "output_type": "latent",
    }
    size = {"height": HEIGHT, "width": WIDTH}
    zeros = pipe(PROMPT, latents=noise, **size, **options).images
    guided = pipe(PROMPT, negative_prompt="green", latents=noise, **size, **options).images
    turbo = pipe(PROMPT, latents=noise, **size, **{**options, "guidance_scale": 0.0}).images
    picture = pipe.vae.decode(zeros / pipe.vae.config.scaling_factor).sample

    start = keyed.tensor("picture", [1, 3, HEIGHT, WIDTH]).clamp(-1, 1)
    encoded = _encoded(pipe.vae, start)
    redraw_noise = torch.randn(noise.shape, generator=_generator(11))
    redraw = _quiet(StableDiffusionXLImg2ImgPipeline(**pipe.components, add_watermarker=False))
    redrawn = redraw(
        PROMPT, image=encoded, strength=STRENGTH, generator=_generator(11), **options
    ).images
    return {
        "noise": noise,
        "states": states,
        "pooled": pooled,
        "prediction": prediction,
        "latents": zeros,
        "latents_negative": guided,
        "latents_unguided": turbo,
        "picture": picture,
        "encoded": encoded,
        "redraw_noise": redraw_noise,
        "redrawn": redrawn,
    }, {
        "prompt": PROMPT,
        "negative_prompt": "green",
        "steps": STEPS,
        "guidance": GUIDANCE,
        "strength": STRENGTH,
        "timestep": TIMESTEP,
        "encoding_seed": ENCODING_SEED,
    }


def _text_config(words: CLIPTokenizer, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH_OF_TEXT,
        intermediate_size=2 * WIDTH_OF_TEXT,
        projection_dim=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        hidden_act=activation,
        # As OpenAI's configs: the summary is then the state of the largest token id.
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )


def _unet(channels: int = 4) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=[1, 2, 3],
        attention_head_dim=[2, 4, 8],
        cross_attention_dim=2 * WIDTH_OF_TEXT,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=64,
        scaling_factor=0.13025,
    )


def _encoded(vae: AutoencoderKL, picture: torch.Tensor) -> torch.Tensor:
    """Latents of a picture, drawn with the engine's seed: see worker/diffusion/src/noise.rs."""
    torch.manual_seed((ENCODING_SEED * keyed.GOLDEN + 0xFFFFFFFF) % 2**64)
    return vae.encode(picture).latent_dist.sample() * vae.config.scaling_factor
