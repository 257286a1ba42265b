"""Operators of com.microsoft that only GPUs have kernels for: what ONNX Runtime's tools write for diffusion models.

The file needs such a provider because it needs it already; what is added does not.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from cam_onnx.autodiff.broadcasting import sum_to
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.contrib import Maybe, added, microsoft, weights
from cam_onnx.autodiff.rules.convolution import conv_x
from cam_onnx.autodiff.rules.elementwise import gelu, one_minus
from cam_onnx.autodiff.rules.normalization import standardized
from cam_onnx.autodiff.table import Function, broadcast, missing
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []

# Sums in front of something else --------------------------------------------------------------------------------------


def bias_softmax(op: Emitter, g: Val, y: Val, x: Val, b: Val, *, axis: int = 1, is_inner_broadcast: int = 0) -> Val:
    """All axes from `axis` on are one, as in Softmax before opset 13; both ways to broadcast are the standard's."""
    axes = list(range(axis % y.rank, y.rank))
    return y * (g - op.ReduceSum(g * y, axes))


microsoft("BiasSoftmax", broadcast(bias_softmax), broadcast(bias_softmax))
microsoft("BiasAdd", *[broadcast(lambda op, g, y, x, b, skip: g)] * 3)


def bias_split_gelu(op: Emitter, g: Val, y: Val, x: Val, b: Val) -> Val:
    """The halves of ``x + b`` along the last axis: the first times Gelu of the second."""
    half, whole = op.shape(b, 0, 1) / [2], x + b
    value, gate = op.Slice(whole, [0], half, [-1]), op.Slice(whole, half, half * [2], [-1])
    gated = gate * 0.5 * (1.0 + op.Erf(gate / 2**0.5))
    return op.Concat(g * gated, gelu(op, g * value, y, gate, "none"), axis=-1)


def bias_split_gelu_b(op: Emitter, g: Val, y: Val, x: Val, b: Val) -> Val:
    return sum_to(op, bias_split_gelu(op, g, y, x, b), x.dims, b)


microsoft("BiasSplitGelu", bias_split_gelu, bias_split_gelu_b)

# Channels last --------------------------------------------------------------------------------------------------------


def group_norm(
    op: Emitter,
    g: Val,
    x: Val,
    total: Val,
    gamma: Val,
    beta: Val,
    activation: int,
    channels_last: int,
    epsilon: float,
    groups: int,
) -> Val:
    """Cotangent of `total`, which is normalised in groups of channels and goes through SiLU if `activation` is 1."""
    if activation not in (0, 1):
        raise Refused(f"activation {activation}")
    c = gamma.dims[0]
    if not isinstance(c, int):
        raise Refused("a number of channels that is known at run time only")
    if channels_last:
        split, axes, own = [0, -1, groups, c // groups], [1, 3], [groups, c // groups]
    else:
        split, axes, own = [0, groups, c // groups, -1], [2, 3], [groups, c // groups, 1]
    scale, shift, g = op.Reshape(gamma, own), op.Reshape(beta, own), op.Reshape(g, split)
    unit, inverse = standardized(op, op.Reshape(total, split), axes, epsilon)
    if activation:
        z = unit * scale + shift
        s = op.Sigmoid(z)
        g = g * (s + z * (s * one_minus(op, s)))
    g = g * scale
    return op.reshape_like(inverse * (g - op.ReduceMean(g, axes) - unit * op.ReduceMean(g * unit, axes)), x)


def group_norm_x(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    gamma: Val,
    beta: Val,
    *,
    groups: int,
    activation: int,
    channels_last: int = 1,
    epsilon: float = 1e-5,
) -> Val:
    return group_norm(op, g, x, x, gamma, beta, activation, channels_last, epsilon, groups)


def skip_group_norm(which: str) -> Function:
    """Output 0 is normalised, output 1 the sum; `skip` may be given without the axes of space."""

    def vjp(
        op: Emitter,
        gs: tuple[Maybe, ...],
        ys: tuple[Val, ...],
        x: Val,
        gamma: Val,
        beta: Val,
        skip: Val,
        bias: Maybe,
        *,
        groups: int,
        activation: int,
        channels_last: int = 1,
        epsilon: float = 1e-5,
    ) -> Val:
        space = [1, 2] if channels_last else [2, 3]
        flat = skip.rank == 2
        parts = [g for g in gs[1:2] if g is not None]
        if gs[0] is not None:
            own = bias
            if own is not None and not channels_last:
                own = op.Unsqueeze(own, [1, 2])
            total = added(op, x + (op.Unsqueeze(skip, space) if flat else skip), own)
            parts.append(group_norm(op, gs[0], x, total, gamma, beta, activation, channels_last, epsilon, groups))
        found = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        if which == "x":
            return found
        return op.ReduceSum(found, space, keepdims=0) if flat else sum_to(op, found, x.dims, skip)

    return vjp


microsoft("GroupNorm", group_norm_x, weights, weights)
microsoft("SkipGroupNorm", skip_group_norm("x"), weights, weights, skip_group_norm("skip"), weights, several=True)


def channels_first(op: Emitter, v: Val) -> Val:
    turned = op.Transpose(v, perm=[0, 3, 1, 2])
    n, h, w, c = v.dims
    turned.value.shape = ir.Shape([n, c, h, w])
    return turned


def nhwc_conv(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    w: Val,
    b: Maybe,
    *,
    auto_pad: str = "NOTSET",
    group: int = 1,
    dilations: Any = None,
    kernel_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Val:
    """The kernel is (M, *K, C / group)."""
    y, x, w = (channels_first(op, v) for v in (y, x, w))
    g = op.Transpose(g, perm=[0, 3, 1, 2])
    found = conv_x(op, g, y, x, w, None, auto_pad, dilations, group, kernel_shape, pads, strides)
    return op.Transpose(found, perm=[0, 2, 3, 1])


def nhwc_conv_b(op: Emitter, g: Val, y: Val, x: Val, w: Val, b: Val, **_: object) -> Val:
    return op.ReduceSum(g, [0, 1, 2], keepdims=0)


microsoft("NhwcConv", nhwc_conv, missing("with respect to the kernel"), nhwc_conv_b)
