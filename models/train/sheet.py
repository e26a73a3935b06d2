"""Contact sheets: pictures side by side, to be looked at before a model is called good."""

import json
from pathlib import Path

from PIL import Image

from .examinations import FILES
from .pipeline import draw, load

COLUMNS = 10
ROWS = 5
SIDE = 96


def write(name: str, model: Path, scorers: Path, target: Path) -> None:
    """The first fifty questions of the model's examination, row by row."""
    questions = json.loads((scorers / FILES[name]).read_text())["prompts"][: COLUMNS * ROWS]
    pictures = draw(load(model), [q["prompt"] for q in questions], [q["seed"] for q in questions])
    sheet = Image.new("RGB", (COLUMNS * SIDE, ROWS * SIDE), "white")
    for i, picture in enumerate(pictures):
        enlarged = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        sheet.paste(enlarged, (i % COLUMNS * SIDE, i // COLUMNS * SIDE))
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target)
