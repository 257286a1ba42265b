"""The layers of a score that has positions itself: a segmentation's classes, the raw head of a detector.

They are what the last learned layer in front of the score reads. A head that joins several levels of a feature pyramid
reads one value of each: those are the layers, a level each. Where several branches read one level (boxes here, classes
there), its layer is the nearest value through which all of them get it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from cam_onnx.axes import Axes
from cam_onnx.graph.alike import alike
from cam_onnx.graph.extent import Extent
from cam_onnx.graph.strides import Strides, grid_of

__all__ = ["VIEWS", "dense_layers"]

VIEWS = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
_LEARNED = {"Conv", "ConvTranspose", "DeformConv", "FusedConv", "Gemm", "MatMul", "NhwcFusedConv", "QLinearConv"}


def dense_layers(
    extent: Extent, scores: Sequence[ir.Value], found: Mapping[ir.Value, Axes], strides: Mapping[ir.Value, Strides]
) -> list[ir.Value]:
    """Return one value of each level, in the order of the graph; none where it is not known which there are."""
    levels: dict[object, list[ir.Value]] = {}
    for value in _read(extent, scores, found):
        levels.setdefault(_level(value, found, strides), []).append(value)
    chosen = []
    for level, values in levels.items():
        joint = extent.joint(values)
        if joint is None or joint not in found or _level(joint, found, strides) != level:
            joint = max(values, key=list(found).index)
        chosen.append(_spread_out(extent, joint, found))
    return sorted(set(chosen), key=list(found).index)


def _level(value: ir.Value, found: Mapping[ir.Value, Axes], strides: Mapping[ir.Value, Strides]) -> object:
    return strides.get(value) or grid_of(value, found[value])


def _read(extent: Extent, scores: Sequence[ir.Value], found: Mapping[ir.Value, Axes]) -> list[ir.Value]:
    """Return what the last learned layers read, on all ways to the score."""
    read: list[ir.Value] = []
    seen, open_ = set(scores), list(scores)
    while open_:
        at = open_.pop()
        node = extent.producer(at)
        given = [] if node is None else extent.spread(node)
        if node is None or (len(given) > 1 and alike(node).op_type != "Concat" and at in found):
            read += [at] if at in found else []
            continue
        if alike(node).op_type in _LEARNED and len(given) == 1:
            known = _with_grid(extent, given[0], found)
            if known is not None:
                read.append(known)
                continue
        open_ += [x for x in given if x not in seen]
        seen.update(given)
    return list(dict.fromkeys(read))


def _with_grid(extent: Extent, value: ir.Value, found: Mapping[ir.Value, Axes]) -> ir.Value | None:
    """Step back over views to where axes are known."""
    while value not in found:
        node = extent.producer(value)
        given = [] if node is None else extent.spread(node)
        if node is None or len(given) != 1 or alike(node).op_type not in VIEWS:
            return None
        [value] = given
    return value


def _spread_out(extent: Extent, value: ir.Value, found: Mapping[ir.Value, Axes]) -> ir.Value:
    """Step back over poolings along an axis, as of text to columns: a map has as many axes as the picture."""
    whole = max(axes.extent for axes in found.values())
    at = value
    while at not in found or found[at].extent < whole:
        node = extent.producer(at)
        given = [] if node is None else extent.spread(node)
        if len(given) != 1:
            return value
        [at] = given
    return at
