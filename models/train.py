"""Train the small networks on synthetic pictures, into models/: ``python -m models.train [NAME...]`` (extra ``zoo``).

Minutes on a CPU, seeded. `textures-average` and `textures-max` differ in nothing but their global pooling: what their
maps differ in comes from that. `textures-linear` ends in fully connected layers; `disc-size` has one output, a number.
Another CPU may round otherwise and end with other weights: the files in models/ are what sha256.txt says.
"""

from __future__ import annotations

import io
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from models.synthetic import TEXTURES, sized, textured

MODELS = Path(__file__).parent
PICTURES, HELD, EPOCHS, BATCH = 3000, 400, 14, 50
FIRST = 1_000_000  # seeds below are for tests and documentation


def features() -> list[nn.Module]:
    """Return the layers in front of the head: 96 x 96 pictures to 32 channels of 24 x 24."""
    return [
        nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip


def build(name: str) -> nn.Sequential:
    """Return the network called `name`, with seeded weights."""
    torch.manual_seed(0)
    kinds = len(TEXTURES)
    heads: dict[str, list[nn.Module]] = {
        "textures-average": [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, kinds)],
        "textures-max": [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, kinds)],
        "textures-linear": [nn.MaxPool2d(4), nn.Flatten(), nn.Linear(32 * 36, 32), nn.ReLU(), nn.Linear(32, kinds)],
        "disc-size": [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 1)],
    }
    return nn.Sequential(*features(), *heads[name])


NAMES = ("textures-average", "textures-max", "textures-linear", "disc-size")


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
    model = build(name)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=EPOCHS * (PICTURES // BATCH))
    order = torch.Generator().manual_seed(0)
    for epoch in range(EPOCHS):
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
        print(f"{name}: {epoch + 1}/{EPOCHS} loss {total * BATCH / PICTURES:.4f}", file=sys.stderr, flush=True)
    with torch.no_grad():
        out = model.eval()(held)
    if name == "disc-size":
        print(f"{name}: held out, mean error {float((out[:, 0] - held_wanted).abs().mean()):.3f} % of the picture")
    else:
        print(f"{name}: held out, {float((out.argmax(1) == held_wanted).float().mean()):.1%} right")
    return model


def export(name: str, model: nn.Sequential) -> bytes:
    """Return the file: opset 17, a dynamic batch, the last value in front of the head called ``features``."""
    written = io.BytesIO()
    output = "size" if name == "disc-size" else "logits"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(1, 3, 96, 96),), written, dynamo=False, opset_version=17, input_names=["image"],
            output_names=[output], dynamic_axes={"image": {0: "batch"}, output: {0: "batch"}},
        )  # fmt: skip
    proto = onnx.load_from_string(written.getvalue())
    last = [node for node in proto.graph.node if node.op_type == "Relu"][3].output[0]
    for node in proto.graph.node:
        node.doc_string = ""
        for names in (node.input, node.output):
            names[:] = ["features" if value == last else value for value in names]
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString()
    return data


def main(names: list[str]) -> int:
    """Train and write."""
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    for name in names or NAMES:
        started = time.perf_counter()
        path = MODELS / f"{name}.onnx"
        path.write_bytes(export(name, train(name)))
        print(f"{path.name}: {path.stat().st_size:,} bytes, {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
