"""The plain and the converted file side by side: in which sense a runtime left the original outputs as they were.

A runtime that executes the graph as written gives the same bits. One that fuses nodes may round otherwise where a
fusion is cut, and behind a quantiser a difference of one bit becomes one of a quantisation step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLAUSES", "Compared", "compare"]

Array = NDArray[Any]

CLAUSES = ("bit-identical", "float rounding", "one quantisation step", "worse")  # each weaker than the one before
ROUNDING = {"float64": 1e-14, "float16": 2.0**-10, "bfloat16": 2.0**-7}
FLOAT32 = 1e-6


class Expected(Protocol):
    """What is known of the plain model (`cam_onnx.graph.plain.Plain`)."""

    @property
    def half(self) -> float | None:
        """The relative step of its 16-bit type."""

    @property
    def quantised(self) -> bool:
        """Whether it is."""

    @property
    def steps(self) -> Mapping[str, float]:
        """Quantisation steps of outputs."""


@dataclass(frozen=True)
class Compared:
    """How the converted file's original outputs compare with the plain file's.

    Attributes
    ----------
    clause : {"bit-identical", "float rounding", "one quantisation step", "worse"}
    output : str
        The one that differs most ("": none does).
    difference : float
        Its largest difference, in parts of its largest entry.
    """

    clause: str = CLAUSES[0]
    output: str = ""
    difference: float = 0.0


def compare(plain: Mapping[str, Array], converted: Mapping[str, Array], expected: Expected) -> Compared:
    """Return the weakest clause of all outputs."""
    found = Compared()
    for name, ours in plain.items():
        one = _compare(name, ours, converted[name], expected)
        if (CLAUSES.index(one.clause), one.difference) > (CLAUSES.index(found.clause), found.difference):
            found = one
    return found


def _compare(name: str, plain: Array, converted: Array, expected: Expected) -> Compared:
    plain, converted = np.asarray(plain), np.asarray(converted)
    alike = plain.shape == converted.shape and plain.dtype == converted.dtype
    if alike and (plain.dtype == object or plain.dtype.kind in "USbiu"):
        alike = bool(np.array_equal(plain, converted))
        return Compared() if alike else Compared(CLAUSES[3], name, math.inf)
    if not alike:
        return Compared(CLAUSES[3], name, math.inf)
    if np.ascontiguousarray(plain).tobytes() == np.ascontiguousarray(converted).tobytes():
        return Compared()
    a, b = plain.astype(np.float64), converted.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(b[finite]).all():
        return Compared(CLAUSES[3], name, math.inf)
    largest = float(np.abs(a[finite]).max(initial=0))
    difference = float(np.abs(a[finite] - b[finite]).max(initial=0))
    relative = difference / largest if largest else (math.inf if difference else 0.0)
    rounding = max(ROUNDING.get(plain.dtype.name, FLOAT32), expected.half or 0.0)
    if relative <= rounding:
        return Compared(CLAUSES[1], name, relative)
    step = expected.steps.get(name, largest / 127)  # of an unknown one: int8 over the whole range
    if expected.quantised and difference <= 1.5 * step:
        return Compared(CLAUSES[2], name, relative)
    return Compared(CLAUSES[3], name, relative)
