"""Normalisations and softmax."""

from __future__ import annotations

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import defvjp, missing
from cam_onnx.autodiff.val import Val

__all__: list[str] = []

defvjp("Softmax", lambda op, g, y, x, axis: y * (g - op.ReduceSum(g * y, [axis])))
defvjp("LogSoftmax", lambda op, g, y, x, axis: g - op.Exp(y) * op.ReduceSum(g, [axis]))


def per_channel(op: Emitter, v: Val, x: Val) -> Val:
    """Shape a vector over channels so that it broadcasts over (N, C, *S)."""
    return v if x.rank == 2 else op.Unsqueeze(v, list(range(1, x.rank - 1)))


def over_batch_and_space(op: Emitter, v: Val, x: Val) -> Val:
    return op.ReduceSum(v, [axis for axis in range(x.rank) if axis != 1], keepdims=0)


def inverse_deviation(op: Emitter, var: Val, epsilon: float, training_mode: int) -> Val:
    if training_mode:
        raise NotImplementedError("BatchNormalization in training mode: export the model in inference mode")
    return 1.0 / op.Sqrt(var + epsilon)


def batch_norm_x(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    s: Val,
    b: Val,
    mean: Val,
    var: Val,
    epsilon: float,
    training_mode: int,
    **_: object,
) -> Val:
    return g * per_channel(op, s * inverse_deviation(op, var, epsilon, training_mode), x)


def batch_norm_scale(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    s: Val,
    b: Val,
    mean: Val,
    var: Val,
    epsilon: float,
    training_mode: int,
    **_: object,
) -> Val:
    centred = x - per_channel(op, mean, x)
    return over_batch_and_space(op, g * centred, x) * inverse_deviation(op, var, epsilon, training_mode)


def batch_norm_mean(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    s: Val,
    b: Val,
    mean: Val,
    var: Val,
    epsilon: float,
    training_mode: int,
    **_: object,
) -> Val:
    return -over_batch_and_space(op, g, x) * s * inverse_deviation(op, var, epsilon, training_mode)


defvjp(
    "BatchNormalization",
    batch_norm_x,
    batch_norm_scale,
    lambda op, g, y, x, *_, **__: over_batch_and_space(op, g, x),
    batch_norm_mean,
    missing("with respect to the variance"),
)
