"""Functions of several values that broadcast. The walk sums a cotangent back to its input's shape."""

from __future__ import annotations

import math

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.elementwise import inverse
from cam_onnx.autodiff.table import broadcast, defbroadcast, defvjp, each
from cam_onnx.autodiff.val import Val

__all__: list[str] = []

defbroadcast("Add", lambda op, g, y, a, b: g, lambda op, g, y, a, b: g)
defbroadcast("Sub", lambda op, g, y, a, b: g, lambda op, g, y, a, b: -g)
defbroadcast("Mul", lambda op, g, y, a, b: g * b, lambda op, g, y, a, b: g * a)
defvjp("Sum", each(lambda op, i, g, y, *xs: g, broadcast=True))
defvjp("Expand", broadcast(lambda op, g, y, x, shape: g), None)


def extreme(op: Emitter, i: int, g: Val, y: Val, *xs: Val) -> Val:
    """Max and Min. Ties share evenly, as PyTorch's maximum."""
    if len(xs) == 1:
        return g
    hits = [op.Cast(op.Equal(x, y), to=g.dtype) for x in xs]
    total = hits[0]
    for hit in hits[1:]:
        total = total + hit
    return g * hits[i] / total


defvjp("Max", each(extreme, broadcast=True))
defvjp("Min", each(extreme, broadcast=True))
defvjp("Mean", each(lambda op, i, g, y, *xs: g / float(len(xs)), broadcast=True))
defbroadcast(
    "Where", None, lambda op, g, y, c, a, b: op.Where(c, g, 0.0), lambda op, g, y, c, a, b: op.Where(c, 0.0, g)
)
defbroadcast(
    "PRelu",
    lambda op, g, y, x, slope: op.Where(op.Greater(x, 0.0), g, g * slope),  # at 0: the slope
    lambda op, g, y, x, slope: op.Where(op.Greater(x, 0.0), 0.0, g * x),
)


def over(op: Emitter, g: Val, b: Val) -> Val:
    """Return g / b, and 0 where b is 0: a division by 0 that a Where has masked must not give NaN."""
    return g / b if b.known is not None and b.known.all() else g * inverse(op, b)


defbroadcast("Div", lambda op, g, y, a, b: over(op, g, b), lambda op, g, y, a, b: -over(op, g, b) * over(op, a, b))


def pow_base(op: Emitter, g: Val, y: Val, a: Val, b: Val) -> Val:
    b = op.Cast(b, to=a.dtype)
    slope = b * op.Pow(a, b - 1.0)
    if b.known is None or (b.known < 1).any():
        slope = op.Where(op.And(op.Equal(a, 0.0), op.Less(b, 1.0)), 0.0, slope)  # infinite, or 0 * infinity: x^0
    return g * slope


def pow_exponent(op: Emitter, g: Val, y: Val, a: Val, b: Val) -> Val:
    positive = op.Greater(a, 0.0)  # at 0: 0, as PyTorch; a negative base has no slope in b: 0
    return op.Where(positive, g * y * op.Log(op.Where(positive, a, 1.0)), 0.0)


defbroadcast("Pow", pow_base, pow_exponent)
# the quotient is a whole number: rounding takes away what the division lost


def mod_divisor(op: Emitter, g: Val, y: Val, a: Val, b: Val, fmod: int) -> Val:
    whole = op.Round((a - y) / b)
    return op.Where(op.Less(op.Abs(whole), math.inf), -g * whole, 0.0)  # as `inverse`: also where b is infinite


defbroadcast("Mod", lambda op, g, y, a, b, fmod: g, mod_divisor)
