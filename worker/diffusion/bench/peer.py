"""What examples/bench_engine.rs measures, measured of Python's diffusers on the same model folder.

Prints one JSON object. Half precision on a GPU, single on the CPU; everything else as
the pipeline does it by default (its attention is torch's fused one).
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DiffusionPipeline

arguments = argparse.ArgumentParser()
arguments.add_argument("model")
arguments.add_argument("--device", default="cpu")
arguments.add_argument("--steps", type=int, default=20)
arguments.add_argument("--side", type=int)
arguments.add_argument("--threads", type=int, default=1)
options = arguments.parse_args()

on_gpu = options.device.startswith("cuda")
torch.set_num_threads(options.threads)


def now() -> float:
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter()


start = now()
pipeline = DiffusionPipeline.from_pretrained(
    options.model, torch_dtype=torch.float16 if on_gpu else torch.float32
).to(options.device)
pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
load = now() - start
pipeline.set_progress_bar_config(disable=True)


def draw(steps: int) -> tuple[float, list[float]]:
    ends = []

    def step_ended(_pipeline, _step, _timestep, tensors):
        ends.append(now())
        return tensors

    start = now()
    pipeline(
        "a red circle on a blue background",
        num_inference_steps=steps,
        guidance_scale=7.5,
        width=options.side,
        height=options.side,
        generator=torch.Generator().manual_seed(0),
        callback_on_step_end=step_ended,
    )
    return now() - start, [after - before for before, after in zip(ends, ends[1:])]


def peak_bytes() -> int:
    if on_gpu:
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


draw(1)
total, steps = draw(options.steps)
print(
    json.dumps(
        {
            "load_s": load,
            "step_s": statistics.median(steps),
            "picture_s": total,
            "peak_bytes": peak_bytes(),
        }
    )
)
