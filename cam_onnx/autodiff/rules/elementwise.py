"""Functions of one value, element by element. Written on the output `y` wherever that serves.

A rule that reads `x` gives a convolution's raw output a second reader, and the runtime can no longer fuse the
activation into it. At a kink the choice is PyTorch's, and stands beside the rule.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import broadcast, defvjp, defzero
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []

defzero("Floor", "Ceil", "Round", "Sign", why="steps")
defzero("IsNaN", "IsInf", "Not", "And", "Or", "Xor", why="a truth value")
defzero("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", why="a truth value")
defzero("Hardmax", why="steps: which entry is largest")
defzero("Bernoulli", "Multinomial", "RandomNormal", "RandomUniform", why="a random draw")
defzero("RandomNormalLike", "RandomUniformLike", why="a random draw, of which the input gives the shape")

defvjp("Identity", lambda op, g, y, x: g)
defvjp("Cast", lambda op, g, y, x, **_: g)  # the walk gives it the type of x
defvjp("Neg", lambda op, g, y, x: -g)
defvjp("Relu", lambda op, g, y, x: gate(op, g, y, low=0.0))  # at 0: 0
defvjp("Sigmoid", lambda op, g, y, x: g * (y * one_minus(op, y)))
defvjp("Tanh", lambda op, g, y, x: g * one_minus(op, y * y))
defvjp("Exp", lambda op, g, y, x: g * y)
defvjp("Log", lambda op, g, y, x: g * inverse(op, x))
defvjp("Abs", lambda op, g, y, x: g * op.Sign(x))  # at 0: 0
defvjp("Sin", lambda op, g, y, x: g * op.Cos(x))
defvjp("Cos", lambda op, g, y, x: -g * op.Sin(x))
defvjp("Reciprocal", lambda op, g, y, x: -square(g, op.Where(op.Equal(x, 0.0), 0.0, y)))
defvjp("Tan", lambda op, g, y, x: g * (1.0 + y * y))
defvjp("Sinh", lambda op, g, y, x: g * op.Cosh(x))
defvjp("Cosh", lambda op, g, y, x: g * op.Sinh(x))
defvjp("Asin", lambda op, g, y, x: g * inverse(op, op.Sqrt((1.0 - x) * (1.0 + x))))
defvjp("Acos", lambda op, g, y, x: -g * inverse(op, op.Sqrt((1.0 - x) * (1.0 + x))))
defvjp("Atan", lambda op, g, y, x: g / (1.0 + x * x))
defvjp("Asinh", lambda op, g, y, x: g / op.Sqrt(1.0 + x * x))
defvjp("Acosh", lambda op, g, y, x: g * inverse(op, op.Sqrt((x - 1.0) * (x + 1.0))))
defvjp("Atanh", lambda op, g, y, x: g * inverse(op, (1.0 - x) * (1.0 + x)))
defvjp("Erf", lambda op, g, y, x: g * op.Exp(-x * x) * (2.0 / math.sqrt(math.pi)))
defvjp("Softplus", lambda op, g, y, x: g * op.Sigmoid(x))  # 1 - exp(-y) would lose small slopes
defvjp("Softsign", lambda op, g, y, x: square(g, 1.0 - op.Abs(y)))
defvjp("HardSigmoid", lambda op, g, y, x, alpha, **_: gate(op, g, y, 0.0, 1.0) * alpha)  # at both: 0

# Masks. A runtime that keeps convolutions in a blocked layout leaves it for Greater and Where, but not for
# HardSigmoid and Mul: a mask made of these costs less than half, and the convolutions around it stay blocked.

STEEP = 2.0**100  # a power of two: its products are exact
NO_SHIFT = -(2.0**-126)  # in place of 0, which OpenVINO takes for an attribute that is not there, so for 0.5


def gate(op: Emitter, g: Val, y: Val, low: Val | float | None = None, high: Val | float | None = None) -> Val:
    """Return `g` where `low` < `y` < `high`, else 0."""
    for bound, slope, beyond in ((low, STEEP, op.Greater), (high, -STEEP, op.Less)):
        if bound is not None:
            at = number(bound)
            if at is None or not g.finite or g.dtype != ir.DataType.FLOAT:
                g = where(op, beyond(y, bound), g)
            else:
                g = g * op.HardSigmoid(y, alpha=slope, beta=-at * slope or NO_SHIFT)
    return g


def number(bound: Val | float) -> float | None:
    """Return the bound, if it is known, one number, and not so large that a steep slope overflows there."""
    if isinstance(bound, Val):
        if bound.known is None or bound.known.size != 1:
            return None
        bound = float(bound.known.item())
    return bound if abs(bound) < 2.0**24 else None


def one_minus(op: Emitter, y: Val) -> Val:
    """Return 1 - `y` for `y` in [0, 1]."""
    return op.HardSigmoid(y, alpha=-1.0, beta=1.0) if y.dtype == ir.DataType.FLOAT else 1.0 - y


def inverse(op: Emitter, x: Val) -> Val:
    """Return 1 / x, and 0 at 0: where a slope is infinite, 0 keeps 0 * infinity = NaN out of everything in front of it.

    A logarithm of 0 that a Where has masked would spoil the whole map otherwise.
    """
    return op.Where(op.Equal(x, 0.0), 0.0, 1.0 / x)


def where(op: Emitter, mask: Val, g: Val) -> Val:
    """Return `g` where `mask` holds, else 0. Where is twice as slow as a product, but 0 times infinity is not 0."""
    return g * op.Cast(mask, to=g.dtype) if g.finite else op.Where(mask, g, 0.0)


def square(g: Val, factor: Val) -> Val:
    """Return `g` times the square of `factor`."""
    return g * factor * factor


def sqrt(op: Emitter, g: Val, y: Val, x: Val) -> Val:
    return op.Where(op.Greater(y, 0.0), g / (2.0 * y), 0.0)  # at 0: 0, as `inverse`


def leaky_relu(op: Emitter, g: Val, y: Val, x: Val, alpha: float) -> Val:
    sign = y if alpha >= 0 else x  # y and x have one sign unless alpha turns it
    if g.dtype == ir.DataType.FLOAT and g.finite and 0 <= alpha <= 1:
        step = op.HardSigmoid(sign, alpha=STEEP, beta=NO_SHIFT)
        return g * op.HardSigmoid(step, alpha=1.0 - alpha, beta=alpha or NO_SHIFT)
    return op.Where(op.Greater(sign, 0.0), g, g * alpha)  # at 0: alpha


# Exponential linear units: y and x have one sign as long as the constants are positive.


def elu(op: Emitter, g: Val, y: Val, x: Val, alpha: float) -> Val:
    return op.Where(op.Greater(y if alpha >= 0 else x, 0.0), g, g * (y + alpha))


def selu(op: Emitter, g: Val, y: Val, x: Val, alpha: float, gamma: float) -> Val:
    sign = y if alpha >= 0 and gamma > 0 else x
    return op.Where(op.Greater(sign, 0.0), g * gamma, g * (y + alpha * gamma))


def celu(op: Emitter, g: Val, y: Val, x: Val, alpha: float) -> Val:
    return op.Where(op.Greater(y if alpha > 0 else x, 0.0), g, g * (y / alpha + 1.0))


def mish(op: Emitter, g: Val, y: Val, x: Val) -> Val:
    t = op.Tanh(op.Softplus(x))
    return g * (t + x * (1.0 - t * t) * op.Sigmoid(x))


def gelu(op: Emitter, g: Val, y: Val, x: Val, approximate: str) -> Val:
    if approximate == "none":
        density = op.Exp(x * x * -0.5) / math.sqrt(2 * math.pi)
        return g * (0.5 * (1.0 + op.Erf(x / math.sqrt(2))) + x * density)
    c, cubic = math.sqrt(2 / math.pi), 0.044715
    t = op.Tanh(c * x * (1.0 + cubic * x * x))
    return g * 0.5 * (1.0 + t + x * (1.0 - t * t) * c * (1.0 + 3 * cubic * x * x))


def shrink(op: Emitter, g: Val, y: Val, x: Val, lambd: float, **_: object) -> Val:
    return where(op, op.Or(op.Less(x, -lambd), op.Greater(x, lambd)), g)  # at both: 0


def hard_swish(op: Emitter, g: Val, y: Val, x: Val) -> Val:
    inside = op.Where(op.Less(x, 3.0), x / 3.0 + 0.5, 1.0)  # at 3: 1; at -3: 0
    return where(op, op.Greater(x, -3.0), g * inside)


def clip(op: Emitter, g: Val, y: Val, x: Val, low: Val | None, high: Val | None) -> Val:
    # at a bound: 0, as PyTorch's hardtanh and relu6; reading y cannot tell the bound from what lies outside
    return gate(op, g, y, low, high)


def clip_low(op: Emitter, g: Val, y: Val, x: Val, low: Val, high: Val | None) -> Val:
    below = where(op, op.Less(x, low), g)
    return below if high is None else where(op, op.Less(low, high), below)  # where low >= high the output is high


def clip_high(op: Emitter, g: Val, y: Val, x: Val, low: Val | None, high: Val) -> Val:
    above = op.Greater(x, high)
    return where(op, above if low is None else op.Or(above, op.Greater(low, high)), g)


Vals = tuple[Val | None, ...]


def dropout(op: Emitter, gs: Vals, ys: Vals, x: Val, ratio: Val | None, training_mode: Val | None, **_: object) -> Val:
    """In training mode: of the draw that this run made, which the mask or the zeros of the output show."""
    g, y = gs[0], ys[0]
    assert g is not None
    assert y is not None
    if training_mode is None or (training_mode.known is not None and not training_mode.known.any()):
        return g
    mask = ys[1] if len(ys) > 1 else None
    kept = op.Not(op.Equal(y, 0.0)) if mask is None or not mask.name else mask
    left = op.constant(0.5, g.dtype) if ratio is None else 1.0 - op.Cast(ratio, to=g.dtype)
    drawn = where(op, kept, g * inverse(op, left))
    return op.Where(training_mode, drawn, g) if training_mode.known is None else drawn


def dropout_ratio(op: Emitter, gs: Vals, ys: Vals, x: Val, ratio: Val, training_mode: Val | None, **_: object) -> Val:
    """What is kept is divided by 1 - ratio; which is kept does not move."""
    g, y = gs[0], ys[0]
    assert g is not None
    assert y is not None
    if training_mode is None:
        return op.Expand(op.constant(0.0, g.dtype), op.shape(ratio))
    slope = op.ReduceSum(g * y, keepdims=0) * inverse(op, 1.0 - op.Cast(ratio, to=g.dtype))
    return where(op, training_mode, slope)


def bit_cast(op: Emitter, g: Val, y: Val, x: Val, **_: object) -> Val:
    if x.value.dtype != y.value.dtype:
        raise Refused(f"the bits of {x.value.dtype} read as {y.value.dtype}")
    return g


defvjp("Sqrt", sqrt)
defvjp("LeakyRelu", leaky_relu)
defvjp("Elu", elu)
defvjp("Selu", selu)
defvjp("Celu", celu)
defvjp("Mish", mish)
defvjp("Gelu", gelu)
defvjp("HardSwish", hard_swish)
defvjp("Shrink", shrink)
defvjp("ThresholdedRelu", lambda op, g, y, x, alpha: where(op, op.Greater(x, alpha), g))  # at alpha: 0
defvjp("Clip", clip, broadcast(clip_low), broadcast(clip_high))
defvjp("Dropout", dropout, dropout_ratio, None, several=True)
defvjp("BitCast", bit_cast)
