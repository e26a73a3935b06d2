"""Apps that do not run."""

import fal


class Raises(fal.App):
    def setup(self):
        raise RuntimeError("the weights\nare missing")

    @fal.endpoint("/")
    def generate(self) -> dict:
        return {}


class WithoutEndpoints(fal.App):
    pass
