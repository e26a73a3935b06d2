"""A router app and its backend, as fal's documentation writes them."""

import asyncio

import fal


class Backend(fal.App):
    max_multiplexing = 50

    @fal.endpoint("/")
    async def generate(self, prompt: str) -> dict:
        await asyncio.sleep(0.5)
        return {"prompt": prompt}


class Router(fal.App):
    max_multiplexing = 50

    @fal.endpoint("/")
    async def route(self, prompt: str) -> dict:
        import fal_client

        return await fal_client.run_async("bench/backend", arguments={"prompt": prompt})
