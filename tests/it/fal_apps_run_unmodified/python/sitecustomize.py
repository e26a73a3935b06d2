"""Lets programs for GPUs run on the CPU, as they are."""

import importlib.abc
import importlib.util
import sys


def on_cpu(value):
    return "cpu" if str(value).startswith("cuda") else value


class AfterTorch(importlib.abc.MetaPathFinder):
    """Changes torch once it has been imported by the program itself."""

    def find_spec(self, name, path, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            move = module.nn.Module.to
            module.nn.Module.to = lambda self, *args, **options: move(
                self, *map(on_cpu, args), **{name: on_cpu(options[name]) for name in options}
            )
            # Tiny networks, for which half precision on the CPU is slow.
            module.float16 = module.float32

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, AfterTorch())
