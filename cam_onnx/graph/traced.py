"""A method's formula as nodes: the lines that NumPy runs, traced through the emitter, so that there is no second copy.

The closed formulas ask their arguments for arithmetic, sums and means over axes, and the array-API functions `where`,
`ones_like` and `zeros_like`. `Traced` is an array that answers with nodes.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.val import Val
from cam_onnx.methods.table import Method

__all__ = ["CLOSED", "Traced", "emit"]

CLOSED = (
    "cam", "grad-cam", "grad-cam++", "xgrad-cam", "hires-cam", "element-wise-grad-cam", "layer-cam", "activation-map",
)  # fmt: skip
"""The methods that are closed formulas of activations and gradients."""


def emit(op: Emitter, method: Method, activations: Val, gradients: Val | None, rank: int) -> Val:
    """Append a closed method's map, (N, *S), signed; return its value.

    Parameters
    ----------
    op : Emitter
    method : Method
        One of `CLOSED`.
    activations, gradients : Val
        (N, K, *S), floating point; no gradients for a method that needs none.
    rank : int
        Theirs: 2 + the number of spatial axes.
    """
    given = {"activations": activations, "gradients": gradients}
    arrays = {need: Traced(op, val, rank) for need in method.needs if (val := given[need]) is not None}
    said: Traced = method.function(**arrays)
    if said.ndim == rank:  # weights
        said = (said * Traced(op, activations, rank)).sum(axis=1)
    return said.val


class Traced:
    """An array whose operations become nodes."""

    __array_ufunc__ = None  # NumPy's scalars leave arithmetic to us
    __hash__ = object.__hash__

    def __init__(self, op: Emitter, val: Val, ndim: int) -> None:
        self.op, self.val, self.ndim = op, val, ndim

    def __array_namespace__(self) -> Any:
        return SimpleNamespace(
            where=lambda condition, a, b: condition._made("Where", a, b),
            ones_like=lambda like: like * 0.0 + 1.0,
            zeros_like=lambda like: like * 0.0,
        )

    def sum(self, axis: int | tuple[int, ...], keepdims: bool = False) -> Traced:
        return self._reduced("ReduceSum", axis, keepdims)

    def mean(self, axis: int | tuple[int, ...], keepdims: bool = False) -> Traced:
        return self._reduced("ReduceMean", axis, keepdims)

    def _reduced(self, op_type: str, axis: int | tuple[int, ...], keepdims: bool) -> Traced:
        axes = [axis] if isinstance(axis, int) else list(axis)
        val = getattr(self.op, op_type)(self.val, axes, keepdims=int(keepdims))
        return Traced(self.op, val, self.ndim - (0 if keepdims else len(axes)))

    def _made(self, op_type: str, *others: Any) -> Traced:
        return self._emitted(op_type, self, *others)

    def _emitted(self, op_type: str, *operands: Any) -> Traced:
        val = getattr(self.op, op_type)(*(o.val if isinstance(o, Traced) else o for o in operands))
        return Traced(self.op, val, max(o.ndim for o in operands if isinstance(o, Traced)))

    def __add__(self, other: Any) -> Traced:
        return self._made("Add", other)

    def __radd__(self, other: Any) -> Traced:
        return self._emitted("Add", other, self)

    def __sub__(self, other: Any) -> Traced:
        return self._made("Sub", other)

    def __rsub__(self, other: Any) -> Traced:
        return self._emitted("Sub", other, self)

    def __mul__(self, other: Any) -> Traced:
        return self._made("Mul", other)

    def __rmul__(self, other: Any) -> Traced:
        return self._emitted("Mul", other, self)

    def __truediv__(self, other: Any) -> Traced:
        return self._made("Div", other)

    def __rtruediv__(self, other: Any) -> Traced:
        return self._emitted("Div", other, self)

    def __neg__(self) -> Traced:
        return self._made("Neg")

    def __abs__(self) -> Traced:
        return self._made("Abs")

    def __gt__(self, other: Any) -> Traced:
        return self._made("Greater", other)

    def __lt__(self, other: Any) -> Traced:
        return self._made("Less", other)

    def __eq__(self, other: object) -> Traced:  # type: ignore[override]
        return self._made("Equal", other)

    def __ne__(self, other: object) -> Traced:  # type: ignore[override]
        return self._made("Equal", other)._made("Not")

    def __and__(self, other: Any) -> Traced:
        return self._made("And", other)
