"""Quantised operators of com.microsoft other than products: entry by entry, and moves."""

from __future__ import annotations

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.layout import concat
from cam_onnx.autodiff.rules.quantization import Maybe, microsoft, numbers, rescaled, strictly_inside
from cam_onnx.autodiff.table import Function, Vjp, broadcast, each
from cam_onnx.autodiff.val import Val

__all__: list[str] = []

# Entry by entry -------------------------------------------------------------------------------------------------------


def first(op: Emitter, g: Val, y: Val, a: Val, as_: Val, *_: Maybe) -> Val:
    return rescaled(op, g, as_, a)


def second(op: Emitter, g: Val, y: Val, a: Val, as_: Val, az: Maybe, b: Val, bs: Val, *_: Maybe) -> Val:
    return rescaled(op, g, bs, b)


def times_second(
    op: Emitter, g: Val, y: Val, a: Val, as_: Val, az: Maybe, b: Val, bs: Val, bz: Maybe, *_: Maybe
) -> Val:
    return rescaled(op, g * numbers(op, b, bs, bz, axis=0), as_, a)


def times_first(op: Emitter, g: Val, y: Val, a: Val, as_: Val, az: Maybe, b: Val, bs: Val, *_: Maybe) -> Val:
    return rescaled(op, g * numbers(op, a, as_, az, axis=0), bs, b)


def pairs(one: Function, other: Function) -> tuple[Vjp | None, ...]:
    return broadcast(one), None, None, broadcast(other), None, None, None, None


microsoft("QLinearAdd", *pairs(first, second), inside=strictly_inside)
microsoft("QLinearMul", *pairs(times_second, times_first), inside=strictly_inside)


def qlinear_sigmoid(op: Emitter, g: Val, y: Val, x: Val, xs: Val, *_: Maybe) -> Val:
    real = op.Sigmoid(x)  # not from y: small probabilities have rounded to 0
    return rescaled(op, g * real * (1.0 - real), xs, x)


def qlinear_leaky_relu(op: Emitter, g: Val, y: Val, x: Val, xs: Val, *_: Maybe, alpha: float = 0.01) -> Val:
    return rescaled(op, op.Where(op.Greater(x, 0.0), g, g * alpha), xs, x)  # at 0: alpha; y may have rounded to it


def qlinear_softmax(op: Emitter, g: Val, y: Val, x: Val, xs: Val, *_: Maybe, axis: int = -1, opset: int) -> Val:
    first = axis % x.rank
    axes = [first] if opset >= 13 else list(range(first, x.rank))  # before 13 all axes from there on are one
    shares = op.Exp(x - op.ReduceMax(x, axes))
    real = shares / op.ReduceSum(shares, axes)  # not from y: small probabilities have rounded to 0
    return rescaled(op, real * (g - op.ReduceSum(g * real, axes)), xs, x)


def qlinear_where(op: Emitter, i: int, g: Val, y: Val, condition: Val, *operands: Val) -> Val:
    x, scale = operands[i - 1], operands[i]
    return rescaled(op, op.Where(condition, g, 0.0) if i == 1 else op.Where(condition, 0.0, g), scale, x)


microsoft("QLinearSigmoid", qlinear_sigmoid, *[None] * 4)
microsoft("QLinearLeakyRelu", qlinear_leaky_relu, *[None] * 4)
microsoft("QLinearSoftmax", qlinear_softmax, *[None] * 4)
microsoft("QLinearWhere", None, *[each(qlinear_where, broadcast=True), None, None] * 2, None, None)

# Moves: never masked -------------------------------------------------------------------------------------


def qlinear_concat(op: Emitter, i: int, g: Val, y: Val, *operands: Val, axis: int) -> Val:
    """Scale and zero point of the output, then three for each part: it, its scale, its zero point."""
    return rescaled(op, concat(op, (i - 2) // 3, g, y, *operands[2::3], axis=axis), operands[i + 1], operands[i])


microsoft("QLinearConcat", None, None, each(qlinear_concat))
