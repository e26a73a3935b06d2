"""The prompts every model is examined on, and the examination itself."""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np

from . import data_digits, data_landscapes, data_shapes
from .files import write_json
from .pipeline import draw, load
from .recognizers import read_digits, read_landscape, read_shape

QUESTIONS = 50
FILES = {
    "shapes": "heldout_shapes.json",
    "digits": "digits_prompts.json",
    "landscapes": "landscapes_prompts.json",
}
CLASSIFIER = "digits_classifier.safetensors"


def write(folder: Path) -> None:
    """The prompts, what each should show, a seed for each, and the colours to judge by."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILES["shapes"], _shapes())
    write_json(folder / FILES["digits"], _digits())
    write_json(folder / FILES["landscapes"], _landscapes())


def _shapes() -> dict:
    rng = random.Random("shapes examination")
    held_out = data_shapes.held_out()
    asked = held_out * 2 + rng.sample(held_out, QUESTIONS - 2 * len(held_out))
    templates = data_shapes.TEMPLATES
    return {
        "palette": {name: list(rgb) for name, rgb in data_shapes.PALETTE.items()},
        "star_waist": data_shapes.STAR_WAIST,
        "held_out": [dataclasses.asdict(c) for c in held_out],
        "prompts": [
            {
                # The first round asks in the plainest words, the rest in any.
                "prompt": data_shapes.describe(
                    c, templates[0] if i < len(held_out) else rng.choice(templates)
                ),
                "seed": i + 1,
                **dataclasses.asdict(c),
            }
            for i, c in enumerate(asked)
        ],
    }


def _digits() -> dict:
    rng = random.Random("digits examination")
    return {
        "prompts": [
            {"prompt": data_digits.describe(i % 10, rng), "seed": i + 1, "digit": i % 10}
            for i in range(QUESTIONS)
        ]
    }


def _landscapes() -> dict:
    rng = random.Random("landscapes examination")
    return {
        "hours": {name: list(hour.top) for name, hour in data_landscapes.HOURS.items()},
        "grounds": {
            hour: {
                ground: [round(v, 1) for v in data_landscapes.ground_colours(hour, ground)[1]]
                for ground in data_landscapes.GROUNDS
            }
            for hour in data_landscapes.HOURS
        },
        "prompts": [
            {
                "prompt": data_landscapes.describe(scene, rng, placed=True),
                "seed": i + 1,
                **dataclasses.asdict(scene),
            }
            for i, scene in enumerate(data_landscapes.scenes())
        ],
    }


def sit(name: str, model: Path, scorers: Path, steps: int) -> tuple[int, int]:
    """How many of the model's pictures show all that was asked, of how many; prints failures."""
    questions = json.loads((scorers / FILES[name]).read_text())["prompts"]
    pictures = draw(
        load(model), [q["prompt"] for q in questions], [q["seed"] for q in questions], steps
    )
    answers = _answers(name, pictures, scorers)
    right = 0
    for question, answer in zip(questions, answers, strict=True):
        if all(question[key] == value for key, value in answer.items()):
            right += 1
        else:
            seen = " ".join(map(str, answer.values()))
            print(f"  {question['prompt']} (seed {question['seed']}): {seen}")
    print(f"{name}: {right} of {len(questions)} at {steps} steps")
    return right, len(questions)


def _answers(name: str, pictures: np.ndarray, scorers: Path) -> list[dict]:
    if name == "digits":
        return [{"digit": int(d)} for d in read_digits(pictures, scorers / CLASSIFIER)]
    read = read_shape if name == "shapes" else read_landscape
    return [dataclasses.asdict(read(picture)) for picture in pictures]
