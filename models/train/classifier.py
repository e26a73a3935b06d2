"""A two-layer network that reads digits, to judge the digits model.

It learns from the training split of the real digits, painted as the generator's
training pictures are, and is measured on the split that neither of them has seen.
"""

import math
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tqdm import trange

from .data_digits import paint, split
from .recognizers import digit_features, read_digits

HIDDEN = 64
PAINTINGS = 24  # of each digit, each a little shifted
EPOCHS = 20
BATCH = 128


def train(target: Path, seed: int) -> float:
    """Writes the weights and returns the accuracy on real held-out digits."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    glyphs, labels, unseen_glyphs, unseen_labels = split()
    painted = np.stack([paint(g, rng) for _ in range(PAINTINGS) for g in glyphs])
    x, y = torch.from_numpy(digit_features(painted)), torch.from_numpy(np.tile(labels, PAINTINGS))
    hidden, output = torch.nn.Linear(256, HIDDEN), torch.nn.Linear(HIDDEN, 10)
    network = torch.nn.ModuleDict({"hidden": hidden, "output": output})
    batches = EPOCHS * math.ceil(len(x) / BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=batches)
    for _ in trange(EPOCHS, desc="classifier"):
        for chosen in torch.randperm(len(x)).split(BATCH):
            noisy = x[chosen] + 0.1 * torch.randn(len(chosen), 256)
            # Few writers: without noise, dropout and soft labels it learns them by heart.
            guess = output(F.dropout(F.relu(hidden(noisy)), 0.3))
            loss = F.cross_entropy(guess, y[chosen], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rates.step()

    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in network.state_dict().items()}, target)
    target.chmod(0o644)
    unseen = np.stack([paint(g, rng) for g in unseen_glyphs])
    accuracy = float((read_digits(unseen, target) == unseen_labels).mean())
    print(f"classifier: {accuracy:.2%} of {len(unseen)} real held-out digits")
    return accuracy
