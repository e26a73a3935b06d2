"""Stands in for diffusers: what deploy/examples/servers/fastapi_lru.py calls."""

from types import SimpleNamespace


class Picture:
    def __init__(self, text):
        self.text = text

    def save(self, file, format):
        file.write(f"{format} of {self.text}".encode())


class AutoPipelineForText2Image:
    def __init__(self, model):
        self.model = model

    @classmethod
    def from_pretrained(cls, model):
        return cls(model)

    def to(self, device):
        return self

    def __call__(self, prompt, num_inference_steps, generator):
        return SimpleNamespace(images=[Picture(f"{self.model}: {prompt}")])
