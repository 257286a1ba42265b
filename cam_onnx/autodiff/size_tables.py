"""Sizes in rows and columns, on their way from one vector to another.

PyTorch's older exporter turns paddings around so: two a row, the rows from the last, columns one behind the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from cam_onnx.autodiff.entries import Sizes

__all__ = ["KINDS", "Table", "arranged", "table_of"]

Table = NDArray[np.object_]

KINDS = {"Reshape", "Slice", "Transpose"}


def table_of(sizes: Sizes) -> Table:
    """Return a vector of sizes as an array."""
    made: Table = np.empty(len(sizes), object)
    made[:] = sizes
    return made


def arranged(node: ir.Node, x: Table, numbers: Sequence[Sequence[int] | None]) -> Table | None:
    """Return what a node of `KINDS` makes of `x`; `numbers` are what its other inputs hold."""
    if node.op_type == "Transpose":
        perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(x.ndim)[::-1]
        return x.transpose(tuple(perm))
    known = [each for each in numbers if each is not None]
    if len(known) < len(numbers):
        return None
    if node.op_type == "Reshape" and len(known) == 1 and 0 not in known[0]:
        rest, open_ = math.prod(n for n in known[0] if n != -1), known[0].count(-1)
        fits = open_ == 1 and x.size % rest == 0 if open_ else rest == x.size
        return x.reshape(tuple(known[0])) if fits else None
    if node.op_type == "Slice" and len(known) >= 3:
        steps = known[3] if len(known) > 3 else [1] * len(known[2])
        for axis, start, end, step in zip(known[2], known[0], known[1], steps, strict=True):
            if step == 0 or not -x.ndim <= axis < x.ndim:
                return None
            x = x.take(list(range(x.shape[axis])[start:end:step]), axis)
        return x
    return None
