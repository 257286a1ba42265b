"""Functions of one value, element by element. Written on the output `y` wherever that serves.

A rule that reads `x` gives a convolution's raw output a second reader, and the runtime can no longer fuse the
activation into it. At a kink the choice is PyTorch's, and stands beside the rule.
"""

from __future__ import annotations

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import broadcast, defvjp, defzero, missing
from cam_onnx.autodiff.val import Val

__all__: list[str] = []

defzero("Floor", "Ceil", "Round", "Sign", "IsNaN", "IsInf", "Not", "And", "Or", "Xor")
defzero("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")

defvjp("Identity", lambda op, g, y, x: g)
defvjp("Cast", lambda op, g, y, x, **_: g)  # the walk gives it the type of x
defvjp("Neg", lambda op, g, y, x: -g)
defvjp("Relu", lambda op, g, y, x: where(op, op.Greater(y, 0.0), g))  # at 0: 0
defvjp("Sigmoid", lambda op, g, y, x: g * y * (1.0 - y))
defvjp("Tanh", lambda op, g, y, x: g * (1.0 - y * y))
defvjp("Exp", lambda op, g, y, x: g * y)
defvjp("HardSigmoid", lambda op, g, y, x, alpha, **_: where(op, between(op, 0.0, y, 1.0), g * alpha))  # at both: 0


def where(op: Emitter, mask: Val, g: Val) -> Val:
    """Return `g` where `mask` holds, else 0: without a product, so that 0 times infinity is 0."""
    return op.Where(mask, g, 0.0)


def between(op: Emitter, low: Val | float, y: Val, high: Val | float) -> Val:
    """Return where `low` < `y` < `high`."""
    return op.And(op.Greater(y, low), op.Less(y, high))


def sqrt(op: Emitter, g: Val, y: Val, x: Val) -> Val:
    # at 0 the slope is infinite: 0 keeps 0 * infinity = NaN out of everything in front of it
    return op.Where(op.Greater(y, 0.0), g / (2.0 * y), 0.0)


def leaky_relu(op: Emitter, g: Val, y: Val, x: Val, alpha: float) -> Val:
    sign = y if alpha >= 0 else x  # y and x have one sign unless alpha turns it
    return op.Where(op.Greater(sign, 0.0), g, g * alpha)  # at 0: alpha


def hard_swish(op: Emitter, g: Val, y: Val, x: Val) -> Val:
    inside = op.Where(op.Less(x, 3.0), x / 3.0 + 0.5, 1.0)  # at 3: 1; at -3: 0
    return where(op, op.Greater(x, -3.0), g * inside)


def clip(op: Emitter, g: Val, y: Val, x: Val, low: Val | None, high: Val | None) -> Val:
    # at a bound: 0, as PyTorch's hardtanh and relu6; reading y cannot tell the bound from what lies outside
    if low is not None:
        g = where(op, op.Greater(y, low), g)
    return g if high is None else where(op, op.Less(y, high), g)


def clip_low(op: Emitter, g: Val, y: Val, x: Val, low: Val, high: Val | None) -> Val:
    below = where(op, op.Less(x, low), g)
    return below if high is None else where(op, op.Less(low, high), below)  # where low >= high the output is high


def clip_high(op: Emitter, g: Val, y: Val, x: Val, low: Val | None, high: Val) -> Val:
    above = op.Greater(x, high)
    return where(op, above if low is None else op.Or(above, op.Greater(low, high)), g)


def dropout(op: Emitter, g: Val, y: Val, x: Val, ratio: Val | None, training_mode: Val | None, **_: object) -> Val:
    if training_mode is None or (training_mode.known is not None and not training_mode.known.any()):
        return g
    raise NotImplementedError("Dropout in training mode is random: export the model in inference mode")


defvjp("Sqrt", sqrt)
defvjp("LeakyRelu", leaky_relu)
defvjp("HardSwish", hard_swish)
defvjp("Clip", clip, broadcast(clip_low), broadcast(clip_high))
defvjp("Dropout", dropout, missing("with respect to the ratio"), None)
