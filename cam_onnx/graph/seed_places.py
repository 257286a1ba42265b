"""Targets with a place in the picture: a region of a segmentation, a peak, a box of a raw detection head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from cam_onnx import kinds
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import Val, cotangent_type
from cam_onnx.errors import InputError, shown
from cam_onnx.graph.choice import pair
from cam_onnx.graph.dense_tasks import PLANE, distributions
from cam_onnx.graph.roles import follow
from cam_onnx.graph.seed_values import Values
from cam_onnx.kinds import Kind
from cam_onnx.render.upsample import upsample

__all__ = ["box", "detection", "peak", "region"]


def region(op: Emitter, model: Model, source: ir.Value, kind: Kind) -> Values:
    """The mean of every class over a region of a segmentation's output."""
    x = op.primal(source)
    space, channel = _axes(model, source, kind)
    sizes = [x.dims[i] for i in space]
    if not all(isinstance(d, int) for d in sizes):
        raise InputError(
            f"target {kind.word}: the size of {shown(source.name or '')!r} is not fixed: export the model with a fixed "
            "picture size"
        )
    weights = _weights(model, kind, [int(d) for d in sizes])  # type: ignore[arg-type]
    dtype = cotangent_type(source.dtype)
    assert dtype is not None
    shape = [1] * x.rank
    for axis, size in zip(space, weights.shape, strict=True):
        shape[axis] = size
    spread = op.constant((weights / weights.sum()).astype(dtype.numpy()).reshape(shape))
    return _of_each(op, op.ReduceSum(x * spread, space, keepdims=0), x, channel)


def peak(op: Emitter, model: Model, source: ir.Value, kind: Kind) -> Values:
    """The largest value of every class's map; of two distributions the mean of theirs."""
    x = op.primal(source)
    both = distributions(model)
    if both is not None and source in both:
        columns, rows = (op.ReduceMax(op.primal(each), [2], keepdims=0) for each in both)
        classes = x.dims[1]
        return (columns + rows) * 0.5, classes if isinstance(classes, int) else None
    space, channel = _axes(model, source, kind)
    return _of_each(op, op.ReduceMax(x, space, keepdims=0), x, channel)


def _axes(model: Model, source: ir.Value, kind: Kind) -> tuple[list[int], int | None]:
    """Return the axes of space, and that of the classes; None: there is one number at every place."""
    roles = follow(model.graph).get(source, ())
    space = [i for i, role in enumerate(roles) if role.startswith("s")]
    if roles == PLANE:
        return space, None
    if not space or "c" not in roles:
        raise InputError(
            f"target {kind.word}: {shown(source.name or '')!r} has no map of each class: its axes are not known to be "
            "batch, classes and space"
        )
    return space, roles.index("c")


def _of_each(op: Emitter, values: Val, x: Val, channel: int | None) -> Values:
    """Return values (N, C) and C; of one number at every place there is one."""
    if channel is None:
        return op.Unsqueeze(values, [1]), 1
    classes = x.dims[channel]
    return values, classes if isinstance(classes, int) else None


def _weights(model: Model, kind: Kind, sizes: list[int]) -> np.ndarray:
    if isinstance(kind, kinds.Pixel):
        if len(sizes) != 2 or kind.y >= sizes[0] or kind.x >= sizes[1]:
            raise InputError(f"target pixel {kind.y}, {kind.x} lies outside the output of {sizes}")
        weights = np.zeros(sizes)
        weights[kind.y, kind.x] = 1
        return weights
    if isinstance(kind, kinds.Mask):
        if kind.mask.ndim != len(sizes):
            raise InputError(f"target mask has shape {kind.mask.shape}, the output is {sizes}")
        same = list(kind.mask.shape) == sizes
        weights = kind.mask.astype(np.float64) if same else upsample(kind.mask.astype(np.float64), sizes)
        if not weights.any():
            raise InputError(f"target mask: nothing is left of it at the output's size {sizes}: give a larger one")
        return weights
    assert isinstance(kind, kinds.Box)
    height, width = _picture_size(model, kind, over=False)
    spans = []
    for low, high, whole, size in ((kind.y0, kind.y1, height, sizes[0]), (kind.x0, kind.x1, width, sizes[1])):
        edges = np.arange(size + 1) * (whole / size)  # in pixels of the picture
        spans.append(np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None))
    return np.outer(*spans)


def _picture_size(model: Model, kind: kinds.Box, over: bool) -> tuple[float, float]:
    """Return height and width of the network's input, and refuse a box outside it; `over` its edge it may reach."""
    pictures = [v for v in model.graph.inputs if v.shape is not None and len(v.shape) == 4]
    roles = follow(model.graph).get(pictures[0], ()) if pictures else ()
    sizes = [pictures[0].shape[roles.index(s)] for s in ("s0", "s1")] if roles else []  # type: ignore[index]
    if len(sizes) != 2 or not all(isinstance(s, int) for s in sizes):
        raise InputError(f"target {kind.word}: the picture's size is not fixed: export the model with a fixed one")
    height, width = (float(s) for s in sizes)  # type: ignore[arg-type]
    across, down = (kind.x0, kind.x1), (kind.y0, kind.y1)
    beyond = across[0] >= width or down[0] >= height
    if beyond or (not over and (min(across + down) < 0 or across[1] > width or down[1] > height)):
        raise InputError(
            f"target {kind.word} {(kind.x0, kind.y0, kind.x1, kind.y1)} lies outside the network's input of "
            f"{width:g} x {height:g} pixels (width x height)"
        )
    return height, width


@dataclass(frozen=True)
class _Candidates:
    """What a raw detection head gives: `overlaps` with the target's box (N, A), class scores (N, C, A), objectness."""

    overlaps: Val
    scores: Val
    objectness: Val | None
    classes: int


def _candidates(op: Emitter, model: Model, source: ir.Value, kind: kinds.Box) -> _Candidates:
    x = op.primal(source)
    sizes = x.dims[1:]
    if not all(isinstance(d, int) for d in sizes):
        raise InputError(f"target {kind.word}: the shape of {shown(source.name or '')!r} is not fixed")
    parts, candidates = (int(d) for d in sizes)  # type: ignore[arg-type]
    _picture_size(model, kind, over=True)
    rows: Val = x
    if parts > candidates:  # (N, A, 4 + C): there are more candidates than numbers in each
        rows, parts = op.Transpose(x, perm=[0, 2, 1]), candidates
    skip = 5 if kind.objectness else 4
    if parts <= skip:
        raise InputError(
            f"target {kind.word}: {shown(source.name or '')!r} has {parts} numbers a candidate: 4 + classes expected"
        )

    def row(i: int) -> Val:
        return op.Gather(rows, op.constant(np.array(i, np.int64)), axis=1)  # (N, A)

    centre_x, centre_y, width, height = (row(i) for i in range(4))

    def overlap(centre: Val, size: Val, low: float, high: float) -> Val:
        return op.Relu(op.Min(centre + size * 0.5, high) - op.Max(centre - size * 0.5, low))

    inter = overlap(centre_x, width, kind.x0, kind.x1) * overlap(centre_y, height, kind.y0, kind.y1)
    area = (kind.x1 - kind.x0) * (kind.y1 - kind.y0)
    union = width * height + float(area) - inter
    return _Candidates(
        overlaps=inter / op.Max(union, 1e-9),
        scores=op.Slice(rows, [skip], [parts], [1]),
        objectness=op.Slice(rows, [4], [5], [1]) if kind.objectness else None,
        classes=parts - skip,
    )


def box(op: Emitter, model: Model, source: ir.Value, kind: Kind) -> Values:
    """The class scores of the candidate that overlaps a box most; of a segmentation, those inside it."""
    assert isinstance(kind, kinds.Box)
    if op.primal(source).rank != 3 or follow(model.graph).get(source) == PLANE:
        return region(op, model, source, kind)
    found = _candidates(op, model, source, kind)
    best = op.ArgMax(found.overlaps, axis=1, keepdims=0)
    count = op.Squeeze(op.Slice(op.Shape(found.overlaps), [1], [2], [0]), [0])
    hot = op.Unsqueeze(op.OneHot(best, count, pair(op.primal(source), 1.0), axis=-1), [1])  # (N, 1, A)
    scores = found.scores if found.objectness is None else found.scores * found.objectness
    return op.ReduceSum(scores * hot, [2], keepdims=0), found.classes


def detection(op: Emitter, model: Model, source: ir.Value, kind: Kind) -> Values:
    """The largest IoU * objectness * cosine over all candidates, for every class."""
    assert isinstance(kind, kinds.Detection)
    if op.primal(source).rank != 3:
        raise InputError(
            f"target detection: {shown(source.name or '')!r} is no raw detection head, (N, 4 + classes, candidates) or "
            "turned: export the model without what picks and sorts its detections"
        )
    found = _candidates(op, model, source, kind)
    sure = op.ReduceMax(found.scores, [1], keepdims=1) if found.objectness is None else found.objectness
    length = op.Sqrt(op.Max(op.ReduceSum(found.scores * found.scores, [1], keepdims=1), 1e-18))
    alike = found.scores / length * sure * op.Unsqueeze(found.overlaps, [1])
    return op.ReduceMax(alike, [2], keepdims=0), found.classes
