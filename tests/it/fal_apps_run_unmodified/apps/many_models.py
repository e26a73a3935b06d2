"""One app that serves any pipeline and keeps the two that were used last."""

from collections import OrderedDict
from typing import Any

import fal
from fal.toolkit import Image
from pydantic import BaseModel, Field


class Input(BaseModel):
    model: str = Field(description="Name of a pipeline on the hub")
    prompt: str = Field(description="What to draw")


class Output(BaseModel):
    image: Image = Field()


class ManyModels(fal.App):
    machine_type = "GPU-A100"
    requirements = ["diffusers", "torch", "transformers"]

    def setup(self) -> None:
        self.pipelines: OrderedDict[str, Any] = OrderedDict()

    def provide_hints(self) -> list[str]:
        return list(self.pipelines)

    def pipeline(self, name: str) -> Any:
        import torch
        from diffusers import DiffusionPipeline

        if name not in self.pipelines:
            if len(self.pipelines) == 2:
                self.pipelines.popitem(last=False)
            pipeline = DiffusionPipeline.from_pretrained(name, torch_dtype=torch.float16)
            self.pipelines[name] = pipeline.to("cuda")
        self.pipelines.move_to_end(name)
        return self.pipelines[name]

    @fal.endpoint("/")
    def draw(self, input: Input) -> Output:
        pipeline = self.pipeline(input.model)
        drawn = pipeline(input.prompt, num_inference_steps=2, width=64, height=64)
        return Output(image=Image.from_pil(drawn.images[0]))
