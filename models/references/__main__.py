"""Writes worker/diffusion/tests/references: what diffusers' pipelines of families other than
Stable Diffusion compute, with tiny networks.

    python -m models.references

A family is a function in `FAMILIES`: it writes a pipeline to a folder and returns what tests
compare. The folder is kept without weights: those are computed from their names (keyed.py).
"""

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file

from . import keyed
from .flux import flux
from .inpainting import inpainting
from .sdxl import sdxl

TARGET = Path(__file__).parents[2] / "worker/diffusion/tests/references"

FAMILIES = {"flux": flux, "sdxl": sdxl, "inpainting": inpainting}


def main() -> None:
    for name, family in FAMILIES.items():
        kept = TARGET / name
        shutil.rmtree(kept, ignore_errors=True)
        references, facts = family(kept)
        shapes = {}
        for file in sorted(kept.rglob("*.safetensors")):
            shapes[str(file.relative_to(kept))] = keyed.shapes(file)
            file.unlink()
        (kept / "tensors.json").write_text(json.dumps(shapes, indent=0) + "\n")
        tensors = {key: value.contiguous() for key, value in references.items()}
        metadata = {key: str(value) for key, value in facts.items()}
        save_file(tensors, TARGET / f"{name}.safetensors", metadata)
        (TARGET / f"{name}.safetensors").chmod(0o644)
        print(f"{len(tensors)} references in {TARGET / name}.safetensors")


if __name__ == "__main__":
    main()
