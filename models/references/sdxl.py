"""References of Stable Diffusion XL."""

from pathlib import Path

import torch
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from . import keyed, lora
from .inpainting import of_sdxl
from .shared import (
    CELL,
    ENCODING_SEED,
    HEIGHT,
    PROMPT,
    STEPS,
    STRENGTH,
    WIDTH,
    WIDTH_OF_TEXT,
    clip_tokenizer,
    encoded,
    generator,
    quiet,
    vae,
)

GUIDANCE = 5.0
TIMESTEP = 601


@torch.no_grad()
def sdxl(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Stable Diffusion XL: its second text encoder has a projection and pads with another token."""
    words = clip_tokenizer()
    padded = clip_tokenizer()
    padded.pad_token = "!"
    StableDiffusionXLPipeline(
        vae=vae(4, scaling_factor=0.13025),
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
    pipe = quiet(StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False))
    noise = torch.randn(1, 4, HEIGHT // CELL, WIDTH // CELL, generator=generator(7))
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
    latents = encoded(pipe.vae, start)
    redraw_noise = torch.randn(noise.shape, generator=generator(11))
    redraw = quiet(StableDiffusionXLImg2ImgPipeline(**pipe.components, add_watermarker=False))
    redrawn = redraw(
        PROMPT, image=latents, strength=STRENGTH, generator=generator(11), **options
    ).images
    inpainted = of_sdxl(pipe.components)
    loras = lora.of_sdxl(pipe, folder.parent, noise, {**size, **options})
    return {
        "noise": noise,
        "states": states,
        "pooled": pooled,
        "prediction": prediction,
        "latents": zeros,
        "latents_negative": guided,
        "latents_unguided": turbo,
        "picture": picture,
        "encoded": latents,
        "redraw_noise": redraw_noise,
        "redrawn": redrawn,
        **inpainted,
        **loras,
    }, {
        "prompt": PROMPT,
        "negative_prompt": "green",
        "steps": STEPS,
        "guidance": GUIDANCE,
        "strength": STRENGTH,
        "timestep": TIMESTEP,
        "encoding_seed": ENCODING_SEED,
        "lora_scale": lora.SCALE,
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
