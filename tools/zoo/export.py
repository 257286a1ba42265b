"""A network of PyTorch with seeded weights that let a gradient through, and its ONNX file.

With arbitrary statistics of BatchNormalization the gradient of a deep network underflows to 1e-15 and a comparison
says nothing: they come from one training-mode pass over noise. Parameters that start at (nearly) zero, such as last
layers and layer scales, would hide a whole branch: they are drawn.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import torch
from torch import nn

from tools.zoo.networks import Network

__all__ = ["SAMPLES", "export", "make", "pictures"]

SAMPLES, SMALL = 8, 128
torch.backends.mha.set_fastpath_enabled(False)  # an operator of its own, which no exporter knows
SIZES = {  # that a network needs, or that is cheaper than its own
    "bat_resnext26ts": 256,
    "halonet26t": 256,
    "inception_v3": 299,
    "swin_v2_t": 256,
    "vit_small_patch14_reg4_dinov2": 224,
}


def make(network: Network) -> nn.Module:
    """Return the network in evaluation mode."""
    torch.manual_seed(0)
    model = {"timm": _timm, "torchvision": _torchvision, "task": _task}[network.library](network.model)
    model.requires_grad_(False)
    _draw_what_starts_at_zero(model)
    _settle_statistics(model, pictures(model, network))
    return model.eval()


def pictures(model: nn.Module, network: Network) -> torch.Tensor:
    """Return seeded noise of the network's input shape, one sample a row."""
    return torch.randn((SAMPLES, *_shape(model, network)), generator=torch.Generator().manual_seed(1))


def _timm(name: str) -> nn.Module:
    import timm

    size = {"img_size": 224} if name == "vit_small_patch14_reg4_dinov2" else {}  # its own is 518
    made: nn.Module = timm.create_model(name, pretrained=False, exportable=True, **size)
    return made


def _torchvision(name: str) -> nn.Module:
    import torchvision

    options = {
        "googlenet": {"init_weights": True, "aux_logits": False},
        "inception_v3": {"init_weights": True, "aux_logits": True},
    }
    made: nn.Module = torchvision.models.get_model(name, weights=None, **options.get(name, {}))
    return made


class _Only(nn.Module):
    """The part of a network's output that is a dense tensor: ``out`` of segmentation, class logits of a detector."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(self.inner, "head"):
            out: torch.Tensor = self.inner(x)["out"]
            return out.mean((2, 3))
        features = list(self.inner.backbone(x).values())
        heads = self.inner.head(features)
        return torch.cat([v.flatten(1) for _, v in sorted(heads.items())], 1)


def _task(name: str) -> nn.Module:
    from torchvision.models import detection, segmentation, video

    if name in ("r3d_18", "mc3_18"):
        made: nn.Module = getattr(video, name)(weights=None)
        return made
    if name == "ssdlite":
        return _Only(detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None))
    if name == "retinanet":
        return _Only(detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None))
    if name == "fcos":
        return _Only(detection.fcos_resnet50_fpn(weights=None, weights_backbone=None))
    return _Only(getattr(segmentation, name)(weights=None, weights_backbone=None))


def _shape(model: nn.Module, network: Network) -> tuple[int, ...]:
    if network.library == "timm":
        if network.model in SIZES:
            return (3, SIZES[network.model], SIZES[network.model])
        if not model.default_cfg["fixed_input_size"]:
            return (3, SMALL, SMALL)  # float64 is slow, and a gradient no less wrong in a small picture
        return tuple(model.default_cfg["input_size"])
    if network.model in ("r3d_18", "mc3_18"):
        return (3, 8, 112, 112)
    if network.library == "task":
        return (3, 128, 128)
    size = SIZES.get(network.model, 224)
    return (3, size, size)


def _draw_what_starts_at_zero(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.numel() > 1 and parameter.abs().max() < 1e-3:
            nn.init.normal_(parameter, std=0.1 if parameter.ndim < 2 else 0.02)


def _settle_statistics(model: nn.Module, x: torch.Tensor) -> None:
    model.eval()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [m.momentum for m in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    if norms:
        model(x)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    model.eval()


def export(model: nn.Module, network: Network, x: torch.Tensor) -> bytes:
    """Return the file's bytes, with a dynamic batch where the exporter can."""
    try:
        return _export(model, network, x[:2], dynamic=True)
    except Exception:  # noqa: BLE001  (exporters raise what they like; the second failure is the one to show)
        return _export(model, network, x[:1], dynamic=False)


def _export(model: nn.Module, network: Network, x: torch.Tensor, dynamic: bool) -> bytes:
    options: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"], "opset_version": network.opset}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if network.exporter == "torchscript":
            written = io.BytesIO()
            axes = {"input": {0: "batch"}, "output": {0: "batch"}} if dynamic else None
            torch.onnx.export(model, (x,), written, dynamo=False, dynamic_axes=axes, **options)
            return written.getvalue()
        shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
        program = torch.onnx.export(model, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False, **options)
        assert program is not None
        data: bytes = program.model_proto.SerializeToString()
        return data
