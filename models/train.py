"""Train the small networks on synthetic pictures, into models/: ``python -m models.train [NAME...]`` (extra ``zoo``).

Minutes on a CPU, seeded. `textures-average` and `textures-max` differ in nothing but their global pooling: what their
maps differ in comes from that. `textures-linear` ends in fully connected layers, `textures-tokens` is a transformer;
`disc-size` has one output, a number.
Another CPU may round otherwise and end with other weights: the files in models/ are what sha256.txt says.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import nn

from models.synthetic import TEXTURES, sized, textured
from models.written import export as written
from models.written import run

PICTURES, HELD, EPOCHS, BATCH = 3000, 400, 14, 50
LONGER = 20  # epochs of the transformer, which knows nothing of neighbours at first
FIRST = 1_000_000  # seeds below are for tests and documentation


def features() -> list[nn.Module]:
    """Return the layers in front of the head: 96 x 96 pictures to 32 channels of 24 x 24."""
    return [
        nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip


class Attention(nn.Module):  # type: ignore[misc]
    """Every token takes from all, by four heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inward, self.outward = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.inward(x).unflatten(2, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        shares = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(3)
        found: torch.Tensor = self.outward((shares @ v).transpose(1, 2).flatten(2))
        return found


class Block(nn.Module):  # type: ignore[misc]
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width)
        self.dense = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.first(x))
        found: torch.Tensor = x + self.dense(self.second(x))
        return found


class Tokens(nn.Module):  # type: ignore[misc]
    """A class token and 8 x 8 patches of 12 x 12 pixels, with what is learnt of their places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 12, stride=12)
        self.own = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 65, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.own.expand(x.shape[0], -1, -1), patches], 1) + self.places


class First(nn.Module):  # type: ignore[misc]
    """The class token alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0]


def transformer(kinds: int, width: int = 40) -> nn.Sequential:
    """Return three blocks and a head that reads the class token."""
    blocks = [Block(width) for _ in range(3)]
    return nn.Sequential(Tokens(width), *blocks, nn.LayerNorm(width), First(), nn.Linear(width, kinds))


def build(name: str) -> nn.Sequential:
    """Return the network called `name`, with seeded weights."""
    torch.manual_seed(0)
    kinds = len(TEXTURES)
    if name == "textures-tokens":
        return transformer(kinds)
    heads: dict[str, list[nn.Module]] = {
        "textures-average": [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, kinds)],
        "textures-max": [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, kinds)],
        "textures-linear": [nn.MaxPool2d(4), nn.Flatten(), nn.Linear(32 * 36, 32), nn.ReLU(), nn.Linear(32, kinds)],
        "disc-size": [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 1)],
    }
    return nn.Sequential(*features(), *heads[name])


NAMES = ("textures-average", "textures-max", "textures-linear", "textures-tokens", "disc-size")


def scenes(name: str, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures as the network takes them, and what it should answer."""
    drawn, answers = [], []
    for seed in range(first, first + count):
        scene = sized(seed) if name == "disc-size" else textured(seed, TEXTURES[seed % len(TEXTURES)])
        drawn.append(scene.pixels.transpose(2, 0, 1))
        answers.append(scene.value if name == "disc-size" else seed % len(TEXTURES))
    x = (torch.from_numpy(np.stack(drawn)).float() - 128) / 64
    return x, torch.tensor(answers, dtype=torch.float32 if name == "disc-size" else torch.int64)


def train(name: str) -> nn.Sequential:
    """Return the trained network."""
    x, wanted = scenes(name, FIRST, PICTURES)
    held, held_wanted = scenes(name, 2 * FIRST, HELD)
    model, epochs = build(name), LONGER if name == "textures-tokens" else EPOCHS
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=epochs * (PICTURES // BATCH))
    order = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(PICTURES, generator=order).split(BATCH):
            out = model(x[batch])
            loss = (
                nn.functional.mse_loss(out[:, 0], wanted[batch])
                if name == "disc-size"
                else nn.functional.cross_entropy(out, wanted[batch])
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            plan.step()
            total += float(loss.detach())
        print(f"{name}: {epoch + 1}/{epochs} loss {total * BATCH / PICTURES:.4f}", file=sys.stderr, flush=True)
    with torch.no_grad():
        out = model.eval()(held)
    if name == "disc-size":
        print(f"{name}: held out, mean error {float((out[:, 0] - held_wanted).abs().mean()):.3f} % of the picture")
    else:
        print(f"{name}: held out, {float((out.argmax(1) == held_wanted).float().mean()):.1%} right")
    return model


def export(name: str, model: nn.Sequential) -> bytes:
    """Return the file, with the last value in front of the head; of the transformer what its last attention reads."""
    kind, at = ("LayerNormalization", -3) if name == "textures-tokens" else ("Relu", 3)
    return written(model, "image", (3, 96, 96), "size" if name == "disc-size" else "logits", kind, at)


def main(names: list[str]) -> int:
    """Train and write."""
    return run(names or NAMES, lambda name: export(name, train(name)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
