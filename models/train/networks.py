"""The three networks of a tiny model, all plain Stable Diffusion 1.5 in miniature.

The sizes answer two constraints. A model's folder, in half precision, must stay below
6 MB, and the Rust `diffusers` crate fixes 32 groups in the UNet's residual blocks, so
that every UNet width is a multiple of 32. Nothing here departs from the architecture
that `StableDiffusionPipeline` expects.
"""

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

CONTEXT = 16  # tokens in a prompt, start and end included
TEXT_WIDTH = 64
SCALING_FACTOR = 1.4  # brings the analytic latents to about unit variance


def new_text_encoder(vocab_size: int) -> CLIPTextModel:
    """A CLIP text transformer of two layers, trained together with its UNet."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            projection_dim=TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            hidden_act="quick_gelu",
            bos_token_id=vocab_size - 2,
            eos_token_id=vocab_size - 1,
            pad_token_id=vocab_size - 1,
        )
    )


def new_unet() -> UNet2DConditionModel:
    """Two resolutions, 8x8 and 4x4; the prompt is attended to at 4x4 only.

    `attention_head_dim` is the *number* of heads: the name is Hugging Face's, and so
    is the mistake in it.
    """
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=32,
        use_linear_projection=False,
    )


def new_vae() -> AutoencoderKL:
    """Eightfold reduction to four channels, as in Stable Diffusion, with thin layers."""
    return AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=64,
        scaling_factor=SCALING_FACTOR,
    )
