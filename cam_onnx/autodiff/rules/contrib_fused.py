"""A convolution or a matrix product and the activation behind it in one node, as ONNX Runtime's optimiser writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.contrib import Maybe, added, microsoft
from cam_onnx.autodiff.rules.contrib_gpu import channels_first
from cam_onnx.autodiff.rules.convolution import conv_x
from cam_onnx.autodiff.rules.elementwise import (
    celu,
    elu,
    gate,
    hard_swish,
    leaky_relu,
    one_minus,
    selu,
    square,
    where,
)
from cam_onnx.autodiff.rules.linear import gemm_left, gemm_right
from cam_onnx.autodiff.table import broadcast, missing
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []

kernel = missing("with respect to the kernel")


def behind(op: Emitter, g: Val, y: Val, activation: str, *given: float, before: Callable[[], Val]) -> Val:
    """Return the cotangent of what the fused activation read: told from `y`, or from what is computed again."""
    match activation:
        case "":
            return g
        case "Relu":
            return gate(op, g, y, low=0.0)
        case "LeakyRelu" if (given or (0.01,))[0] >= 0:
            return leaky_relu(op, g, y, y, *given[:1] or (0.01,))
        case "Tanh":
            return g * one_minus(op, y * y)
        case "Sigmoid":
            return g * (y * one_minus(op, y))
        case "HardSigmoid":
            return gate(op, g, y, 0.0, 1.0) * (given or (0.2,))[0]
        case "Clip":
            return gate(op, g, y, *given[:2])
        case "HardSwish":
            return hard_swish(op, g, y, before())  # the kernel reads no parameters
        case "Elu" if (given or (1.0,))[0] >= 0:
            return elu(op, g, y, y, *given[:1] or (1.0,))
        case "Celu" if (given or (1.0,))[0] > 0:
            return celu(op, g, y, y, *given[:1] or (1.0,))
        case "Selu" if len(given) == 2 and min(given) >= 0:
            return selu(op, g, y, y, *given)
        case "Softplus":
            return g * op.Sigmoid(before())
        case "Softsign":
            return square(g, 1.0 - op.Abs(y))
        case "ThresholdedRelu":
            return where(op, op.Greater(before(), (given or (1.0,))[0]), g)
    raise Refused(f"a fused {activation}; save the file at basic level")


def summed(
    op: Emitter,
    x: Val,
    w: Val,
    b: Maybe,
    z: Maybe,
    auto_pad: str = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Val:
    """What the activation read: it is nowhere in the file, and not told by the output of every activation."""
    axes = w.rank - 2
    product = op.Conv(
        x,
        w,
        b,
        auto_pad=auto_pad,
        dilations=dilations or [1] * axes,
        group=group,
        kernel_shape=kernel_shape or w.dims[2:],
        pads=(pads or [0] * (2 * axes)) if auto_pad == "NOTSET" else None,
        strides=strides or [1] * axes,
    )
    return added(op, product, z)


def fused_conv_x(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    w: Val,
    b: Maybe,
    z: Maybe,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    group: int = 1,
    dilations: Any = None,
    kernel_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Val:
    windows = dict(auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape, pads=pads)
    windows["strides"] = strides
    inner = behind(op, g, y, activation, *activation_params, before=lambda: summed(op, x, w, b, z, **windows))
    return conv_x(op, inner, y, x, w, None, **windows)


def fused_conv_z(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    w: Val,
    b: Maybe,
    z: Maybe,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    **windows: Any,
) -> Val:
    """What is added before the activation: a residual branch."""
    return behind(op, g, y, activation, *activation_params, before=lambda: summed(op, x, w, b, z, **windows))


def fused_conv_b(op: Emitter, g: Val, y: Val, x: Val, w: Val, b: Val, z: Maybe, **attributes: Any) -> Val:
    inner = fused_conv_z(op, g, y, x, w, b, z, **attributes)
    return op.ReduceSum(inner, [axis for axis in range(x.rank) if axis != 1], keepdims=0)


microsoft("FusedConv", fused_conv_x, kernel, fused_conv_b, fused_conv_z)


def channels_last(vjp: Callable[..., Val], turn: bool = True) -> Callable[..., Val]:
    """Turn what has space before the channels, the kernel has not; on CPUs with arithmetic of 16 bits."""

    def turned(op: Emitter, g: Val, y: Val, x: Val, w: Val, b: Maybe, z: Maybe, **attributes: Any) -> Val:
        y, x = channels_first(op, y), channels_first(op, x)
        z = None if z is None else channels_first(op, z)
        found = vjp(op, op.Transpose(g, perm=[0, 3, 1, 2]), y, x, w, b, z, **attributes)
        return op.Transpose(found, perm=[0, 2, 3, 1]) if turn else found

    return turned


microsoft(
    "NhwcFusedConv",
    *(channels_last(fused_conv_x), kernel, channels_last(fused_conv_b, turn=False), channels_last(fused_conv_z)),
)


def fused_gemm(which: int) -> Any:
    def vjp(
        op: Emitter,
        g: Val,
        y: Val,
        a: Val,
        b: Val,
        c: Maybe,
        *,
        activation: str = "",
        activation_alpha: float | None = None,
        activation_beta: float | None = None,
        activation_gamma: float | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        transA: int = 0,
        transB: int = 0,
    ) -> Val:
        given = [v for v in (activation_alpha, activation_beta, activation_gamma) if v is not None]
        turns = dict(alpha=alpha, beta=beta, transA=transA, transB=transB)
        inner = behind(op, g, y, activation, *given, before=lambda: op.Gemm(a, b, c, **turns))
        if which == 2:
            return inner if beta == 1.0 else inner * beta
        return (gemm_left, gemm_right)[which](op, inner, y, a, b, c, alpha, transA, transB)

    return vjp


microsoft("FusedGemm", fused_gemm(0), fused_gemm(1), broadcast(fused_gemm(2)))
