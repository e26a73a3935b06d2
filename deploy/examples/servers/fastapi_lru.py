"""Diffusers pipelines in an LRU cache, behind FastAPI:

    --spawn "python fastapi_lru.py {port}"     # pip install diffusers torch fastapi uvicorn

The input's model is any repository of the hub. `hint_from = "input.model"` makes it the hint.
"""
import base64, io, os, sys
from collections import OrderedDict

import torch
import uvicorn
from diffusers import AutoPipelineForText2Image
from fastapi import FastAPI
from pydantic import BaseModel

SLOTS = int(os.environ.get("SLOTS", "2"))  # pipelines that fit into memory
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

app = FastAPI()
pipelines: OrderedDict[str, AutoPipelineForText2Image] = OrderedDict()


class Input(BaseModel):
    prompt: str
    model: str
    steps: int = 30
    seed: int = 0


def pipeline(model: str):
    if model not in pipelines:
        while len(pipelines) >= SLOTS:
            pipelines.popitem(last=False)
        pipelines[model] = AutoPipelineForText2Image.from_pretrained(model).to(DEVICE)
    pipelines.move_to_end(model)
    return pipelines[model]


@app.middleware("http")
async def report_hints(request, handle):
    response = await handle(request)
    response.headers["x-fal-runner-hints"] = ",".join(pipelines)
    return response


@app.get("/health")
def health():
    return {}


@app.post("/")
def generate(job: Input):
    random = torch.Generator(DEVICE).manual_seed(job.seed)
    result = pipeline(job.model)(job.prompt, num_inference_steps=job.steps, generator=random)
    result.images[0].save(png := io.BytesIO(), "PNG")
    uri = "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
    return {"images": [{"url": uri}]}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
