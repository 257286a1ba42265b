"""Networks of torchvision with seeded weights: a converted file beside the plain one, and both beside PyTorch.

They need the extra `zoo`. Exports are kept in build/benchmarks/.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Pair, benchmark
from benchmarks.networks import beside_plain

__all__: list[str] = []

KEPT = Path(__file__).parent.parent / "build" / "benchmarks"
CLASS = 281
ZOO = ("torch", "torchvision", "pytorch_grad_cam")

CONVOLUTIONAL = ["resnet18", "resnet50", "mobilenet_v3_large", "efficientnet_b0", "densenet121", "convnext_tiny"]
LAST_GRID = [*CONVOLUTIONAL, "swin_t"]
# network -> what the input gradient may cost over the plain model
INPUT_GRADIENT = {"resnet18": 2.4, "resnet50": 2.4, "vgg11": 2.4, "densenet121": 3.0} | dict.fromkeys(
    ["mobilenet_v3_large", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t"], 4.0
)
# network -> ours over pytorch-grad-cam's, at most
GRAD_CAM = dict.fromkeys(CONVOLUTIONAL, 1 / 4) | {"swin_t": 1 / 3, "vit_b_16": 1 / 2.7}


@cache
def torch_network(name: str) -> Any:
    """Return the network, in evaluation mode."""
    from tools.zoo.export import make
    from tools.zoo.networks import NETWORKS

    return make(NETWORKS[f"torchvision/{name}"])


@cache
def exported(name: str) -> bytes:
    """Return the network's file."""
    path = KEPT / f"{name}.onnx"
    if not path.exists():
        from cam_onnx import files
        from tools.zoo.export import export, pictures
        from tools.zoo.networks import NETWORKS

        network, model = NETWORKS[f"torchvision/{name}"], torch_network(name)
        KEPT.mkdir(parents=True, exist_ok=True)
        files.write(path, export(model, network, pictures(model, network)))
    return path.read_bytes()


def layers(name: str) -> list[str] | None:
    """Return the layer that is named: of a plain transformer the input of its last attention."""
    return [last_attention(exported(name))] if name == "vit_b_16" else None


def last_attention(model: bytes) -> str:
    """Return the normalised tokens that enter the last attention: the last normalisation but two."""
    import onnx

    norms = [n for n in onnx.load_from_string(model).graph.node if n.op_type == "LayerNormalization"]
    return str(norms[-3].output[0])


def grad_cam(name: str, batch: int) -> Callable[[], Pair]:
    return lambda: beside_plain(exported(name), (batch, 3, 224, 224), layers(name))


def input_gradient(name: str) -> Callable[[], Pair]:
    return lambda: beside_plain(exported(name), (1, 3, 224, 224), ["input"])


def beside_eager(name: str) -> Callable[[], Pair]:
    """The input gradient beside PyTorch's forward and backward pass with respect to the input."""

    def prepare() -> Pair:
        import torch

        pair = beside_plain(exported(name), (1, 3, 224, 224), ["input"])
        model = torch_network(name).requires_grad_(False)  # the input's gradient alone
        x = torch.randn((1, 3, 224, 224), generator=torch.Generator().manual_seed(0))

        def eager() -> None:
            given = x.clone().requires_grad_()
            model(given)[0, CLASS].backward()

        return Pair(ours=pair.ours, baseline=eager)

    return prepare


def beside_grad_cam(name: str) -> Callable[[], Pair]:
    """A tensor in, a map of its size out, on both sides."""

    def prepare() -> Pair:
        import torch
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        import cam_onnx

        model = torch_network(name).requires_grad_(True)  # as a model comes
        if name == "densenet121":  # its last ReLU is no module, and works in place on what a hook has kept
            pool, flatten = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
            model = torch.nn.Sequential(model.features, torch.nn.ReLU(), pool, flatten, model.classifier)
        layer, tokens = target_layer(model, name)
        theirs = GradCAM(model=model, target_layers=[layer], reshape_transform=tokens)
        explainer = cam_onnx.Explainer(exported(name), layers=layers(name), providers="cpu")
        x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
        given = torch.from_numpy(x)
        ours = explainer.explain(inputs={"input": x}, target=CLASS).saliency_map[0]
        reference = theirs(input_tensor=given, targets=[ClassifierOutputTarget(CLASS)])[0]
        alike = np.corrcoef(ours.ravel(), reference.ravel())[0, 1]
        assert alike > 0.99, f"the two maps of {name} differ: correlation {alike:.3f}"
        return Pair(
            ours=lambda: explainer.explain(inputs={"input": x}, target=CLASS).saliency_map,
            baseline=lambda: theirs(input_tensor=given, targets=[ClassifierOutputTarget(CLASS)]),
        )

    return prepare


def target_layer(model: Any, name: str) -> tuple[Any, Any]:
    """Return the layer that our default is, and what brings its value to (N, K, H, W)."""
    if name.startswith("resnet"):
        return model.layer4[-1], None
    if name == "vit_b_16":
        return model.encoder.layers[-1].ln_1, lambda t: t[:, 1:].transpose(1, 2).reshape(len(t), -1, 14, 14)
    if name == "swin_t":
        return model.permute, None
    if name == "densenet121":
        return model[1], None
    return model.features[-1], None


def register() -> None:
    for name in LAST_GRID:
        for batch in (1, 8):
            entry = benchmark(
                f"grad-cam/{name}-b{batch}", kind="ratio", goal=1.05, rounds=25 if batch == 1 else 9, needs=ZOO
            )
            entry(said(grad_cam(name, batch), f"Grad-CAM at the last grid over the plain model, batch {batch}."))
    entry = benchmark("grad-cam/vit_b_16-b1", kind="ratio", goal=1.2, rounds=15, needs=ZOO)
    entry(said(grad_cam("vit_b_16", 1), "Grad-CAM at the input of the last attention over the plain model."))
    for name, most in GRAD_CAM.items():
        entry = benchmark(f"beside-pytorch-grad-cam/{name}", kind="ratio", goal=most, rounds=11, needs=ZOO)
        entry(said(beside_grad_cam(name), "A Grad-CAM map from a tensor, over pytorch-grad-cam's."))
    for name, most in INPUT_GRADIENT.items():
        entry = benchmark(f"input-gradient/{name}", kind="ratio", goal=most, rounds=15, needs=ZOO)
        entry(said(input_gradient(name), "The input gradient over the plain model."))
    for name in INPUT_GRADIENT:
        entry = benchmark(f"beside-eager/{name}", kind="ratio", goal=1 / 1.2, rounds=11, needs=ZOO)
        entry(said(beside_eager(name), "The input gradient over PyTorch's forward and input-backward pass, eager."))


def said(prepare: Callable[[], Pair], text: str) -> Callable[[], Pair]:
    """Give a function its description."""
    prepare.__doc__ = text
    return prepare


register()
