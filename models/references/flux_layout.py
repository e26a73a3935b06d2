"""The layout in which FLUX.1 was published, by diffusers' own conversions."""

import inspect
from collections.abc import Callable

import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders import lora_conversion_utils, single_file_utils

WIDTH_OF_FLUX = 3072  # of a token's state; a constant of diffusers' conversions
WAVES = 256  # the width of a number's sines and cosines


def resized(convert: Callable, transformer: FluxTransformer2DModel) -> Callable:
    """A conversion of diffusers for a transformer of another size."""
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    source = inspect.getsource(convert)
    for constant, value in (
        (f"{4 * WIDTH_OF_FLUX}", 4 * width),
        (f"{WIDTH_OF_FLUX}", width),
        ("num_layers = 19", f"num_layers = {config.num_layers}"),
        ("num_single_layers = 38", f"num_single_layers = {config.num_single_layers}"),
    ):
        source = source.replace(constant, str(value))
    scope = dict(vars(inspect.getmodule(convert)))
    exec(source, scope)
    return scope[convert.__name__]


def resize_lora_conversions(transformer: FluxTransformer2DModel) -> None:
    """Changes those that `load_lora_weights` uses."""
    from diffusers.loaders import lora_pipeline

    for name in ("_convert_kohya_flux_lora_to_diffusers", "_convert_fal_kontext_lora_to_diffusers"):
        convert = resized(getattr(lora_conversion_utils, name), transformer)
        setattr(lora_pipeline, name, convert)


def layout(transformer: FluxTransformer2DModel) -> dict[str, list[tuple[str, int, int]]]:
    """The parts of each published tensor, in order: diffusers' name, the first row, the rows."""
    published = {name: torch.tensor(shape) for name, shape in shapes(transformer).items()}
    sources, rows = {}, {}
    for number, (name, shape) in enumerate(published.items()):
        sources[number] = name
        # Each row has the tensor's number and its own.
        index = torch.arange(shape[0])
        rows[name] = torch.stack([torch.full_like(index, number), index], 1)
    convert = single_file_utils.convert_flux_transformer_checkpoint_to_diffusers
    convert = resized(convert, transformer)
    parts = {name: [] for name in published}
    for theirs, found in convert(rows).items():
        begin, next_row = 0, torch.tensor([0, 1])
        for end in range(1, len(found) + 1):
            if end == len(found) or not torch.equal(found[end], found[end - 1] + next_row):
                number, first = found[begin].tolist()
                parts[sources[number]].append((first, theirs, begin, end - begin))
                begin = end
    return {name: [part[1:] for part in sorted(found)] for name, found in parts.items()}


def shapes(transformer: FluxTransformer2DModel) -> dict[str, list[int]]:
    """The published tensors."""
    config = transformer.config
    width = config.num_attention_heads * config.attention_head_dim
    norm = [config.attention_head_dim]
    linears = {
        "img_in": (config.in_channels, width),
        "txt_in": (config.joint_attention_dim, width),
        "time_in.in_layer": (WAVES, width),
        "time_in.out_layer": (width, width),
        "vector_in.in_layer": (config.pooled_projection_dim, width),
        "vector_in.out_layer": (width, width),
        "final_layer.adaLN_modulation.1": (width, 2 * width),
        "final_layer.linear": (width, config.in_channels),
    }
    if config.guidance_embeds:
        linears["guidance_in.in_layer"] = (WAVES, width)
        linears["guidance_in.out_layer"] = (width, width)
    norms = []
    for block in range(config.num_layers):
        for stream in ("img", "txt"):
            prefix = f"double_blocks.{block}.{stream}"
            linears[f"{prefix}_mod.lin"] = (width, 6 * width)
            linears[f"{prefix}_attn.qkv"] = (width, 3 * width)
            linears[f"{prefix}_attn.proj"] = (width, width)
            linears[f"{prefix}_mlp.0"] = (width, 4 * width)
            linears[f"{prefix}_mlp.2"] = (4 * width, width)
            norms.append(f"{prefix}_attn.norm")
    for block in range(config.num_single_layers):
        prefix = f"single_blocks.{block}"
        linears[f"{prefix}.modulation.lin"] = (width, 3 * width)
        linears[f"{prefix}.linear1"] = (width, 7 * width)
        linears[f"{prefix}.linear2"] = (5 * width, width)
        norms.append(f"{prefix}.norm")
    tensors = {}
    for name, (inputs, outputs) in linears.items():
        tensors[f"{name}.weight"] = [outputs, inputs]
        tensors[f"{name}.bias"] = [outputs]
    for name in norms:
        tensors[f"{name}.query_norm.scale"] = tensors[f"{name}.key_norm.scale"] = norm
    return tensors
