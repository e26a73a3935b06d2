"""The model cards: what each model knows, in its folder's README.md."""

from pathlib import Path
from string import Template

CARD = Template("""\
---
license: [mit, apache-2.0]
pipeline_tag: text-to-image
library_name: diffusers
---
# $name

$what

A real latent diffusion model in miniature: Stable Diffusion 1.5's architecture with 2.5
million parameters in its UNet, 64x64 pictures, latents of 4x8x8. It exists so that
queues, workers and tests can run true inference on a CPU in a fraction of a second.

## Prompts it knows

$prompts

It was trained on these words only. Others are tokenized, and ignored or misunderstood.

## Use

From Python, with `diffusers` and `transformers`:

```python
from diffusers import StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained("models/$name", safety_checker=None)
pipe("$example", height=64, width=64, num_inference_steps=20, guidance_scale=2.5).images[0]
```

From Rust, warmq's worker reads `manifest.json` and the same weights.

## Training data

$data

No pretrained weights were used. `models/train` rebuilds the model on two CPU cores.

## Size and form

$size bytes of weights in half precision. $prediction. By default DDIM, 20 steps and
guidance 2.5; Euler and DPM-Solver++ work too.

## Scores

$scores

Measured on the prompts and with the rules of `models/scorers`, by Python's diffusers, in
single precision.

## Licence

MIT OR Apache-2.0, at your option.
""")

WORDS = {
    "shapes": {
        "what": "Draws one large coloured figure on a plain background.",
        "example": "a red circle on a blue background",
        "prompts": """\
Four shapes (circle, square, triangle, star), and eight colours for figure and background
(red, orange, yellow, green, blue, purple, black, white), in wordings such as:

- a red circle on a blue background
- yellow star on purple
- green square, white background
- a black background with an orange triangle
- a star in yellow on a blue background
- a red circle (the background is then left to chance)""",
        "data": """\
Painted by `models/train/data_shapes.py`: 200 of the 224 combinations of shape, colour and
background. The other 24 are held out, and the examination asks for nothing else.""",
        "unit": "pictures show the right shape and both right colours, all of held-out combinations",
    },
    "digits": {
        "what": "Writes one digit by hand, in ink on paper.",
        "example": "a handwritten seven",
        "prompts": """\
The digits from zero to nine, as a word or a figure:

- a handwritten seven
- a handwritten 7
- the digit three
- the number 4
- five""",
        "data": """\
Eight in ten of the 1,797 digits bundled with scikit-learn: the test part of "Optical
Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository (CC BY 4.0), enlarged from 8x8.""",
        "unit": "pictures are read as the digit asked for, by the classifier in `models/scorers`",
    },
    "landscapes": {
        "what": "Paints a soft landscape: an hour of the day, a kind of ground, and where the sun or moon stands.",
        "example": "a sunset over the sea, sun on the left",
        "prompts": """\
Dawn, noon, sunset or night; sea, hills, desert or snow; sun or moon on the left, in the
middle or on the right:

- a sunset over the sea, sun on the left
- a full moon over a snowy field, in the middle
- green hills at dawn, sun on the right
- a noon sun over sand dunes
- the moon over the ocean

Without a place, the sun or moon is anywhere.""",
        "data": "Painted by `models/train/data_landscapes.py`; all 48 scenes were seen in training.",
        "unit": "pictures show the right hour, ground and place",
    },
}


def write(name: str, folder: Path, prediction: str, scores: dict[int, tuple[int, int]]) -> None:
    """`scores` holds, for each number of steps, how many pictures of how many were right."""
    words = WORDS[name]
    size = sum(f.stat().st_size for f in folder.rglob("*.safetensors"))
    lines = [
        f"- {steps} steps: {right} of {total} {words['unit']}"
        for steps, (right, total) in scores.items()
    ]
    text = CARD.substitute(
        words,
        name=name,
        size=f"{size:,}",
        prediction={"epsilon": "Predicts noise", "v_prediction": "Predicts velocity"}[prediction],
        scores="\n".join(lines),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
