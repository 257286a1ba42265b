"""What is compared on: networks of PyTorch with seeded or trained weights, their files, and the layer in both."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from models import train
from models.synthetic import textured
from tools.zoo.export import export, make, pictures
from tools.zoo.networks import Network

__all__ = ["NETWORKS", "Case", "load"]

MODELS = Path(train.__file__).parent

NETWORKS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "textures-average": lambda m: m[8],
    "textures-linear": lambda m: m[8],
    "resnet18": lambda m: m.layer4,
    "mobilenet_v2": lambda m: m.features[-1],
    "vgg11_bn": lambda m: m.features[27],
    "vit_tiny_patch16_224": lambda m: m.blocks[-1].norm1,
}
"""Network to the module whose output is the target layer."""


@dataclass(frozen=True)
class Case:
    """A network as a module and as a file, with its layer, pictures and the classes that are explained."""

    name: str
    model: nn.Module
    layer: nn.Module
    data: bytes
    value: str
    x: torch.Tensor
    classes: list[int]

    @property
    def tokens(self) -> bool:
        return self.name.startswith("vit")

    @property
    def steps(self) -> int:
        """Of integrated gradients: our default where it is cheap."""
        return 32 if self.name.startswith("textures") else 12

    @property
    def bends(self) -> bool:
        """Whether it has the module that captum bends."""
        return any(isinstance(module, nn.ReLU) for module in self.model.modules())

    def several(self) -> Case:
        """Return the case with eight pictures, one of them its own, and the classes that the network sees there."""
        rng = np.random.default_rng(1)
        more = torch.from_numpy(rng.standard_normal((7, *self.x.shape[1:]), np.float32))
        x = torch.cat([self.x[:1], more * self.x.std() + self.x.mean()])
        with torch.no_grad():
            classes = [int(c) for c in self.model(x).argmax(1)]
        return replace(self, x=x, classes=classes)

    def only(self, i: int) -> Case:
        """Return the case with one of its pictures."""
        return replace(self, x=self.x[i : i + 1], classes=self.classes[i : i + 1])

    def double(self) -> Case:
        """Return the case in float64, for what reads the model and the picture alone."""
        return replace(self, model=copy.deepcopy(self.model).double(), x=self.x.double())

    def grid(self, values: torch.Tensor) -> torch.Tensor:
        """Return patches (N, T, K) on their grid, without the class token; anything else as it is."""
        if not self.tokens or values.ndim != 3:
            return values
        side = int((values.shape[1] - 1) ** 0.5)
        return values[:, 1:].reshape(len(values), side, side, -1).permute(0, 3, 1, 2)


def load(name: str) -> Case:
    """Return the case; weights of the small networks are the file's, of the others seeded."""
    count = 2 if name.startswith("textures") else 1
    if name.startswith("textures"):
        data = (MODELS / f"{name}.onnx").read_bytes()
        model: nn.Module = train.build(name)
        weights = {t.name: onnx.numpy_helper.to_array(t).copy() for t in onnx.load_from_string(data).graph.initializer}
        model.load_state_dict({key: torch.from_numpy(weights[key]) for key in model.state_dict()})
        scenes = [textured(0, "bars"), textured(8, "bars", "checks")]
        x = torch.from_numpy(np.stack([s.pixels.transpose(2, 0, 1) for s in scenes])).float()
        x = (x[:count] - 128) / 64
    else:
        network = Network("timm" if name.startswith("vit") else "torchvision", name, "torchscript", 17)
        model = make(network)
        x = pictures(model, network)[:count]
        data = export(model, network, x if len(x) > 1 else x.repeat(2, 1, 1, 1))
    model.eval().requires_grad_(True)
    for module in model.modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6)):
            module.inplace = False
    layer = NETWORKS[name](model)
    kept: list[torch.Tensor] = []
    handle = layer.register_forward_hook(lambda module, given, output: kept.append(output))
    with torch.no_grad():
        classes = [int(c) for c in model(x).argmax(1)]
    handle.remove()
    return Case(name, model, layer, data, _value(data, x.numpy(), kept[0].numpy()), x, classes)


def _value(data: bytes, x: Any, wanted: Any) -> str:
    """Return the name of the graph's value that has this content: the last one, as the layer's users read it."""
    import onnxruntime

    proto = onnx.load_from_string(data)
    inputs = [value.name for value in proto.graph.input]
    names = [name for node in proto.graph.node for name in node.output if name]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for name, found in reversed(list(zip(names, session.run(None, {inputs[0]: x}), strict=True))):
        if getattr(found, "shape", None) == wanted.shape and abs(found - wanted).max() <= 1e-3 * abs(wanted).max():
            return str(name)
    raise LookupError("no value of the graph is what the layer gives")
