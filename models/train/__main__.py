"""Rebuilds the tiny models: `python -m train all --seed 1`, from the folder `models`."""

import argparse
from pathlib import Path

import torch

from . import cards, classifier, examinations, export, parity, sheet, tokenizer, unet, vae
from .datasets import DATASETS, corpus

MODELS = Path(__file__).resolve().parent.parent
VAE_STEPS = 3000
UNET_STEPS = {"shapes": 2600, "digits": 1500, "landscapes": 2500}


def main() -> None:
    arguments = _arguments()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    stages = STAGES if arguments.stage == "all" else {arguments.stage: STAGES[arguments.stage]}
    for stage in stages.values():
        stage(arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument(
        "stage", choices=["all", *STAGES], help="what to build; all: everything, in this order"
    )
    parser.add_argument(
        "--model", choices=DATASETS, nargs="+", default=list(DATASETS), help="only these models"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--threads", type=int, help="of each process; one is best where several train at once"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=MODELS / "build",
        help="where checkpoints and contact sheets go",
    )
    parser.add_argument(
        "--out", type=Path, default=MODELS, help="where model folders and scorers go"
    )
    return parser.parse_args()


def _tokenizer(arguments: argparse.Namespace) -> None:
    tokenizer.train(corpus(), arguments.work / "tokenizer")


def _vae(arguments: argparse.Namespace) -> None:
    vae.train(arguments.work / "vae", VAE_STEPS, arguments.seed)


def _unet(arguments: argparse.Namespace) -> None:
    for name in arguments.model:
        unet.train(
            name,
            arguments.work / "tokenizer",
            arguments.work / name,
            UNET_STEPS[name],
            arguments.seed,
        )


def _export(arguments: argparse.Namespace) -> None:
    work = arguments.work
    for name in arguments.model:
        export.export(name, work / name, work / "vae", work / "tokenizer", arguments.out / name)


def _scorers(arguments: argparse.Namespace) -> None:
    scorers = arguments.out / "scorers"
    examinations.write(scorers)
    classifier.train(scorers / examinations.CLASSIFIER, arguments.seed)
    for name in parity.PROMPTS:
        if name in arguments.model:
            parity.write(name, arguments.out / name, scorers / f"parity_{name}.safetensors")


def _score(arguments: argparse.Namespace) -> None:
    for name in arguments.model:
        folder = arguments.out / name
        scores = {
            steps: examinations.sit(name, folder, arguments.out / "scorers", steps)
            for steps in (20, 10)
        }
        cards.write(name, folder, DATASETS[name].PREDICTION, scores)


def _sheet(arguments: argparse.Namespace) -> None:
    for name in arguments.model:
        target = arguments.work / f"{name}.png"
        sheet.write(name, arguments.out / name, arguments.out / "scorers", target)
        print(f"contact sheet: {target}")


STAGES = {
    "tokenizer": _tokenizer,
    "vae": _vae,
    "unet": _unet,
    "export": _export,
    "scorers": _scorers,
    "score": _score,
    "sheet": _sheet,
}

if __name__ == "__main__":
    main()
