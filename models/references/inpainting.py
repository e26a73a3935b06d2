"""References of inpainting: with a UNet for it, and with any other."""

from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel

from . import keyed
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


@torch.no_grad()
def inpainting(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Stable Diffusion with a UNet that also gets the mask and the masked picture."""
    words = clip_tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH_OF_TEXT,
        intermediate_size=2 * WIDTH_OF_TEXT,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    StableDiffusionInpaintPipeline(
        vae=vae(4, scaling_factor=0.18215),
        text_encoder=CLIPTextModel(text),
        tokenizer=words,
        unet=UNet2DConditionModel(
            sample_size=8,
            in_channels=9,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            attention_head_dim=4,
            cross_attention_dim=WIDTH_OF_TEXT,
        ),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    keyed.fill(folder)
    pipe = quiet(StableDiffusionInpaintPipeline.from_pretrained(folder))
    return _references(pipe), {
        "prompt": PROMPT,
        "steps": STEPS,
        "guidance": GUIDANCE,
        "strength": STRENGTH,
        "encoding_seed": ENCODING_SEED,
    }


def of_sdxl(components: dict) -> dict[str, torch.Tensor]:
    """The same with the UNet of Stable Diffusion XL, which gets neither."""
    pipe = quiet(StableDiffusionXLInpaintPipeline(**components, add_watermarker=False))
    return {f"inpainting_{name}": tensor for name, tensor in _references(pipe).items()}


def _references(pipe) -> dict[str, torch.Tensor]:
    picture = keyed.tensor("picture", [1, 3, HEIGHT, WIDTH]).clamp(-1, 1)
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[:, :, HEIGHT // 4 : HEIGHT // 2, WIDTH // 3 :] = 1
    latents, masked = (encoded(pipe.vae, part) for part in (picture, picture * (mask < 0.5)))
    options = {
        "image": latents,
        "masked_image_latents": masked,
        "mask_image": mask,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "height": HEIGHT,
        "width": WIDTH,
        "output_type": "latent",
    }
    noise = torch.randn(latents.shape, generator=generator(11))
    return {
        "mask": torch.nn.functional.interpolate(mask, (HEIGHT // CELL, WIDTH // CELL)),
        "masked": masked,
        "encoded": latents,
        "noise": noise,
        "filled": pipe(PROMPT, strength=1.0, generator=generator(11), **options).images,
        "varied": pipe(PROMPT, strength=STRENGTH, generator=generator(11), **options).images,
    }
