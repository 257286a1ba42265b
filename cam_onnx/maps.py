"""From evidence to maps: what the method says of every layer, laid over every sample."""

from __future__ import annotations

from typing import Any

from cam_onnx.engine.evidence import Evidence, LayerEvidence
from cam_onnx.engine.samples import Samples
from cam_onnx.errors import InputError
from cam_onnx.explanation import Array, LayerExplanation
from cam_onnx.methods.normalize import fuse, saliency_map
from cam_onnx.methods.saliency import saliency, weights
from cam_onnx.methods.table import Method

__all__ = ["draw"]


def draw(
    evidence: Evidence, samples: Samples, owner: list[int], method: Method, relu: bool | None, normalize: str | None
) -> dict[str, Any]:
    """Return `layers`, `saliency_map` and `reasons` of an `Explanation`; entry i is about sample ``owner[i]``."""
    drop = method.relu if relu is None else relu
    sizes: Any = [samples.sizes[i] for i in owner]
    sizes = sizes[0] if len(set(sizes)) == 1 else sizes
    spread = [samples.boxes[i] for i in owner]
    layers, maps, reasons = {}, [], []
    for name, part in evidence.layers.items():
        raw = saliency(part.activations, part.gradients, method.name)
        drawn, why = saliency_map(raw, relu=drop, size=sizes, box=spread, normalize=normalize)
        layers[name] = LayerExplanation(part.activations, part.gradients, _weights(part, method.name), raw)
        maps.append(drawn)
        reasons.append(why)
    return {
        "layers": layers,
        "saliency_map": maps[0] if len(maps) == 1 else _fused(maps),
        "reasons": [None if None in column else column[0] for column in zip(*reasons, strict=True)],
    }


def _weights(part: LayerEvidence, method: str) -> Array | None:
    try:
        return weights(part.activations, part.gradients, method)
    except InputError:
        return None  # the method makes the map itself


def _fused(maps: list[Any]) -> Any:
    return [fuse(column) for column in zip(*maps, strict=True)] if isinstance(maps[0], list) else fuse(maps)
