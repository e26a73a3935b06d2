"""References of LoRA: files with each kind of names, for a tiny SDXL and a tiny FLUX.1."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import flux_layout, keyed
from .shared import PROMPT

RANK, ALPHA, SCALE = 2, 3.0, 0.8
PEFT = ("lora_A", "lora_B")
KOHYA = ("lora_down", "lora_up")

# Layers by their names in Hugging Face's layout and in the published one, and their kernel.
UNET = {
    "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q": (
        "input_blocks_4_1_transformer_blocks_1_attn1_to_q"
    ),
    "up_blocks.0.attentions.2.transformer_blocks.2.attn2.to_out.0": (
        "output_blocks_2_1_transformer_blocks_2_attn2_to_out_0"
    ),
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj": (
        "middle_block_1_transformer_blocks_0_ff_net_0_proj"
    ),
}
TEXT = [f"text_model.encoder.layers.1.self_attn.{name}_proj" for name in ("q", "out")]


@torch.no_grad()
def of_sdxl(pipe, target: Path, noise: torch.Tensor, options: dict) -> dict[str, torch.Tensor]:
    """Writes the files into the folder `target`, and computes latents with each."""
    peft, kohya = {}, {}

    def add(component: str, layer: str, kohya_name: str) -> None:
        modules = dict(getattr(pipe, component).named_modules())
        # transformers 5 has no text_model in some classes; files keep the name.
        module = modules.get(layer) or modules[layer.removeprefix("text_model.")]
        outputs, inputs = module.weight.shape
        down = keyed.tensor(f"lora/{component}.{layer}.down", [RANK, inputs])
        up = keyed.tensor(f"lora/{component}.{layer}.up", [outputs, RANK])
        # As diffusers saves them.
        ends = ("lora_A", "lora_B")
        if component != "unet":
            ends = ("lora_linear_layer.down", "lora_linear_layer.up")
        for end, matrix in zip(ends, (down, up), strict=True):
            peft[f"{component}.{layer}.{end}.weight"] = matrix
        kohya[f"{kohya_name}.lora_down.weight"] = down
        kohya[f"{kohya_name}.lora_up.weight"] = up
        kohya[f"{kohya_name}.alpha"] = torch.tensor(ALPHA)

    for layer, original in UNET.items():
        add("unet", layer, f"lora_unet_{original}")
    for component, short in {"text_encoder": "te1", "text_encoder_2": "te2"}.items():
        for layer in TEXT:
            add(component, layer, f"lora_{short}_{layer.replace('.', '_')}")

    files = {"peft": peft, "kohya": kohya}
    return _references(pipe, target, files, {"latents": noise, **options})


# Layers by their names in diffusers' layout; in the published one several are one.
FLUX_PEFT = [
    "transformer_blocks.0.attn.to_k",
    "transformer_blocks.1.attn.add_q_proj",
    "transformer_blocks.0.ff_context.net.0.proj",
    "single_transformer_blocks.1.proj_mlp",
    "single_transformer_blocks.0.proj_out",
    "norm_out.linear",
    "time_text_embed.guidance_embedder.linear_2",
]
FLUX_KOHYA = [
    "double_blocks.0.img_attn.qkv",
    "double_blocks.1.txt_attn.qkv",
    "double_blocks.1.img_attn.proj",
    "double_blocks.0.img_mlp.0",
    "double_blocks.1.txt_mlp.2",
    "double_blocks.0.txt_mod.lin",
    "single_blocks.0.linear1",
    "single_blocks.1.linear2",
    "single_blocks.1.modulation.lin",
]
# PEFT's settings, as diffusers stores them.
METADATA = {
    "flux_peft": {
        "lora_adapter_metadata": json.dumps(
            {
                "transformer.r": RANK,
                "transformer.lora_alpha": ALPHA,
                "transformer.alpha_pattern": {"attn.to_k": 5.0},
                "transformer.target_modules": FLUX_PEFT,
                "text_encoder.r": RANK,
                "text_encoder.lora_alpha": ALPHA,
                "text_encoder.use_rslora": True,
                "text_encoder.target_modules": ["q_proj", "out_proj"],
            }
        )
    }
}
# Not among those that diffusers converts.
FLUX_WITHOUT = ("_in.", "_in_", "adaLN")


@torch.no_grad()
def of_flux(pipe, target: Path, options: dict) -> dict[str, torch.Tensor]:
    """As `of_sdxl`; diffusers reads the published names with PEFT's prefix only as a whole."""
    flux_layout.resize_lora_conversions(pipe.transformer)
    published = {
        name.removesuffix(".weight"): shape
        for name, shape in flux_layout.shapes(pipe.transformer).items()
        if name.endswith(".weight")
    }
    files = {"flux_peft": {}, "flux_kohya": {}, "flux_published": {}}

    def add(file: str, layer: str, name: str, shape: list[int], ends: tuple[str, str]) -> None:
        outputs, inputs = shape
        down = keyed.tensor(f"lora/{file}.{layer}.down", [RANK, inputs])
        up = keyed.tensor(f"lora/{file}.{layer}.up", [outputs, RANK])
        for end, matrix in zip(ends, (down, up), strict=True):
            files[file][f"{name}.{end}.weight"] = matrix
        if ends == KOHYA:
            files[file][f"{name}.alpha"] = torch.tensor(ALPHA)

    modules = dict(pipe.transformer.named_modules())
    for layer in FLUX_PEFT:
        add("flux_peft", layer, f"transformer.{layer}", modules[layer].weight.shape, PEFT)
    for layer in FLUX_KOHYA:
        name = f"lora_unet_{layer.replace('.', '_')}"
        add("flux_kohya", layer, name, published[layer], KOHYA)
    for layer in TEXT:
        shape = [pipe.text_encoder.config.hidden_size] * 2
        add("flux_peft", layer, f"text_encoder.{layer}", shape, PEFT)
        add("flux_kohya", layer, f"lora_te1_{layer.replace('.', '_')}", shape, KOHYA)
    for layer, shape in published.items():
        if not any(part in f"{layer}." for part in FLUX_WITHOUT):
            add("flux_published", layer, f"base_model.model.{layer}", shape, PEFT)
    return _references(pipe, target, files, options)


def _references(
    pipe, target: Path, files: dict[str, dict[str, torch.Tensor]], options: dict
) -> dict[str, torch.Tensor]:
    """Writes the files into the folder `target`, and computes latents with each."""
    references = {}
    for name, tensors in files.items():
        file = target / f"lora_{name}.safetensors"
        save_file(tensors, file, METADATA.get(name))
        file.chmod(0o644)
        pipe.load_lora_weights(target, weight_name=file.name, adapter_name=name)
        pipe.set_adapters([name], [SCALE])
        references[f"lora_{name}"] = pipe(PROMPT, **options).images
        pipe.delete_adapters(name)
    return references
