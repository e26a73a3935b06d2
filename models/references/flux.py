"""References of FLUX.1."""

import json
import math
from collections import Counter
from pathlib import Path

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from . import flux_layout, keyed, lora
from .shared import (
    CELL,
    ENCODING_SEED,
    HEIGHT,
    LONG_PROMPT,
    PROMPT,
    STEPS,
    STRENGTH,
    WIDTH,
    WIDTH_OF_TEXT,
    WORDS,
    clip_tokenizer,
    encoded,
    generator,
    quiet,
    tokens,
    vae,
)

UNIGRAMS = 77


@torch.no_grad()
def flux(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """FLUX.1: dev has an input for the guidance, schnell does not."""
    clip, t5 = clip_tokenizer(), _t5_tokenizer()
    shape = {
        "num_layers": 2,
        "num_single_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "axes_dims_rope": (4, 6, 6),
        "joint_attention_dim": WIDTH_OF_TEXT,
        "pooled_projection_dim": WIDTH_OF_TEXT,
    }
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae(
            16,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=0.3611, shift_factor=0.1159,
        ),
        text_encoder=_clip(clip),
        tokenizer=clip,
        text_encoder_2=_t5(t5),
        tokenizer_2=t5,
        transformer=FluxTransformer2DModel(**shape, guidance_embeds=True),
    ).save_pretrained(folder)
    keyed.fill(folder)
    dev = quiet(FluxPipeline.from_pretrained(folder))
    references, guidance, timestep = {}, 3.5, 0.6
    noise = torch.randn(1, 16, HEIGHT // CELL, WIDTH // CELL, generator=generator(7))
    references["noise"] = noise

    def packed(latents: torch.Tensor) -> torch.Tensor:
        return dev._pack_latents(latents, *latents.shape)

    def unpacked(latents: torch.Tensor) -> torch.Tensor:
        return dev._unpack_latents(latents, HEIGHT, WIDTH, CELL)

    def run(name: str, pipe: FluxPipeline, context: int, guidance: float) -> None:
        """One call of the transformer, and the latents of a whole picture."""
        states, pooled, text_ids = pipe.encode_prompt(PROMPT, max_sequence_length=context)
        image_ids = pipe._prepare_latent_image_ids(
            1, noise.shape[2] // 2, noise.shape[3] // 2, "cpu", torch.float32
        )
        prediction = pipe.transformer(
            packed(noise),
            encoder_hidden_states=states,
            pooled_projections=pooled,
            timestep=torch.tensor([timestep]),
            img_ids=image_ids,
            txt_ids=text_ids,
            guidance=torch.tensor([guidance]) if pipe.transformer.config.guidance_embeds else None,
        ).sample
        references[f"{name}_t5_states"] = states
        references[f"{name}_prediction"] = unpacked(prediction)
        options = {
            "num_inference_steps": STEPS,
            "guidance_scale": guidance,
            "max_sequence_length": context,
            "output_type": "latent",
        }
        size = {"height": HEIGHT, "width": WIDTH}
        final = pipe(PROMPT, latents=packed(noise), **size, **options).images
        references[f"{name}_latents"] = unpacked(final)
        # Latents to start from are taken as they are.
        redraw = quiet(FluxImg2ImgPipeline(**pipe.components))
        redrawn = redraw(
            PROMPT,
            image=references["encoded"],
            strength=STRENGTH,
            generator=generator(11),
            **size,
            **options,
        ).images
        references[f"{name}_redrawn"] = unpacked(redrawn)
        inpaint = quiet(FluxInpaintPipeline(**pipe.components))
        for task, strength in {"filled": 1.0, "varied": STRENGTH}.items():
            inpainted = inpaint(
                PROMPT,
                image=references["encoded"],
                mask_image=mask,
                masked_image_latents=references["encoded"],  # has no effect
                strength=strength,
                generator=generator(11),
                **size,
                **options,
            ).images
            references[f"{name}_{task}"] = unpacked(inpainted)

    for name, prompt in {"prompt": PROMPT, "long": LONG_PROMPT}.items():
        for count, model in {"clip": dev.tokenizer, "t5": dev.tokenizer_2}.items():
            length = 512 if count == "t5" else 77
            references[f"{name}_{count}_tokens"] = tokens(model, prompt, length)
    references["pooled"] = dev.encode_prompt(PROMPT)[1]
    picture = keyed.tensor("picture", [1, 3, HEIGHT, WIDTH]).clamp(-1, 1)
    references["encoded"] = encoded(dev.vae, picture)
    references["redraw_noise"] = torch.randn(noise.shape, generator=generator(11))
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[:, :, HEIGHT // 4 : HEIGHT // 2, WIDTH // 3 :] = 1
    references["mask"] = torch.nn.functional.interpolate(mask, (HEIGHT // CELL, WIDTH // CELL))
    run("dev", dev, 512, guidance)
    latents = references["dev_latents"] / dev.vae.config.scaling_factor
    references["dev_picture"] = dev.vae.decode(latents + dev.vae.config.shift_factor).sample

    layout = flux_layout.layout(dev.transformer)
    (folder / "published.json").write_text(json.dumps(layout, indent=0) + "\n")

    schnell = FluxTransformer2DModel(**shape, guidance_embeds=False)
    schnell.load_state_dict(dev.transformer.state_dict(), strict=False)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    components = {**dev.components, "transformer": schnell, "scheduler": scheduler}
    run("schnell", quiet(FluxPipeline(**components)), 256, 0.0)

    # Changes the modules of dev.
    options = {"num_inference_steps": STEPS, "guidance_scale": guidance, "output_type": "latent"}
    options |= {"height": HEIGHT, "width": WIDTH, "latents": packed(noise)}
    for name, latents in lora.of_flux(dev, folder.parent, options).items():
        references[name] = unpacked(latents)
    return references, {
        "model": "flux",
        "prompt": PROMPT,
        "long_prompt": LONG_PROMPT,
        "steps": STEPS,
        "strength": STRENGTH,
        "guidance": guidance,
        "timestep": 1000 * timestep,
        "encoding_seed": ENCODING_SEED,
        "lora_scale": lora.SCALE,
    }


def _t5_tokenizer() -> T5Tokenizer:
    """Unigrams by frequency, in T5's order of ids; training them gives others at each run."""
    counts = Counter(
        word[start:end]
        for word in (f"▁{word}" for words in WORDS for word in words.split())
        for start in range(len(word))
        for end in range(start + 1, len(word) + 1)
    )
    pieces = sorted(counts, key=lambda piece: (len(piece) > 1, -counts[piece] * len(piece), piece))
    total = sum(counts.values())
    scores = [(piece, math.log(counts[piece] / total)) for piece in pieces[:UNIGRAMS]]
    special = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")]
    return T5Tokenizer(special + scores, extra_ids=0, model_max_length=512)


def _clip(words: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=WIDTH_OF_TEXT,
            intermediate_size=2 * WIDTH_OF_TEXT,
            projection_dim=WIDTH_OF_TEXT,
            num_hidden_layers=2,
            num_attention_heads=4,
            # As OpenAI's configs: the summary is then the state of the largest token id.
            bos_token_id=0,
            eos_token_id=2,
            pad_token_id=1,
        )
    )


def _t5(words: T5Tokenizer) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(words) + 4,
            d_model=WIDTH_OF_TEXT,
            d_kv=12,
            d_ff=2 * WIDTH_OF_TEXT,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        )
    )
