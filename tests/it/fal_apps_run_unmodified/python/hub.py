"""Fills a cache of Hugging Face's hub with tiny pipelines of random weights.

    hub.py CACHE CONFIGS NAME=FOLDER…     CONFIGS contains the FOLDERs, without weights
"""

import importlib
import json
import sys
from pathlib import Path

import torch


def main(cache, configs, *names):
    torch.manual_seed(0)
    for name, folder in (each.split("=") for each in names):
        repository = Path(cache, "hub", "models--" + name.replace("/", "--"))
        revision = "0" * 40
        pipeline(Path(configs, folder)).save_pretrained(repository / "snapshots" / revision)
        refs = repository / "refs"
        refs.mkdir(parents=True)
        (refs / "main").write_text(revision)


def pipeline(folder):
    index = json.loads((folder / "model_index.json").read_text())
    of_pipeline = getattr(importlib.import_module("diffusers"), index["_class_name"])
    named = {name: value for name, value in index.items() if isinstance(value, list) and value[0]}
    parts = {name: part(folder / name, *value) for name, value in named.items()}
    return of_pipeline(**parts)


def part(folder, library, name):
    of_part = getattr(importlib.import_module(library), name)
    if "weights" not in dir(of_part) and not issubclass(of_part, torch.nn.Module):
        return of_part.from_pretrained(folder)
    if library == "diffusers":
        return of_part.from_config(of_part.load_config(folder))
    return of_part(of_part.config_class.from_pretrained(folder))


main(*sys.argv[1:])
