"""Quantised operators. Straight-through: rounding has derivative 1, the range cuts off.

The range often is the Relu or Clip that a quantiser removed, so that its mask is part of the network. It is told from
what QuantizeLinear reads, edges included, and from the integers that an operator gives where only they are there: the
last ones may have been cut off. Averages and moves give what is within the range of what they read, and are never
masked. Cotangents are with respect to the real numbers that integers stand for; primals are read as these numbers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.quantised import dequantised, equal, laid_along, scale_of
from cam_onnx.autodiff.rules.convolution import conv_x
from cam_onnx.autodiff.rules.layout import pad_or_cut
from cam_onnx.autodiff.rules.linear import gemm_left, matmul_left, matmul_right
from cam_onnx.autodiff.table import defvjp
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []

microsoft = partial(defvjp, domain="com.microsoft")
Maybe = Val | None

# Ranges ---------------------------------------------------------------------------------------------------------------


def within(op: Emitter, y: Val, seen: Val, margin: float) -> Val:
    """Return where `seen` lies in the range of the quantised `y`, widened by `margin` steps."""
    given, kind = scale_of(y.value), y.value.dtype
    if given is None or given.scale is None or kind is None:
        raise Refused("an output whose scale or integer type is not known")
    info: Any = (ml_dtypes.iinfo if kind.is_integer() else ml_dtypes.finfo)(kind.numpy())
    low, high = float(info.min) - margin, float(info.max) + margin
    along = given.axis, given.block_size
    scale = laid_along(op, op.primal(given.scale), y, *along)
    if given.zero_point is not None:
        zero = laid_along(op, op.Cast(op.primal(given.zero_point), to=seen.dtype), y, *along)
        lowest, highest = (low - zero) * scale, (high - zero) * scale
    else:
        lowest, highest = low * scale, high * scale
    return op.And(op.GreaterOrEqual(seen, lowest), op.LessOrEqual(seen, highest))


def rounds_inside(op: Emitter, y: Val, x: Val) -> Val:
    """QuantizeLinear: what rounds to one of its integers without being cut off."""
    whole = y.value.dtype is not None and y.value.dtype.is_integer()
    return within(op, y, x, 0.5 if whole else 0.0)


def strictly_inside(op: Emitter, y: Val, x: Val) -> Val:
    """An operator of integers: neither the first nor the last one, which what was cut off looks like too."""
    return within(op, y, y, -0.5)


# Scales ---------------------------------------------------------------------------------------------------------------


def rescaled(op: Emitter, g: Val, scale: Val | None, x: Val) -> Val:
    """Return `g` with respect to the real number of `x`, from what the operator takes it for by its own `scale`."""
    given = scale_of(x.value)
    if given is None:
        return g
    own = None if given.scale is None else op.primal(given.scale)
    if equal(own, scale):
        return g
    if scale is not None:
        g = g * laid_along(op, scale, x, given.axis, given.block_size)
    return g if own is None else g / laid_along(op, own, x, given.axis, given.block_size)


def numbers(op: Emitter, w: Val, scale: Val | None, zero: Val | None, axis: int) -> Val:
    """Return the other operand as real numbers: a weight is not annotated, and its operator says what it stands for."""
    return w if scale_of(w.value) is not None else dequantised(op, w, scale, zero, axis)


def counts(op: Emitter, w: Val, zero: Val | None, axis: int) -> Val:
    """Return the integers of the other operand from their zero point on, whatever they stand for."""
    return dequantised(op, op.raw(w.value), None, zero, axis)


def per_scale(op: Emitter, terms: Val, scale: Val, x: Val, axis: int, block_size: int = 0) -> Val:
    """Sum what every entry of `x` says of its scale over the entries that share it."""
    if scale.value.shape is not None and all(d == 1 for d in scale.dims):
        return op.reshape_like(op.ReduceSum(terms, keepdims=0), scale)
    axis %= x.rank
    if not block_size:
        return op.ReduceSum(terms, [a for a in range(x.rank) if a != axis], keepdims=0)
    sizes = [op.shape(x, a, a + 1) for a in range(x.rank)]
    blocks = op.shape(scale, axis, axis + 1)
    cut_short = blocks * [block_size] - sizes[axis]  # the last block may be
    nothing = op.constant([0])
    pads = [nothing] * x.rank + [cut_short if a == axis else nothing for a in range(x.rank)]
    whole = pad_or_cut(op, terms, op.Concat(*pads, axis=0))
    split = op.Concat(*sizes[:axis], blocks, [block_size], *sizes[axis + 1 :], axis=0)
    return op.ReduceSum(op.Reshape(whole, split), [axis + 1], keepdims=0)


def quantize(
    op: Emitter, g: Val, y: Val, x: Val, s: Val, z: Maybe, *, axis: int = 1, block_size: int = 0, **_: object
) -> Val:
    # a scale of 0 has no inverse: NaN says so, where zeros would look like an answer
    if s.known is None:
        laid = laid_along(op, s, x, axis, block_size)
        return g * (laid / laid)
    return g if np.all(s.known) else g * float("nan")


def quantize_scale(
    op: Emitter, g: Val, y: Val, x: Val, s: Val, z: Maybe, *, axis: int = 1, block_size: int = 0, **_: object
) -> Val:
    """The integer, straight-through, is x / s: a smaller scale makes it larger."""
    if block_size:
        raise Refused("with respect to scales of blocks")
    return per_scale(op, -g * x / laid_along(op, s, x, axis), s, x, axis)


def dequantize(op: Emitter, g: Val, y: Val, x: Val, s: Val, z: Maybe, **_: object) -> Val:
    return rescaled(op, g, s, x)


def dequantize_scale(
    op: Emitter, g: Val, y: Val, x: Val, s: Val, z: Maybe, *, axis: int = 1, block_size: int = 0, **_: object
) -> Val:
    """The integers themselves, which DequantizeLinear gives with a scale of one."""
    one = op.Expand(op.constant(1.0), op.shape(s))
    return per_scale(op, g * dequantised(op, op.raw(x.value), one, z, axis, block_size), s, x, axis, block_size)


# ONNX Runtime's own: for 16 and 4 bits before the standard had them
for domain in ("", "com.microsoft"):
    defvjp("QuantizeLinear", quantize, quantize_scale, None, inside=rounds_inside, domain=domain)
    defvjp("DequantizeLinear", dequantize, dequantize_scale, None, domain=domain)


def dynamic(op: Emitter, gs: tuple[Maybe, ...], ys: tuple[Val, ...], x: Val) -> Maybe:
    """The range is that of the data, so that nothing is cut off; where it is asked for, its ends move with the data."""
    g, of_scale = gs[:2]
    if of_scale is None:
        return g
    if g is not None:  # longer steps are fewer steps
        of_scale = of_scale - op.ReduceSum(g * x, keepdims=0) / ys[1]
    flat, step = op.Reshape(x, [-1]), op.Reshape(of_scale, [1]) / 255.0
    found = op.Expand(op.constant(0.0), op.Shape(flat))
    for end, sign in ((flat, 1.0), (-flat, -1.0)):
        reaches = op.Greater(op.ReduceMax(end), 0.0)  # 0 is always within the range
        moved = op.Where(reaches, step * sign, 0.0)
        found = found + op.ScatterElements(found * 0.0, op.ArgMax(end, axis=0), moved, axis=0)
    found = op.reshape_like(found, x)
    return found if g is None else g + found


defvjp("DynamicQuantizeLinear", dynamic, several=True)

# Linear operators -----------------------------------------------------------------------------------------------------


def qlinear_conv(
    op: Emitter, g: Val, y: Val, x: Val, xs: Val, xz: Val, w: Val, ws: Val, wz: Maybe, *_: Maybe, **windows: Any
) -> Val:
    return rescaled(op, conv_x(op, g, y, x, numbers(op, w, ws, wz, axis=0), None, **windows), xs, x)


def conv_integer(op: Emitter, g: Val, y: Val, x: Val, w: Val, xz: Maybe, wz: Maybe, **windows: Any) -> Val:
    return rescaled(op, conv_x(op, g, y, x, counts(op, w, wz, axis=0), None, **windows), None, x)


defvjp("QLinearConv", qlinear_conv, *[None] * 8, inside=strictly_inside)
defvjp("ConvInteger", conv_integer, *[None] * 3)


def qlinear_matmul_left(
    op: Emitter, g: Val, y: Val, a: Val, as_: Val, az: Val, b: Val, bs: Val, bz: Val, *_: Maybe
) -> Val:
    return rescaled(op, matmul_left(op, g, y, a, numbers(op, b, bs, bz, axis=-1)), as_, a)


def qlinear_matmul_right(
    op: Emitter, g: Val, y: Val, a: Val, as_: Val, az: Val, b: Val, bs: Val, bz: Val, *_: Maybe
) -> Val:
    return rescaled(op, matmul_right(op, g, y, numbers(op, a, as_, az, axis=-2), b), bs, b)


def matmul_integer_left(op: Emitter, g: Val, y: Val, a: Val, b: Val, az: Maybe, bz: Maybe) -> Val:
    return rescaled(op, matmul_left(op, g, y, a, counts(op, b, bz, axis=-1)), None, a)


def matmul_integer_right(op: Emitter, g: Val, y: Val, a: Val, b: Val, az: Maybe, bz: Maybe) -> Val:
    return rescaled(op, matmul_right(op, g, y, counts(op, a, az, axis=-2), b), None, b)


defvjp(
    "QLinearMatMul",
    *(qlinear_matmul_left, None, None, qlinear_matmul_right, None, None, None, None),
    inside=strictly_inside,
)
defvjp("MatMulInteger", matmul_integer_left, matmul_integer_right, None, None)


def qgemm(
    op: Emitter,
    g: Val,
    y: Val,
    *operands: Maybe,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Val:
    a, as_, _, b, bs, bz = operands[:6]
    assert a is not None
    assert b is not None
    real = numbers(op, b, bs, bz, axis=0 if transB else 1)
    return rescaled(op, gemm_left(op, g, y, a, real, None, alpha, transA, transB), as_, a)


def strictly_inside_if_quantised(op: Emitter, y: Val, x: Val) -> Val:
    """QGemm without a scale of its output gives floats, which nothing cuts off."""
    return op.constant(np.array(True)) if scale_of(y.value) is None else strictly_inside(op, y, x)


microsoft("QGemm", qgemm, *[None] * 8, inside=strictly_inside_if_quantised)


def dynamic_matmul(op: Emitter, g: Val, y: Val, a: Val, b: Val, bs: Val, bz: Maybe, bias: Maybe) -> Val:
    return matmul_left(op, g, y, a, dequantised(op, b, bs, bz, axis=-1))


def matmul_to_float(
    op: Emitter, g: Val, y: Val, a: Val, b: Val, as_: Val, bs: Val, az: Maybe, bz: Maybe, bias: Maybe
) -> Val:
    return rescaled(op, matmul_left(op, g, y, a, numbers(op, b, bs, bz, axis=-1)), as_, a)


microsoft("DynamicQuantizeMatMul", dynamic_matmul, *[None] * 4)
microsoft("MatMulIntegerToFloat", matmul_to_float, *[None] * 6)


def matmul_nbits(
    op: Emitter,
    g: Val,
    y: Val,
    a: Val,
    b: Val,
    scales: Val,
    zeros: Maybe,
    order: Maybe,
    bias: Maybe,
    *,
    K: int,
    N: int,
    block_size: int,
    bits: int = 4,
    **_: object,
) -> Val:
    """The weight (N, K): blocks along K with a scale each, `bits` wide, packed into bytes, the lowest bits first."""
    if bits not in (2, 4, 8) or order is not None:
        raise Refused(f"{bits} bits" if order is None else "blocks in an order of their own (g_idx)")
    blocks, in_byte = -(-K // block_size), 8 // bits
    if zeros is None:
        offset: Val | float = float(2 ** (bits - 1))
    elif zeros.value.dtype == ir.DataType.UINT8:
        padded = unpacked(op, zeros, bits, [N, -(-blocks // in_byte) * in_byte, 1])
        offset = op.Slice(padded, [0], [blocks], [1])
    else:
        offset = op.Reshape(zeros, [N, blocks, 1])
    w = (unpacked(op, b, bits, [N, blocks, block_size]) - offset) * op.Reshape(scales, [N, blocks, 1])
    return op.MatMul(g, op.Slice(op.Reshape(w, [N, blocks * block_size]), [0], [K], [1]))


def unpacked(op: Emitter, packed: Val, bits: int, shape: list[int]) -> Val:
    """Return the numbers in the bytes of `packed`, as float32."""
    whole = op.Cast(op.Reshape(packed, [-1, 1]), to=ir.DataType.INT32)
    shifts = np.array([2**i for i in range(0, 8, bits)], np.int32)
    pieces = op.Mod(whole / op.constant(shifts), op.constant(np.array(2**bits, np.int32)))
    return op.Reshape(op.Cast(pieces, to=ir.DataType.FLOAT), shape)


microsoft("MatMulNBits", matmul_nbits, *[None] * 5)
