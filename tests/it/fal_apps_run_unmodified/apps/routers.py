"""Routers over backends that only calculate: A/B test, pipeline, fallback, cost."""

import asyncio
import random

import fal
from fal.exceptions import AppException


class Backend(fal.App):
    machine_type = "GPU-A100"
    max_multiplexing = 8

    @fal.endpoint("/")
    def generate(self, prompt: str, version: str = "v1") -> dict:
        if "impossible" in prompt:
            raise AppException("no such picture")
        return {"text": prompt, "version": version}

    @fal.endpoint("/upscale")
    def upscale(self, text: str) -> dict:
        return {"text": text.upper()}


class ABTest(fal.App):
    requirements = ["fal-client"]
    max_multiplexing = 50

    @fal.endpoint("/")
    def route(self, prompt: str) -> dict:
        import fal_client

        version = "v1" if random.random() < 0.8 else "v2"
        arguments = {"prompt": prompt, "version": version}
        result = fal_client.subscribe("acme/backend", arguments=arguments)
        return {**result, "model_version": version}


class Pipeline(fal.App):
    requirements = ["fal-client"]
    max_multiplexing = 50

    @fal.endpoint("/")
    async def route(self, prompt: str) -> dict:
        import fal_client

        first = await fal_client.subscribe_async("acme/backend", arguments={"prompt": prompt})
        text = {"text": first["text"]}
        return await fal_client.subscribe_async("acme/backend/upscale", arguments=text)


class Fallback(fal.App):
    requirements = ["fal-client"]

    @fal.endpoint("/")
    def route(self, prompt: str) -> dict:
        import fal_client

        try:
            return fal_client.subscribe("acme/backend", arguments={"prompt": prompt})
        except Exception:
            other = {"prompt": "another picture", "version": "fallback"}
            return fal_client.subscribe("acme/backend", arguments=other)


class Cost(fal.App):
    requirements = ["fal-client"]

    @fal.endpoint("/")
    def route(self, prompt: str, steps: int = 20) -> dict:
        import fal_client

        version = "cheap" if steps <= 20 else "dear"
        arguments = {"prompt": prompt, "version": version}
        return fal_client.run("acme/backend", arguments=arguments)


class Waits(fal.App):
    """For the cost of the hop: answers after 50 ms without using a processor."""

    max_multiplexing = 50

    @fal.endpoint("/")
    async def generate(self, prompt: str) -> dict:
        await asyncio.sleep(0.05)
        return {"text": prompt}
