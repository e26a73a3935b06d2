"""What examples/bench_engine measures, measured of Python's diffusers on the same model folder.

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


def timed(function, times: list[float]):
    """Appends the seconds of each call to `times`."""

    def call(*positional, **named):
        start = now()
        result = function(*positional, **named)
        times.append(now() - start)
        return result

    return call


text, ends, decode = [], [], []


def step_ended(_pipeline, _step, _timestep, tensors):
    ends.append(now())
    return tensors


def draw(steps: int) -> float:
    for times in text, ends, decode:
        times.clear()
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
    return now() - start


def peak_bytes() -> int:
    if on_gpu:
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


pipeline.encode_prompt = timed(pipeline.encode_prompt, text)
pipeline.vae.decode = timed(pipeline.vae.decode, decode)
if on_gpu:
    draw(1)
picture = draw(options.steps)
print(
    json.dumps(
        {
            "load_s": load,
            "text_s": sum(text),
            "step_s": statistics.median(b - a for a, b in zip(ends, ends[1:])),
            "decode_s": sum(decode),
            "picture_s": picture,
            "peak_bytes": peak_bytes(),
        }
    )
)
