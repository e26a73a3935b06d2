"""What both training loops share: the learning-rate schedule, averaging, progress."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tqdm import tqdm

WARM_UP = 60
CHECKPOINT_EVERY = 200


class Schedule:
    """AdamW with a short warm-up and a cosine descent to nothing."""

    def __init__(self, parameters, rate: float, count: int):
        self.parameters = list(parameters)
        self.optimiser = torch.optim.AdamW(
            self.parameters, rate, betas=(0.9, 0.98), weight_decay=1e-3
        )
        self.rates = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser,
            lambda n: (
                min(1, (n + 1) / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * min(1, n / count)))
            ),
        )

    def descend(self, loss: torch.Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.rates.step()


class Average:
    """An exponential moving average of a module's weights, which samples better."""

    def __init__(self, module: torch.nn.Module, decay: float = 0.995):
        self.decay = decay
        self.updates = 0
        self.weights = copy.deepcopy(module.state_dict())

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        for name, weight in module.state_dict().items():
            if weight.is_floating_point():
                self.weights[name].lerp_(weight, 1 - decay)

    def of(self, module: torch.nn.Module) -> torch.nn.Module:
        """Puts the averaged weights into a fresh module of the same kind."""
        module.load_state_dict(self.weights)
        return module.eval()


@dataclass
class Step:
    is_checkpoint: bool
    bar: tqdm
    smooth: float | None = None

    def report(self, loss: torch.Tensor) -> None:
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError("the loss is no longer a number")
        self.smooth = value if self.smooth is None else 0.97 * self.smooth + 0.03 * value
        self.bar.set_postfix_str(f"loss {self.smooth:.4f}", refresh=False)


def steps(title: str, count: int) -> Iterator[Step]:
    """Counts training steps under a progress bar and marks those worth saving."""
    with tqdm(total=count, desc=title, mininterval=5) as bar:
        step = Step(False, bar)
        for n in range(1, count + 1):
            step.is_checkpoint = n % CHECKPOINT_EVERY == 0 or n == count
            yield step
            bar.update()
