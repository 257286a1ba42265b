"""Logits that start low: what the last convolution's bias says of how they were trained.

A focal loss has every class begin at a probability of 0.01, a bias of log(0.01 / 0.99) = -4.6, since hardly any
candidate is a thing (Lin 2017, arXiv:1708.02002); an objectness begins as low. Training leaves it about there. A
Softmax has a class that stands for nothing, whose logit is the highest of all at most candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from cam_onnx.graph.heads import VIEWS

__all__ = ["focal"]

EACH, MEAN = -1.0, -2.0  # at most: of each class, of all; the untrained are at -4.6, those of a Softmax around 0


def focal(values: Sequence[ir.Value], each: int, only: int | None = None) -> bool:
    """Whether the logits of all classes start low; `each`: numbers of a candidate, `only`: this one of each."""
    found = [bias for value in values for bias in _biases(value)]
    if not found or any(bias is None or bias.size % each for bias in found):
        return False
    classes = np.concatenate([bias.reshape(-1, each) for bias in found if bias is not None])
    if only is not None:
        return bool(classes[:, only].max() < MEAN)
    return bool(classes.mean(axis=0).max() < EACH and classes.mean() < MEAN)


def _biases(value: ir.Value) -> list[NDArray[np.float32] | None]:
    """Return the biases of the convolutions behind views and joints that give a value; None: one is not known."""
    node = value.producer()
    while node is not None and node.op_type in VIEWS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None:
        return [None]
    if node.op_type == "Concat":
        return [bias for x in node.inputs for bias in ([None] if x is None else _biases(x))]
    bias = node.inputs[2] if node.op_type == "Conv" and len(node.inputs) > 2 else None
    known = None if bias is None else bias.const_value
    return [None if known is None else known.numpy().astype(np.float32).reshape(-1)]
