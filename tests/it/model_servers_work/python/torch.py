"""Stands in for torch: what deploy/examples/servers/fastapi_lru.py calls."""


class cuda:
    @staticmethod
    def is_available():
        return False


class Generator:
    def __init__(self, device):
        self.device = device

    def manual_seed(self, seed):
        return self
