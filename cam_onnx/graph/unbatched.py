"""Pictures without a batch axis: (C, H, W) or (H, W, C), to which the graph itself adds one.

Three axes are a signal's as well, (N, C, L). What tells them apart is the graph: the axis in front that a picture lacks
is added before the first convolution.
"""

from __future__ import annotations

import onnx_ir as ir

from cam_onnx.axes import Axes
from cam_onnx.graph.first_axes import ENTRYWISE, widened_axes

__all__ = ["axes_when_whole", "unbatched"]


def unbatched(value: ir.Value) -> str:
    """Return "CHW" or "HWC" for an input that is one picture; "": it is something else."""
    if "unbatched" not in value.meta:  # asked again when what is added behind reads it too
        value.meta["unbatched"] = _order(value)
    return str(value.meta["unbatched"])


def _order(value: ir.Value) -> str:
    if value.shape is None or len(value.shape) != 3:
        return ""
    order, x = [0, 1, 2], value
    for _ in range(64):
        readers = {use.node for use in x.uses()}
        if len(readers) != 1:
            return ""
        node = next(iter(readers))
        y = node.outputs[0]
        if node.op_type in ("Unsqueeze", "Reshape") and y.shape is not None and len(y.shape) == 4:
            return _named(value, order) if y.shape[0] == 1 and _grows_in_front(x, y) else ""
        if node.op_type == "Transpose" and "perm" in node.attributes:
            perm = list(node.attributes["perm"].as_ints())
            order = [order[axis] for axis in perm]
        elif node.op_type not in ENTRYWISE or (y.shape is not None and len(y.shape) != 3):
            return ""
        x = y
    return ""


def axes_when_whole(value: ir.Value) -> Axes | None:
    """Return the axes of an input that lacks one as they are once it has it; None: it lacks none.

    A picture without a batch axis lacks one, and a wave or a spectrogram without channels.
    """
    if value.producer() is not None:
        return None
    if (widened := widened_axes(value)) is not None:
        return widened
    return {"CHW": Axes(0, 1, (2, 3)), "HWC": Axes(0, 3, (1, 2)), "": None}[unbatched(value)]


def _grows_in_front(x: ir.Value, y: ir.Value) -> bool:
    """Whether y is x with one axis more, in front of all."""
    assert y.shape is not None
    if x.shape is None:
        return True
    pairs = zip(x.shape, list(y.shape)[1:], strict=True)
    return all(not isinstance(a, int) or not isinstance(b, int) or a == b for a, b in pairs)


def _named(value: ir.Value, order: list[int]) -> str:
    """Say which axis has the channels: one of 1 or 3, else the one that comes first in the end."""
    assert value.shape is not None
    first, last = (value.shape[axis] in (1, 3) for axis in (0, 2))
    if first != last:
        return "CHW" if first else "HWC"
    return "HWC" if order[0] == 2 else "CHW" if order[0] == 0 else ""
