"""Writes a trained model as a self-contained folder in Hugging Face's layout.

Weights are stored in half precision. `manifest.json` says the same things as the
configs, in one place, with a checksum for every file, for the Rust worker.
"""

import hashlib
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from .files import write_json
from .networks import CONTEXT, SCALING_FACTOR, new_text_encoder, new_unet, new_vae
from .pipeline import GUIDANCE, STEPS
from .tokenizer import END
from .unet import new_scheduler

LICENSE = "MIT OR Apache-2.0"
REVISION = "1"
LARGEST = 5_990_000  # bytes; with its card a folder stays below 6 MB
WORKING_BYTES = 16 << 20  # activations and library buffers, with room to spare
SCHEDULERS = ["ddim", "euler", "dpmsolver++"]


def export(name: str, trained: Path, vae: Path, tokenizer: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tokenizer, folder / "tokenizer")
    vocab_size = len(CLIPTokenizer.from_pretrained(tokenizer))
    parts = {
        "unet": (new_unet(), UNet2DConditionModel.from_pretrained(trained / "unet")),
        "text_encoder": (
            new_text_encoder(vocab_size),
            CLIPTextModel.from_pretrained(trained / "text_encoder"),
        ),
        "vae": (new_vae(), AutoencoderKL.from_pretrained(vae)),
    }
    for part, (fresh, weights) in parts.items():
        # A fresh module, because a loaded one writes where it came from into its config.
        fresh.load_state_dict(weights.state_dict())
        fresh.to(torch.float16).save_pretrained(folder / part)
    _suit_older_readers(folder / "text_encoder")
    new_scheduler(name).save_pretrained(folder / "scheduler")
    write_json(folder / "model_index.json", _index())
    write_json(folder / "manifest.json", _manifest(name, folder))
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)  # safetensors writes for its owner only
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{name}: {size:,} bytes in {folder.name}/")
    if size > LARGEST:
        raise ValueError(f"{folder.name}/ holds {size:,} bytes, more than {LARGEST:,}")


def _suit_older_readers(text_encoder: Path) -> None:
    """Makes the text encoder's files look like those of published checkpoints.

    Published CLIPs prefix every name: transformers 5 understands both, 4 only that. And
    without a dtype of its own a pipeline would mix the half precision that transformers
    reads in the config with diffusers' default, single precision.
    """
    weights, config = text_encoder / "model.safetensors", text_encoder / "config.json"
    tensors = load_file(weights)
    save_file(
        {f"text_model.{key}": value for key, value in tensors.items()}, weights, {"format": "pt"}
    )
    write_json(config, json.loads(config.read_text()) | {"dtype": "float32"})


def _index() -> dict:
    return {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _manifest(name: str, folder: Path) -> dict:
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    weights = sum(f.stat().st_size for f in files if f.suffix == ".safetensors")
    unet, vae, scheduler = new_unet().config, new_vae().config, new_scheduler(name).config
    text = new_text_encoder(vocab_size=2).config
    return {
        "schema": 1,
        "name": name,
        "revision": REVISION,
        "license": LICENSE,
        "family": "tiny",
        "files": [
            {
                "path": f.relative_to(folder).as_posix(),
                "sha256": hashlib.sha256(f.read_bytes()).hexdigest(),
                "bytes": f.stat().st_size,
            }
            for f in files
        ],
        "dtype": "f16",
        "image": {"default": 64, "min": 64, "max": 64, "multiple_of": 64},
        "tokenizer": {"kind": "clip-bpe", "context": CONTEXT, "pad": END},
        "text": {
            "hidden_size": text.hidden_size,
            "layers": text.num_hidden_layers,
            "heads": text.num_attention_heads,
            "intermediate_size": text.intermediate_size,
            "activation": text.hidden_act,
        },
        "unet": {
            "block_out_channels": list(unet.block_out_channels),
            "attention_blocks": ["CrossAttn" in block for block in unet.down_block_types],
            "layers_per_block": unet.layers_per_block,
            "heads": unet.attention_head_dim,
            "cross_attention_dim": unet.cross_attention_dim,
            "use_linear_projection": unet.use_linear_projection,
        },
        "vae": {
            "block_out_channels": list(vae.block_out_channels),
            "layers_per_block": vae.layers_per_block,
            "norm_groups": vae.norm_num_groups,
            "latent_channels": vae.latent_channels,
            "scaling_factor": SCALING_FACTOR,
        },
        "scheduler": {
            "allowed": SCHEDULERS,
            "default": SCHEDULERS[0],
            "prediction_type": scheduler.prediction_type,
            "beta_start": scheduler.beta_start,
            "beta_end": scheduler.beta_end,
            "beta_schedule": scheduler.beta_schedule,
            "steps_offset": scheduler.steps_offset,
            "timestep_spacing": scheduler.timestep_spacing,
            "set_alpha_to_one": scheduler.set_alpha_to_one,
        },
        "defaults": {"steps": STEPS, "guidance": GUIDANCE},
        # Twice the stored weights: a CPU computes in single precision.
        "vram_bytes_estimate": 2 * weights + WORKING_BYTES,
    }
