"""References of LoRA: one file with PEFT's names, one with kohya's, for a tiny SDXL."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from . import keyed
from .tiny import PROMPT

RANK, ALPHA, SCALE = 2, 3.0, 0.8

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

    references = {}
    for name, tensors in {"peft": peft, "kohya": kohya}.items():
        file = target / f"lora_{name}.safetensors"
        save_file(tensors, file)
        file.chmod(0o644)
        pipe.load_lora_weights(target, weight_name=file.name, adapter_name=name)
        pipe.set_adapters([name], [SCALE])
        references[f"lora_{name}"] = pipe(PROMPT, latents=noise, **options).images
        pipe.delete_adapters(name)
    return references
