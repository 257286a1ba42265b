"""Train a detector and a segmentation on synthetic pictures, into models/: ``python -m models.train_places [NAME...]``.

Both stand on the layers of textures-average.onnx in front of its pooling, which stay as they are; only what is behind
is trained (extra ``zoo``, some minutes on a CPU, seeded). The detector's rows are laid out as YOLO v8's are: (N, 4 + C,
cells), centre and size in pixels, one Sigmoid a class. Another CPU may round otherwise and end with other weights: the
files in models/ are what sha256.txt says.
"""

from __future__ import annotations

import sys

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional

from models.synthetic import SIDE, TEXTURES, textured
from models.train import FIRST, features
from models.written import MODELS, run
from models.written import export as written

BATCH, STRIDE = 40, 8
PLAN = {"texture-boxes": (1600, 12), "texture-areas": (600, 10)}  # pictures and epochs
CELLS = SIDE // STRIDE


def trunk() -> nn.Sequential:
    """Return the first layers of textures-average, with its weights."""
    network = nn.Sequential(*features())
    proto = onnx.load(str(MODELS / "textures-average.onnx"))
    weights = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in proto.graph.initializer}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    for layer, node in zip([m for m in network if isinstance(m, nn.Conv2d)], convolutions, strict=True):
        layer.weight.data, layer.bias.data = weights[node.input[1]], weights[node.input[2]]
    return network.requires_grad_(False)


def head(out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(32, 48, 3, stride=stride, padding=1), nn.ReLU(),
        nn.Conv2d(48, 48, 3, padding=1), nn.ReLU(), nn.Conv2d(48, out, 1),
    )  # fmt: skip


class Segmentation(nn.Module):
    """The ground and four textures at every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = trunk(), head(1 + len(TEXTURES), 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(self.head(self.trunk(image)), scale_factor=4, mode="bilinear")


class Detector(nn.Module):
    """A box and four textures at every cell of 8 x 8 pixels."""

    places: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = trunk(), head(4 + len(TEXTURES), 2)
        y, x = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
        self.register_buffer("places", torch.stack([x, y]).reshape(1, 2, -1).float() + 0.5)

    def raw(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return centres and sizes in pixels, and logits, (N, ..., cells)."""
        rows = self.head(self.trunk(image)).flatten(2)
        return (rows[:, :2] + self.places) * STRIDE, rows[:, 2:4].exp() * STRIDE, rows[:, 4:]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        centres, sizes, logits = self.raw(image)
        return torch.cat([centres, sizes, logits.sigmoid()], dim=1)


def scenes(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures with one or two objects as the networks take them, and the class of every pixel."""
    drawn, classes = [], []
    for seed in range(first, first + count):
        pair = (TEXTURES[seed % 4], TEXTURES[(seed // 4 + seed + 1) % 4])
        scene = textured(seed, *dict.fromkeys(pair[: 1 + seed % 2]))
        drawn.append(scene.pixels.transpose(2, 0, 1))
        classes.append(sum((1 + TEXTURES.index(name)) * mask for name, mask in scene.masks.items()))
    x = (torch.from_numpy(np.stack(drawn)).float() - 128) / 64
    return x, torch.from_numpy(np.stack(classes).astype(np.int64))


def placed(classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the detector should say of the cell in the middle of each object: boxes (N, 4, cells), classes."""
    boxes = torch.zeros(len(classes), 4, CELLS * CELLS)
    found = torch.zeros(len(classes), len(TEXTURES), CELLS * CELLS)
    for i, each in enumerate(classes):
        for c in range(len(TEXTURES)):
            y, x = torch.nonzero(each == c + 1, as_tuple=True)
            if len(y):
                x0, y0, x1, y1 = (float(v) for v in (x.min(), y.min(), x.max() + 1, y.max() + 1))
                cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
                cell = int(cy // STRIDE) * CELLS + int(cx // STRIDE)
                boxes[i, :, cell] = torch.tensor([cx, cy, x1 - x0, y1 - y0])
                found[i, c, cell] = 1
    return boxes, found


def loss_of(model: nn.Module, x: torch.Tensor, wanted: tuple[torch.Tensor, ...]) -> torch.Tensor:
    if isinstance(model, Detector):
        centres, sizes, logits = model.raw(x)
        boxes, found = wanted
        there = found.amax(dim=1, keepdim=True)
        apart = ((centres - boxes[:, :2]) / STRIDE).abs() + (sizes.log() - boxes[:, 2:].clamp(min=1).log()).abs()
        sure = logits.sigmoid()
        focal = functional.binary_cross_entropy_with_logits(logits, found, reduction="none") * (found - sure) ** 2
        return ((apart * there).sum() + 4 * focal.sum()) / there.sum()
    return functional.cross_entropy(model(x), wanted[0])


def train(name: str) -> nn.Module:
    """Return the trained network."""
    torch.manual_seed(0)
    model: nn.Module = Detector() if name == "texture-boxes" else Segmentation()
    pictures, epochs = PLAN[name]
    x, classes = scenes(3 * FIRST, pictures)
    wanted = placed(classes) if name == "texture-boxes" else (classes,)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=2e-3, weight_decay=1e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=epochs * (pictures // BATCH))
    order = torch.Generator().manual_seed(0)
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(pictures, generator=order).split(BATCH):
            loss = loss_of(model, x[batch], tuple(each[batch] for each in wanted))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            plan.step()
            total += float(loss.detach())
        print(f"{name}: {epoch + 1}/{epochs} loss {total * BATCH / pictures:.4f}", file=sys.stderr, flush=True)
    return model.eval()


def export(name: str, model: nn.Module) -> bytes:
    """Return the file, with the last value in front of the head."""
    return written(model, "image", (3, SIDE, SIDE), "rows" if name == "texture-boxes" else "classes", at=3)


def main(names: list[str]) -> int:
    """Train and write."""
    return run(names or PLAN, lambda name: export(name, train(name)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
