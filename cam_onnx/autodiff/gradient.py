"""The public differentiation call: reverse mode over an ONNX graph, and nothing of CAM."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import onnx

from cam_onnx.autodiff import rules as _rules  # noqa: F401  (fills the table)
from cam_onnx.autodiff import spelling
from cam_onnx.autodiff.append import append, info
from cam_onnx.autodiff.backward import backward, mark, refuse
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.model import Model, ModelLike, load
from cam_onnx.autodiff.quantised import release
from cam_onnx.autodiff.table import RULES, Table
from cam_onnx.autodiff.val import cotangent_of
from cam_onnx.errors import InputError, did_you_mean

__all__ = ["at_lowest_opset", "gradient"]

T = TypeVar("T")


def gradient(
    model: ModelLike, wrt: Sequence[str], of: Sequence[str], table: Table = RULES, held: Collection[str] = ()
) -> onnx.ModelProto:
    """Add the vector-Jacobian product of `of` with respect to `wrt` to a model.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        Not changed.
    wrt : sequence of str
        Names of inputs or inner values (or initializers, where the rule has that input).
    of : sequence of str
        Names of floating-point values.
    table : Table
        Rules; the standard ones by default.
    held : collection of str
        Names of values that are taken for constants.

    Returns
    -------
    onnx.ModelProto
        The model with an added input ``cotangent/<name>`` for each name in `of` (the value's shape; float64 for
        float64, else float32) and an added output ``grad/<name>`` for each name in `wrt` (shape of the value).
        A value that `of` does not depend on, or only through operators whose derivative is zero, has gradient 0.

    Raises
    ------
    InputError
        A name that the model does not have, or a value whose type has no derivative.
    UnsupportedOperators
        Operators on the path without a rule: all of them.
    UnsupportedOpset
        What is emitted needs a newer opset, and the file cannot be raised to it.
    """
    return at_lowest_opset(load(model, whole=True), lambda loaded: _differentiate(loaded, wrt, of, table, held))


def at_lowest_opset(model: Model, build: Callable[[Model], T]) -> T:
    """Call `build` at the model's own opset, or at the lowest that serves what it emits."""
    if model.opset < spelling.LOWEST:
        model = model.raise_to(spelling.LOWEST)
    while True:
        try:
            return build(model)
        except spelling.NeedsOpset as need:
            model = model.raise_to(need.opset)


def _differentiate(
    model: Model, wrt: Sequence[str], of: Sequence[str], table: Table, held: Collection[str]
) -> onnx.ModelProto:
    for name in of:
        if name in model.values:
            release(model.values[name])
    for name in (*wrt, *of, *held):
        if name not in model.values:
            raise InputError(f"{model.name} has no value {name!r}{did_you_mean(name, filter(None, model.values))}")
        if name not in held and cotangent_of(model.values[name]) is None:
            raise InputError(f"{name!r} is {model.values[name].dtype}: it has no derivative")
    sources, targets = [model.values[n] for n in wrt], [model.values[n] for n in of]
    path = mark(model.graph, sources, targets, model.opset, table, {model.values[n] for n in held})
    refuse(path, model.name, f"between {', '.join(map(repr, wrt))} and {', '.join(map(repr, of))}")
    op = Emitter(model.opset, model.names())
    seeds, inputs, outputs = {}, [], []
    for value in targets:
        dtype = cotangent_of(value)
        assert dtype is not None
        seed = op.input(f"cotangent/{value.name}", dtype, None)
        seeds[value] = seed
        inputs.append(info(seed.name, dtype, None if value.shape is None else op.primal(value).dims))
    found = backward(op, path, seeds, sources, table)
    for value in sources:
        dtype = cotangent_of(value)
        assert dtype is not None
        total = found.get(value)
        if total is None:
            total = op.Expand(op.constant(0.0, dtype), op.shape(op.primal(value)))
        name = op.output(total, f"grad/{value.name}").name
        outputs.append(info(name, dtype, None if value.shape is None else op.primal(value).dims))
    return append(model.proto, op, outputs, inputs)
