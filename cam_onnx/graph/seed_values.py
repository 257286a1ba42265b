"""Targets that are entries of a model's output: a regression's value, a unit, a similarity, a place in a sequence."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from cam_onnx import kinds
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import Val, cotangent_type
from cam_onnx.errors import InputError, shown
from cam_onnx.graph.choice import batch_axis
from cam_onnx.kinds import Kind

__all__ = ["Values", "position", "similarity", "unit", "value"]

Values = tuple[Val, int | None]
"""What a class is chosen in, (N, C'), and C' where it is known."""


def _flat(op: Emitter, source: ir.Value) -> Values:
    """Return (N, C') of a value, and C'."""
    x = op.primal(source)
    flat = op.Unsqueeze(x, [1]) if x.rank == 1 else x if x.rank == 2 else op.Flatten(x, axis=1)
    dims = x.dims[1:]
    return flat, int(np.prod(dims)) if all(isinstance(d, int) for d in dims) else None  # type: ignore[arg-type]


def value(op: Emitter, model: Model, source: ir.Value, kind: Kind) -> Values:
    assert isinstance(kind, kinds.Value)
    flat, count = _flat(op, source)
    if count != 1:
        raise InputError(
            f"target value: {shown(source.name or '')!r} has {count or 'several'} outputs; it explains regressions "
            "with one: name the unit (unit:I), or a class"
        )
    return (op.Neg(flat) if kind.lower else flat * 1.0), 1


def unit(op: Emitter, model: Model, source: ir.Value, kind: Kind) -> Values:
    assert isinstance(kind, kinds.Unit)
    flat, count = _flat(op, source)
    if count is not None and kind.index >= count:
        raise InputError(f"target unit {kind.index} is out of range: 0 to {count - 1}")
    one = op.Gather(flat, [kind.index], axis=1)
    return (op.Neg(one) if kind.absent else one), 1


def similarity(op: Emitter, model: Model, source: ir.Value, kind: Kind) -> Values:
    assert isinstance(kind, kinds.Similarity)
    if kind.picture is not None:
        raise InputError(
            f"target similarity: what the network says of {shown(kind.picture)!r} takes a run, and a conversion makes "
            "none: give the vector (similar:FILE.npy), or use an Explainer (cam-onnx explain)"
        )
    flat, count = _flat(op, source)
    vector = kind.reference
    if count is not None and count != len(vector):
        raise InputError(
            f"target similarity: the reference has {len(vector)} entries, {shown(source.name or '')!r} {count}"
        )
    dtype = cotangent_type(source.dtype)
    assert dtype is not None
    along = op.ReduceSum(flat * op.constant(vector.astype(dtype.numpy())[None]), [1], keepdims=1)
    if not kind.cosine:
        return along, 1
    size = op.Sqrt(op.ReduceSum(flat * flat, [1], keepdims=1))
    return along / op.Max(size, 1e-12), 1


def position(op: Emitter, model: Model, source: ir.Value, kind: Kind) -> Values:
    assert isinstance(kind, kinds.Position)
    x = op.primal(source)
    if x.rank != 3:
        raise InputError(
            f"target position: {shown(source.name or '')!r} has rank {x.rank}, expected (N, T, C) or (T, N, C)"
        )
    axis = 1 - batch_axis(model, source)
    length, classes = x.dims[axis], x.dims[2]
    if isinstance(length, int) and kind.t >= length:
        raise InputError(f"target position {kind.t} is out of range: 0 to {length - 1}")
    at = op.Gather(x, op.constant(np.array(kind.t, np.int64)), axis=axis)
    return at, classes if isinstance(classes, int) else None
