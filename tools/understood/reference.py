"""What a framework says of its own network: the last grid before pooling, in the picture's order, and the output.

timm tells by `forward_features`; of torchvision's networks the module that stands before the pooling is named. Where
a class token is read the last grid has no influence on the score: then what the last attention reads counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from tools.zoo.networks import Network

__all__ = ["reference"]

Array = np.ndarray[Any, np.dtype[Any]]

BEFORE_POOLING = {
    "alexnet": "features",
    "densenet121": "",
    "googlenet": "inception5b",
    "inception_v3": "Mixed_7c",
    "mc3_18": "layer4",
    "r3d_18": "layer4",
    "maxvit_t": "blocks.3",
    "mnasnet0_5": "layers",
    "mobilenet_v2": "features",
    "regnet_x_400mf": "trunk_output",
    "regnet_y_400mf": "trunk_output",
    "shufflenet_v2_x0_5": "conv5",
    "squeezenet1_0": "classifier.2",
    "squeezenet1_1": "classifier.2",
    "swin_t": "permute",
    "swin_v2_t": "permute",
    "vgg11": "features",
    "vgg11_bn": "features",
    "vit_b_16": "encoder",
    "vit_b_32": "encoder",
}
ATTENTIONS = ("attn", "attention", "classblock", "gpsa", "mhsa")
RESNETS = ("resnet", "resnext", "wide_resnet")


def reference(model: nn.Module, network: Network, x: torch.Tensor) -> dict[str, Array]:
    """Return `output`, `features` (N, K, h, w), where the score's gradient lies there, `pooled` and `entering`.

    `pooled`: what the pooling reads; `entering`: the grid's part of what the last attention reads, `entering1`: of its
    block.
    """
    read: dict[str, torch.Tensor] = {}

    def watch(what: str) -> Any:
        return lambda _, given, __: read.__setitem__(what, given[0]) if given else None

    handles = []
    for name, module in model.named_modules():
        kind = type(module).__name__.lower()
        if name.endswith(("global_pool", "avgpool")):
            handles.append(module.register_forward_hook(watch("pooled")))
        if any(word in kind for word in ATTENTIONS):
            handles.append(module.register_forward_hook(watch("entering1" if "block" in kind else "entering")))
    features, output = (_timm if network.library == "timm" else _torchvision)(model, network, x)
    for handle in handles:
        handle.remove()
    found = {"x": x.detach().numpy(), "output": output.detach().numpy()}
    mixed = (output * torch.linspace(-1, 2, output.shape[-1])).sum()  # the plain sum of a LayerNorm is constant
    for at, each in enumerate(features):
        grid = _laid_out(each.detach(), model)
        if grid is None:
            continue
        found[f"features{at or ''}"] = grid
        [gradient] = torch.autograd.grad(mixed, [each], retain_graph=True, allow_unused=True)
        if gradient is not None:
            alive = _laid_out(gradient.abs(), model)
            assert alive is not None
            found[f"alive{at or ''}"] = (alive > 0).any(1)
    for name, value in read.items():
        if isinstance(value, torch.Tensor) and (grid := _laid_out(value.detach(), model)) is not None:
            found[name] = grid
    return found


def _timm(model: nn.Module, network: Network, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    found = model.forward_features(x.clone().requires_grad_())
    output = model.forward_head(found)
    return list(found) if isinstance(found, (list, tuple)) else [found], output


def _torchvision(model: nn.Module, network: Network, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    kept: list[torch.Tensor] = []
    name = BEFORE_POOLING.get(network.model, "layer4" if network.model.startswith(RESNETS) else "features")
    modules = dict(model.named_modules())
    if name:
        handle = modules[name].register_forward_hook(lambda _, __, y: kept.append(y))
        output = model(x.clone().requires_grad_())
        handle.remove()
    else:  # densenet: a ReLU of no module stands between
        kept.append(torch.relu(model.features(x.clone().requires_grad_())))
        output = model.classifier(kept[0].mean((2, 3)))
    return kept, output


def _laid_out(value: torch.Tensor, model: nn.Module) -> Array | None:
    """Return (N, K, h, w): channels last are put second, and a list is laid out, without what stands before it."""
    width = getattr(model, "num_features", None)
    if value.ndim == 4:
        last = width is not None and value.shape[-1] == width and value.shape[1] != width
        return np.asarray(value.permute(0, 3, 1, 2) if last else value)
    if value.ndim == 5:
        return np.asarray(value)
    if value.ndim != 3:
        return None
    count = value.shape[1]
    for before in (getattr(model, "num_prefix_tokens", 0), 0, 1, 2, 5):
        side = round(max(count - before, 0) ** 0.5)
        if side > 1 and side * side == count - before:
            return np.asarray(value[:, before:].transpose(1, 2).unflatten(2, (side, side)))
    return None
