"""Two machines for pictures of different sizes, behind a router without a GPU."""

import fal
from fal.toolkit import Image


class SmallPictures(fal.App):
    machine_type = "GPU-A100"
    requirements = ["diffusers", "torch", "transformers"]

    def setup(self):
        import torch
        from diffusers import StableDiffusionXLPipeline

        self.pipe = StableDiffusionXLPipeline.from_pretrained(
            "stabilityai/stable-diffusion-xl-base-1.0", torch_dtype=torch.float16
        ).to("cuda")

    @fal.endpoint("/")
    def generate(self, prompt: str, width: int = 512, height: int = 512) -> dict:
        drawn = self.pipe(prompt, width=width, height=height, num_inference_steps=2)
        return {"image": Image.from_pil(drawn.images[0]), "machine": "small"}


class LargePictures(SmallPictures):
    machine_type = "GPU-H100"

    @fal.endpoint("/")
    def generate(self, prompt: str, width: int = 1024, height: int = 1024) -> dict:
        drawn = self.pipe(prompt, width=width, height=height, num_inference_steps=2)
        return {"image": Image.from_pil(drawn.images[0]), "machine": "large"}


class SizeRouter(fal.App):
    machine_type = "S"
    requirements = ["fal-client"]
    keep_alive = 300
    max_multiplexing = 50

    @fal.endpoint("/")
    def route(self, prompt: str, width: int = 512, height: int = 512) -> dict:
        import fal_client

        backend = "acme/large" if width * height > 128 * 128 else "acme/small"
        arguments = {"prompt": prompt, "width": width, "height": height}
        return fal_client.subscribe(backend, arguments=arguments)
