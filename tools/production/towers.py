"""Networks of the package transformers with seeded weights, as the optimiser of transformers knows them.

They are exported by tracing. The optimiser recognises the attention of a ViT where its scores are divided by a root,
as the package's releases up to 4.47 wrote them, and not where queries are scaled, as later ones do.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

__all__ = ["KINDS", "export", "make"]

DIVIDED = "divided"


def _divided(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    weights = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


ALL_ATTENTION_FUNCTIONS.register(DIVIDED, _divided)


class _Only(nn.Module):
    """One field of what the network gives."""

    def __init__(self, inner: nn.Module, field: str) -> None:
        super().__init__()
        self.inner, self.field = inner, field

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = getattr(self.inner(pixels), self.field)
        return found


def _vit(width: int, heads: int, layers: int, size: int, patch: int) -> nn.Module:
    settings = _tower(width, heads, layers, size, patch) | {"num_labels": 20, "attn_implementation": DIVIDED}
    return _Only(transformers.ViTForImageClassification(transformers.ViTConfig(**settings)), "logits")


def _clip(width: int, heads: int, layers: int, size: int, patch: int) -> nn.Module:
    settings = _tower(width, heads, layers, size, patch) | {"projection_dim": 20, "attn_implementation": "eager"}
    config = transformers.CLIPVisionConfig(**settings)
    return _Only(transformers.CLIPVisionModelWithProjection(config), "image_embeds")


def _swin(width: int, heads: int, layers: int, size: int, patch: int) -> nn.Module:
    config = transformers.SwinConfig(
        image_size=size, patch_size=patch, embed_dim=width, depths=[2] * layers, num_labels=20, window_size=size // 32,
        num_heads=[heads * 2**i for i in range(layers)], attn_implementation="eager", initializer_range=0.06,
    )  # fmt: skip
    return _Only(transformers.SwinForImageClassification(config), "logits")


def _tower(width: int, heads: int, layers: int, size: int, patch: int) -> dict[str, Any]:
    return dict(
        hidden_size=width, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=4 * width,
        image_size=size, patch_size=patch, initializer_range=0.06,
    )  # fmt: skip


# model type -> how it is made, and width, heads, layers (swin: stages), side of the picture, side of a patch
KINDS: dict[str, tuple[Callable[..., nn.Module], tuple[int, int, int, int, int]]] = {
    "vit": (_vit, (192, 3, 12, 224, 16)),
    "clip": (_clip, (384, 6, 12, 224, 32)),
    "swin": (_swin, (48, 3, 4, 224, 4)),
}


def make(kind: str, *sizes: int) -> nn.Module:
    """Return a network in evaluation mode; `sizes`: other ones than `KINDS` has."""
    torch.manual_seed(0)
    function, usual = KINDS[kind]
    return function(*(sizes or usual)).eval()


def export(kind: str, *sizes: int) -> bytes:
    """Return its file, traced, with a dynamic batch."""
    model, written, side = make(kind, *sizes), io.BytesIO(), (sizes or KINDS[kind][1])[3]
    axes = {"input": {0: "batch"}, "output": {0: "batch"}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(2, 3, side, side),), written, dynamo=False, opset_version=17,
            input_names=["input"], output_names=["output"], dynamic_axes=axes,
        )  # fmt: skip
    return written.getvalue()
