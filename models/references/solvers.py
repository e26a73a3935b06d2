"""Writes worker/diffusion/tests/references/solvers.safetensors: what diffusers' pipelines with a
UNet compute with each scheduler, for each task.

    python -m models.references.solvers

The models are those of the other references, with the same weights (keyed.py).
"""

import json
import shutil
import tempfile
from pathlib import Path

import diffusers
import torch
from safetensors.torch import save_file

from . import keyed
from .inpainting import GUIDANCE
from .__main__ import TARGET
from .shared import CELL, HEIGHT, PROMPT, STEPS, STRENGTH, WIDTH, encoded, generator, quiet

SEED = 5  # of the noise that some solvers add

# The engine's name, diffusers' class and further settings.
SOLVERS = {
    "ddim": ("ddim", "DDIMScheduler", {}),
    "ddpm": ("ddpm", "DDPMScheduler", {}),
    "pndm": ("pndm", "PNDMScheduler", {}),
    "euler": ("euler", "EulerDiscreteScheduler", {}),
    "euler, Karras": ("euler", "EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "euler-a": ("euler-a", "EulerAncestralDiscreteScheduler", {}),
    "heun": ("heun", "HeunDiscreteScheduler", {}),
    "dpmsolver++": ("dpmsolver++", "DPMSolverMultistepScheduler", {}),
    "dpmsolver++, Karras": (
        "dpmsolver++", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True},
    ),
    "dpmsolver++, SDE": (
        "dpmsolver++", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"},
    ),
    "unipc": ("unipc", "UniPCMultistepScheduler", {}),
    "lcm": ("lcm", "LCMScheduler", {}),
}  # fmt: skip


def reproducible(scheduler):
    """The scheduler with the engine's noise: see worker/diffusion/src/noise.rs."""
    module = __import__(type(scheduler).__module__, fromlist=["randn_tensor"])
    step, calls = scheduler.step, -1

    def counted(*arguments, **options):
        nonlocal calls
        calls += 1
        return step(*arguments, **options)

    def noise(shape, **_options):
        torch.manual_seed((SEED * keyed.GOLDEN + calls) % 2**64)
        return torch.randn(shape)

    scheduler.step, module.randn_tensor = counted, noise
    return scheduler


def with_weights(name: str, target: Path) -> Path:
    folder = target / name
    shutil.copytree(TARGET / name, folder)
    files = json.loads((folder / "tensors.json").read_text())
    for file, shapes in files.items():
        component = file.split("/")[0]
        tensors = {key: keyed.tensor(f"{component}/{key}", of) for key, of in shapes.items()}
        save_file(tensors, folder / file, {"format": "pt"})
    return folder


@torch.no_grad()
def main() -> None:
    picture = keyed.tensor("picture", [1, 3, HEIGHT, WIDTH]).clamp(-1, 1)
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[:, :, HEIGHT // 4 : HEIGHT // 2, WIDTH // 3 :] = 1
    shape = [1, 4, HEIGHT // CELL, WIDTH // CELL]
    references = {
        "noise": torch.randn(shape, generator=generator(7)),
        "redraw_noise": torch.randn(shape, generator=generator(11)),
        "mask": torch.nn.functional.interpolate(mask, shape[2:]),
    }
    size = {"height": HEIGHT, "width": WIDTH}
    options = {
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "output_type": "latent",
    }
    with tempfile.TemporaryDirectory() as target:
        xl = diffusers.StableDiffusionXLPipeline.from_pretrained(with_weights("sdxl", Path(target)))
        sd = diffusers.StableDiffusionInpaintPipeline.from_pretrained(
            with_weights("inpainting", Path(target))
        )
    for name, pipe, part in (
        ("sdxl/encoded", xl, picture),
        ("sd/encoded", sd, picture),
        ("sd/masked", sd, picture * (mask < 0.5)),
    ):
        references[name] = encoded(pipe.vae, part)
    masked = {"masked_image_latents": references["sd/masked"], "mask_image": mask}

    for solver, (_, name, config) in SOLVERS.items():

        def run(family: str, task: str, pipeline: str, components: dict, **inputs) -> None:
            scheduler = getattr(diffusers, name).from_config(
                components["scheduler"].config,
                **config,
                steps_offset=1, clip_sample=False, skip_prk_steps=True,
            )
            kind = getattr(diffusers, pipeline)
            option = "add_watermarker" if family == "sdxl" else "requires_safety_checker"
            components = {**components, "scheduler": reproducible(scheduler), option: False}
            pipe = kind(**components)
            result = quiet(pipe)(PROMPT, generator=generator(11), **inputs, **options).images
            references[f"{family}/{solver}/{task}"] = result

        run(
            "sdxl", "text to image", "StableDiffusionXLPipeline", xl.components,
            latents=references["noise"], **size,
        )
        start = {"image": references["sdxl/encoded"], "strength": STRENGTH}
        run(
            "sdxl", "image to image", "StableDiffusionXLImg2ImgPipeline", xl.components, **start
        )
        run(
            "sdxl", "inpainting", "StableDiffusionXLInpaintPipeline", xl.components,
            masked_image_latents=start["image"], mask_image=mask, **start, **size,
        )
        start = {"image": references["sd/encoded"], "strength": STRENGTH}
        run(
            "sd", "inpainting", "StableDiffusionInpaintPipeline", sd.components,
            **masked, **start, **size,
        )

    facts = {
        "prompt": PROMPT,
        "steps": STEPS,
        "guidance": GUIDANCE,
        "strength": STRENGTH,
        "seed": SEED,
        "solvers": json.dumps({name: (kind, more) for name, (kind, _, more) in SOLVERS.items()}),
    }
    file = TARGET / "solvers.safetensors"
    tensors = {key: value.contiguous() for key, value in references.items()}
    save_file(tensors, file, {key: str(value) for key, value in facts.items()})
    file.chmod(0o644)
    print(f"{len(references)} references in {file}")


if __name__ == "__main__":
    main()
