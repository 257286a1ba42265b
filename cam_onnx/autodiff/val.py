"""Values inside a rule. Arithmetic on them emits; a class of our own, so that no process-wide hook is set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from cam_onnx.autodiff.quantised import fixed, scale_of

if TYPE_CHECKING:
    from cam_onnx.autodiff.emit import Emitter

__all__ = ["FLOATS", "Operand", "Refused", "UnknownRank", "Val", "cotangent_of", "cotangent_type"]

_HALF = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
FLOATS = {
    ir.DataType.FLOAT,
    *_HALF,
    ir.DataType.FLOAT8E4M3FN,
    ir.DataType.FLOAT8E4M3FNUZ,
    ir.DataType.FLOAT8E5M2,
    ir.DataType.FLOAT8E5M2FNUZ,
}


def cotangent_type(dtype: ir.DataType | None) -> ir.DataType | None:
    """Return the type of a cotangent of a value of `dtype`: None where there is no derivative.

    float64 for float64, float32 for every other float; an unknown type counts as float32.
    """
    if dtype is None or dtype == ir.DataType.UNDEFINED or dtype in FLOATS:
        return ir.DataType.FLOAT
    return ir.DataType.DOUBLE if dtype == ir.DataType.DOUBLE else None


def cotangent_of(value: ir.Value) -> ir.DataType | None:
    """Return the type of the cotangent of a value of the graph: of a quantised one too, float32."""
    if scale_of(value) is not None:
        return ir.DataType.FLOAT
    return None if fixed(value) else cotangent_type(value.dtype)


class Val:
    """A value inside a rule: of the graph (a primal) or emitted.

    Attributes
    ----------
    value : onnx_ir.Value
    known : ndarray or None
        The content, where it is known at conversion.
    dims : list of int, str or None
        Primals only.
    constant : bool
        Made of weights and sizes alone.
    finite : bool
        Not infinite where the forward values are finite: no division or power of a value lies in it.
    """

    __slots__ = ("constant", "finite", "known", "op", "primal", "value")

    def __init__(self, op: Emitter, value: ir.Value, known: np.ndarray | None = None, primal: bool = False) -> None:
        self.op, self.value, self.known, self.primal = op, value, known, primal
        self.constant, self.finite = known is not None or value.is_initializer(), True

    @property
    def name(self) -> str:
        return self.value.name or ""

    @property
    def dtype(self) -> ir.DataType | None:
        """The type that a rule sees: a 16-bit or quantised primal reads as its cotangent's."""
        own = self.value.dtype
        if self.primal and scale_of(self.value) is not None:
            return ir.DataType.FLOAT
        return cotangent_type(own) if self.primal and own in FLOATS else own

    @property
    def dims(self) -> list[int | str | None]:
        shape = self.value.shape
        if shape is None:
            raise UnknownRank(self.name)
        return [d if isinstance(d, int) else d.value for d in shape]

    @property
    def rank(self) -> int:
        return len(self.dims)

    def __add__(self, other: Operand) -> Val:
        return self.op.Add(self, other)

    def __radd__(self, other: Operand) -> Val:
        return self.op.Add(other, self)

    def __sub__(self, other: Operand) -> Val:
        return self.op.Sub(self, other)

    def __rsub__(self, other: Operand) -> Val:
        return self.op.Sub(other, self)

    def __mul__(self, other: Operand) -> Val:
        return self.op.Mul(self, other)

    def __rmul__(self, other: Operand) -> Val:
        return self.op.Mul(other, self)

    def __truediv__(self, other: Operand) -> Val:
        return self.op.Div(self, other)

    def __rtruediv__(self, other: Operand) -> Val:
        return self.op.Div(other, self)

    def __neg__(self) -> Val:
        return self.op.Neg(self)

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth value at conversion: use op.Where")

    def __repr__(self) -> str:
        return f"Val({self.name!r})"


Operand = Val | float | int | Sequence[int] | np.ndarray | None


class Refused(Exception):
    """A rule declines a node: the message says which case it does not cover."""


class UnknownRank(Refused):
    """A rule needs a rank that shape inference did not find."""

    def __init__(self, name: str) -> None:
        super().__init__(f"needs the rank of {name!r}, which shape inference did not find")
