"""Integers whose channels are the last axis, as ONNX Runtime lays quantised networks out at its highest level.

Kernels stay as the standard has them. Each rule is the standard layout's between two transpositions.
"""

from __future__ import annotations

from typing import Any

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.contrib_gpu import channels_first
from cam_onnx.autodiff.rules.convolution import conv_x
from cam_onnx.autodiff.rules.pooling import average_pool, max_pool
from cam_onnx.autodiff.rules.quantization import Maybe, microsoft, numbers, rescaled, strictly_inside
from cam_onnx.autodiff.rules.reduction import global_average_pool
from cam_onnx.autodiff.table import Function
from cam_onnx.autodiff.val import Val

__all__: list[str] = []


def laid_out(vjp: Function, op: Emitter, g: Val, y: Val, x: Val, last: int, *others: Any, **attributes: Any) -> Val:
    """Return the cotangent of `x` by the rule of the standard's layout; `last`: values are in the other one."""
    if not last:
        found: Val = vjp(op, g, y, x, *others, **attributes)
        return found
    g = op.Transpose(g, perm=[0, 3, 1, 2])
    found = vjp(op, g, channels_first(op, y), channels_first(op, x), *others, **attributes)
    return op.Transpose(found, perm=[0, 2, 3, 1])


def qlinear_conv(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    xs: Val,
    xz: Val,
    w: Val,
    ws: Val,
    wz: Maybe,
    *_: Maybe,
    channels_last: int = 0,
    auto_pad: str = "NOTSET",
    group: int = 1,
    dilations: Any = None,
    kernel_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Val:
    windows = dict(auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads)
    found = laid_out(
        conv_x, op, g, y, x, channels_last, numbers(op, w, ws, wz, axis=0), None, strides=strides, **windows
    )
    return rescaled(op, found, xs, x)


def qlinear_average_pool(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    xs: Val,
    *_: Maybe,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Val:
    windows = auto_pad, ceil_mode, count_include_pad, None, kernel_shape, pads, strides
    return rescaled(op, laid_out(average_pool, op, g, y, x, channels_last, *windows), xs, x)


def qlinear_global_average_pool(op: Emitter, g: Val, y: Val, x: Val, xs: Val, *_: Maybe, channels_last: int = 0) -> Val:
    return rescaled(op, laid_out(global_average_pool, op, g, y, x, channels_last), xs, x)


def nhwc_max_pool(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    *,
    kernel_shape: list[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Val:
    return laid_out(max_pool, op, g, y, x, 1, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)


microsoft("QLinearConv", qlinear_conv, *[None] * 8, inside=strictly_inside)
microsoft("QLinearAveragePool", qlinear_average_pool, *[None] * 4)
microsoft("QLinearGlobalAveragePool", qlinear_global_average_pool, *[None] * 4)
microsoft("NhwcMaxPool", nhwc_max_pool)
