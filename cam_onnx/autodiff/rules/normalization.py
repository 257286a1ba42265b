"""Normalisations and softmax."""

from __future__ import annotations

from dataclasses import dataclass

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.elementwise import inverse
from cam_onnx.autodiff.table import broadcast, defvjp
from cam_onnx.autodiff.val import Val

__all__: list[str] = []


def per_channel(op: Emitter, v: Val, x: Val) -> Val:
    """Shape a vector over channels so that it broadcasts over (N, C, *S)."""
    return v if x.rank == 2 else op.Unsqueeze(v, list(range(1, x.rank - 1)))


def over_batch_and_space(op: Emitter, v: Val, x: Val) -> Val:
    return op.ReduceSum(v, [axis for axis in range(x.rank) if axis != 1], keepdims=0)


def standardized(op: Emitter, x: Val, axes: list[int], epsilon: float) -> tuple[Val, Val]:
    """Return (x - mean) / deviation over `axes`, and 1 / deviation. The node kept neither; computed once for all."""
    centred = x - op.ReduceMean(x, axes)
    inverse = 1.0 / op.Sqrt(op.ReduceMean(centred * centred, axes) + epsilon)
    return centred * inverse, inverse


def through_statistics(op: Emitter, g: Val, x: Val, axes: list[int], epsilon: float) -> Val:
    """The cotangent `g` of the standardized value, taken through mean and deviation."""
    unit, inverse = standardized(op, x, axes, epsilon)
    return inverse * (g - op.ReduceMean(g, axes) - unit * op.ReduceMean(g * unit, axes))


def zeros(op: Emitter, like: Val, g: Val) -> Val:
    return op.Expand(op.constant(0.0, g.dtype), op.shape(like))


Vals = tuple[Val | None, ...]


@dataclass(frozen=True)
class Statistics:
    """BatchNormalization of `x`: with the statistics that it is given, or (training) with those of the batch.

    In training the running statistics are outputs too: `gs` are the cotangents of y, mean and variance.
    """

    op: Emitter
    gs: Vals
    x: Val
    s: Val
    mean: Val
    var: Val
    epsilon: float
    momentum: float
    training: bool

    @classmethod
    def of(
        cls,
        op: Emitter,
        gs: Vals,
        ys: Vals,
        x: Val,
        s: Val,
        b: Val,
        mean: Val,
        var: Val,
        epsilon: float,
        momentum: float,
        training_mode: int = 0,  # absent below opset 14
        **_: object,
    ) -> Statistics:
        gs = gs if training_mode else gs[:1]
        return cls(op, (*gs, None, None)[:3], x, s, mean, var, epsilon, momentum, bool(training_mode))

    @property
    def axes(self) -> list[int]:
        return [axis for axis in range(self.x.rank) if axis != 1]

    @property
    def any(self) -> Val:
        return next(g for g in self.gs if g is not None)

    def inverse(self) -> Val:
        return 1.0 / self.op.Sqrt(self.var + self.epsilon)

    def of_x(self) -> Val:
        op, (g, of_mean, of_var) = self.op, self.gs
        parts = []
        if g is not None and self.training:
            parts.append(through_statistics(op, g * per_channel(op, self.s, self.x), self.x, self.axes, self.epsilon))
        elif g is not None:
            parts.append(g * per_channel(op, self.s * self.inverse(), self.x))
        if of_mean is not None or of_var is not None:
            sizes = [op.shape(self.x, axis, axis + 1) for axis in self.axes]
            count = op.Cast(op.ReduceProd(op.Concat(*sizes, axis=0), keepdims=0), to=self.any.dtype)
            share = (1.0 - self.momentum) / count
            if of_mean is not None:
                parts.append(op.Expand(per_channel(op, of_mean * share, self.x), op.shape(self.x)))
            if of_var is not None:
                centred = self.x - op.ReduceMean(self.x, self.axes)
                parts.append(centred * per_channel(op, of_var * share * 2.0, self.x))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def of_scale(self) -> Val:
        op, g = self.op, self.gs[0]
        if g is None:
            return zeros(op, self.s, self.any)
        if self.training:
            return over_batch_and_space(op, g * standardized(op, self.x, self.axes, self.epsilon)[0], self.x)
        centred = self.x - per_channel(op, self.mean, self.x)
        return over_batch_and_space(op, g * centred, self.x) * self.inverse()

    def of_bias(self) -> Val:
        g = self.gs[0]
        return zeros(self.op, self.s, self.any) if g is None else over_batch_and_space(self.op, g, self.x)

    def of_mean(self) -> Val:
        op, (g, of_mean, _) = self.op, self.gs
        if self.training or g is None:
            return zeros(op, self.mean, self.any) if of_mean is None else of_mean * self.momentum
        return -over_batch_and_space(op, g, self.x) * self.s * self.inverse()

    def of_var(self) -> Val:
        op, (g, _, of_var) = self.op, self.gs
        if self.training or g is None:
            return zeros(op, self.var, self.any) if of_var is None else of_var * self.momentum
        inverse = self.inverse()
        centred = self.x - per_channel(op, self.mean, self.x)
        return over_batch_and_space(op, g * centred, self.x) * self.s * inverse * inverse * inverse * -0.5


defvjp(
    "BatchNormalization",
    lambda *values, **how: Statistics.of(*values, **how).of_x(),
    lambda *values, **how: Statistics.of(*values, **how).of_scale(),
    lambda *values, **how: Statistics.of(*values, **how).of_bias(),
    lambda *values, **how: Statistics.of(*values, **how).of_mean(),
    lambda *values, **how: Statistics.of(*values, **how).of_var(),
    several=True,
)


def last_axes(x: Val, axis: int) -> list[int]:
    return list(range(axis % x.rank, x.rank))


def layer_norm_x(
    op: Emitter, gs: Vals, ys: Vals, x: Val, s: Val, b: Val | None, axis: int, epsilon: float, **_: object
) -> Val:
    """Through y, and through mean and 1 / deviation where these are outputs that something reads."""
    axes = last_axes(x, axis)
    g, of_mean, of_inverse = (*gs, None, None)[:3]
    parts = [] if g is None else [through_statistics(op, g * s, x, axes, epsilon)]
    if of_mean is not None or of_inverse is not None:
        some = of_mean if of_mean is not None else of_inverse
        assert some is not None
        sizes = op.Concat(*(op.shape(x, axis, axis + 1) for axis in axes), axis=0)
        count = op.Cast(op.ReduceProd(sizes, keepdims=0), to=some.dtype)
        if of_mean is not None:
            parts.append(op.Expand(of_mean / count, op.shape(x)))
        if of_inverse is not None:
            unit, inverse = standardized(op, x, axes, epsilon)
            parts.append(-of_inverse * inverse * inverse / count * unit)
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def layer_norm_scale(
    op: Emitter, gs: Vals, ys: Vals, x: Val, s: Val, b: Val | None, axis: int, epsilon: float, **_: object
) -> Val:
    g = gs[0]
    return zeros(op, x, s) if g is None else g * standardized(op, x, last_axes(x, axis), epsilon)[0]


def layer_norm_bias(op: Emitter, gs: Vals, ys: Vals, x: Val, s: Val, b: Val, **_: object) -> Val:
    return zeros(op, x, s) if gs[0] is None else gs[0]


def instance_norm_x(op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val, epsilon: float) -> Val:
    return through_statistics(op, g * per_channel(op, s, x), x, list(range(2, x.rank)), epsilon)


def instance_norm_scale(op: Emitter, g: Val, y: Val, x: Val, s: Val, b: Val, epsilon: float) -> Val:
    return over_batch_and_space(op, g * standardized(op, x, list(range(2, x.rank)), epsilon)[0], x)


defvjp("LayerNormalization", layer_norm_x, broadcast(layer_norm_scale), broadcast(layer_norm_bias), several=True)
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


def lp_normalization(op: Emitter, g: Val, y: Val, x: Val, axis: int, p: int) -> Val:
    """Through the norm, which the node did not keep; where it is 0: 0."""
    norm = op.ReduceL1(x, [axis]) if p == 1 else op.ReduceL2(x, [axis])
    way = op.Sign(x) if p == 1 else y
    return (g - way * op.ReduceSum(g * y, [axis])) * inverse(op, norm)


defvjp("LpNormalization", lp_normalization)
