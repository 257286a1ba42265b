"""Train a classifier of signals and one of volumes, into models/: ``python -m models.train_signals [NAME...]``.

Extra ``zoo``, minutes on a CPU, seeded. Convolutions along one axis and along three, global average pooling and a
linear layer. Another CPU may round otherwise and end with other weights: the files in models/ are what sha256.txt says.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import nn

from models.signals import BALLS, LENGTH, PULSES, SIDE, filled, pulsed
from models.train import FIRST
from models.written import export as written
from models.written import run

COUNT, HELD, EPOCHS, BATCH = 1600, 400, 12, 40
NAMES = {"pulses": (pulsed, PULSES, (LENGTH,)), "balls": (filled, BALLS, (SIDE,) * 3)}


def build(name: str) -> nn.Sequential:
    """Return the network called `name`, with seeded weights."""
    torch.manual_seed(0)
    if name == "pulses":
        return nn.Sequential(
            nn.Conv1d(1, 16, 9, stride=2, padding=4), nn.ReLU(),
            nn.Conv1d(16, 24, 7, padding=3), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(24, 32, 7, padding=3), nn.ReLU(),
            nn.Conv1d(32, 32, 7, padding=3), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, len(PULSES)),
        )  # fmt: skip
    return nn.Sequential(
        nn.Conv3d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(12, 16, 3, padding=1), nn.ReLU(),
        nn.Conv3d(16, 24, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(24, len(BALLS)),
    )  # fmt: skip


def drawn(name: str, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the network takes, and the classes."""
    draw, kinds, _ = NAMES[name]
    wanted = [seed % len(kinds) for seed in range(first, first + count)]
    values = [draw(first + i, *(kinds[c : c + 1] if c else ())).values for i, c in enumerate(wanted)]
    return torch.from_numpy(np.concatenate(values)), torch.tensor(wanted)


def train(name: str) -> nn.Sequential:
    """Return the trained network."""
    x, wanted = drawn(name, FIRST, COUNT)
    held, held_wanted = drawn(name, 2 * FIRST, HELD)
    model = build(name)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=EPOCHS * (COUNT // BATCH))
    order = torch.Generator().manual_seed(0)
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(COUNT, generator=order).split(BATCH):
            loss = nn.functional.cross_entropy(model(x[batch]), wanted[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            plan.step()
            total += float(loss.detach())
        print(f"{name}: {epoch + 1}/{EPOCHS} loss {total * BATCH / COUNT:.4f}", file=sys.stderr, flush=True)
    with torch.no_grad():
        right = float((model.eval()(held).argmax(1) == held_wanted).float().mean())
    print(f"{name}: held out, {right:.1%} right")
    return model


def export(name: str, model: nn.Sequential) -> bytes:
    """Return the file, with the last value in front of the head."""
    return written(model, "signal" if name == "pulses" else "volume", (1, *NAMES[name][2]), "logits")


def main(names: list[str]) -> int:
    """Train and write."""
    return run(names or NAMES, lambda name: export(name, train(name)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
