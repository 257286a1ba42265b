"""Normalisations and softmax."""

from __future__ import annotations

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import broadcast, defvjp, missing
from cam_onnx.autodiff.val import Refused, Val

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
        raise Refused("training mode; export the model in inference mode")
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


def standardized(op: Emitter, x: Val, axes: list[int], epsilon: float) -> tuple[Val, Val]:
    """Return (x - mean) / deviation over `axes`, and 1 / deviation. The node kept neither; computed once for all."""
    centred = x - op.ReduceMean(x, axes)
    inverse = 1.0 / op.Sqrt(op.ReduceMean(centred * centred, axes) + epsilon)
    return centred * inverse, inverse


def through_statistics(op: Emitter, g: Val, x: Val, axes: list[int], epsilon: float) -> Val:
    """The cotangent `g` of the standardized value, taken through mean and deviation."""
    unit, inverse = standardized(op, x, axes, epsilon)
    return inverse * (g - op.ReduceMean(g, axes) - unit * op.ReduceMean(g * unit, axes))


def last_axes(x: Val, axis: int) -> list[int]:
    return list(range(axis % x.rank, x.rank))


def layer_norm_x(
    op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val | None, axis: int, epsilon: float, **_: object
) -> Val:
    return through_statistics(op, g * s, x, last_axes(x, axis), epsilon)


def layer_norm_scale(
    op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val | None, axis: int, epsilon: float, **_: object
) -> Val:
    return g * standardized(op, x, last_axes(x, axis), epsilon)[0]


def instance_norm_x(op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val, epsilon: float) -> Val:
    return through_statistics(op, g * per_channel(op, s, x), x, list(range(2, x.rank)), epsilon)


def instance_norm_scale(op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val, epsilon: float) -> Val:
    return over_batch_and_space(op, g * standardized(op, x, list(range(2, x.rank)), epsilon)[0], x)


defvjp("LayerNormalization", layer_norm_x, broadcast(layer_norm_scale), broadcast(lambda op, g, y, x, s, b, **_: g))
defvjp(
    "InstanceNormalization",
    instance_norm_x,
    instance_norm_scale,
    lambda op, g, y, x, s, b, **_: over_batch_and_space(op, g, x),
)


# GroupNormalization: scale and bias are a channel's since opset 21, and were a group's before.


def grouped(op: Emitter, v: Val, groups: int) -> Val:
    return op.Reshape(v, [0, groups, -1])


def channels_of_group(op: Emitter, v: Val, x: Val, groups: int) -> Val:
    """Repeat a value per group for each of its channels."""
    channels = op.shape(x, 1, 2) / [groups]
    return op.Reshape(op.Expand(op.Unsqueeze(v, [1]), op.Concat([groups], channels, axis=0)), [-1])


def sum_of_group(op: Emitter, v: Val, groups: int) -> Val:
    return op.ReduceSum(op.Reshape(v, [groups, -1]), [1], keepdims=0)


def group_norm_x(
    op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val, epsilon: float, num_groups: int, **_: object
) -> Val:
    scaled = g * per_channel(op, s, x)
    flat = through_statistics(op, grouped(op, scaled, num_groups), grouped(op, x, num_groups), [2], epsilon)
    return op.reshape_like(flat, x)


def group_norm_scale(
    op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val, epsilon: float, num_groups: int, **_: object
) -> Val:
    unit = standardized(op, grouped(op, x, num_groups), [2], epsilon)[0]
    return over_batch_and_space(op, g * op.reshape_like(unit, x), x)


def group_scales_x(
    op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val, epsilon: float, num_groups: int, **_: object
) -> Val:
    return group_norm_x(op, g, y, x, channels_of_group(op, s, x, num_groups), b, epsilon, num_groups)


def group_scales_scale(
    op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val, epsilon: float, num_groups: int, **_: object
) -> Val:
    return sum_of_group(op, group_norm_scale(op, g, y, x, s, b, epsilon, num_groups), num_groups)


defvjp(
    "GroupNormalization",
    group_norm_x,
    group_norm_scale,
    lambda op, g, y, x, s, b, **_: over_batch_and_space(op, g, x),
)
defvjp(
    "GroupNormalization",
    group_scales_x,
    group_scales_scale,
    lambda op, g, y, x, s, b, num_groups, **_: sum_of_group(op, over_batch_and_space(op, g, x), num_groups),
    before=21,
)


def lrn(op: Emitter, g: Val, y: Val, x: Val, alpha: float, beta: float, bias: float, size: int) -> Val:
    """Local response normalization over channels: x / (bias + alpha / size * Σ x²) ** beta."""
    front, behind = (size - 1) // 2, size // 2
    total = bias + alpha / size * neighbours(op, x * x, x, front, behind)
    power = op.Pow(total, -beta)
    spread = neighbours(op, g * x * power / total, x, behind, front)  # the window of the other direction
    return g * power - 2 * alpha * beta / size * x * spread


def neighbours(op: Emitter, v: Val, x: Val, front: int, behind: int) -> Val:
    """Sum `v` over the channels from `front` before to `behind` after each."""
    edges = [0] * (2 * x.rank)
    edges[1], edges[x.rank + 1] = front, behind
    padded, count = op.Pad(v, edges), op.shape(x, 1, 2)
    total = op.Slice(padded, [0], count, [1])
    for shift in range(1, front + behind + 1):
        total = total + op.Slice(padded, [shift], count + [shift], [1])
    return total


defvjp("LRN", lrn)
