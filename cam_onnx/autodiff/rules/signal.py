"""Fourier transforms. The transpose of a transform is the one with the other sign, unnormalised."""

from __future__ import annotations

import math

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.layout import WHOLE, add_at, pad_or_cut
from cam_onnx.autodiff.table import defvjp
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []


def dft(op: Emitter, g: Val, y: Val, x: Val, length: Val | None, axis: Val | None, inverse: int, onesided: int) -> Val:
    if axis is not None and axis.known is None:
        raise Refused("an axis that is known at run time only")
    return dft_along(
        op, g, y, x, length, -2 if axis is None or axis.known is None else int(axis.known.item()), inverse, onesided
    )


def dft_along(op: Emitter, g: Val, y: Val, x: Val, length: Val | None, axis: int, inverse: int, onesided: int) -> Val:
    axis %= x.rank
    own = op.shape(x, axis, axis + 1)
    if length is not None:
        points = op.Reshape(op.Cast(length, to=7), [1])
    else:
        points = (own - [1]) * [2] if inverse and onesided else own
    count = op.Cast(points, to=g.dtype)
    if not inverse:
        whole = resized(op, g, axis, points, x.rank) if onesided else g
        result = op.DFT(whole, None, axis, inverse=1) * count
    elif onesided:  # a real signal: every bin but the first, and the middle one of an even length, stands for two
        half = op.DFT(g, None, axis, onesided=1)
        bins = op.Range(0, op.Squeeze(op.Slice(op.Shape(half), [axis], [axis + 1], [0]), [0]), 1)
        one = op.Or(op.Equal(bins, 0), op.Equal(bins * [2], points))
        both = op.Reshape(op.Where(one, 1.0 / count, 2.0 / count), [-1 if a == axis else 1 for a in range(x.rank)])
        result = half * both
    else:
        result = op.DFT(g, None, axis) / count
    if x.dims[-1] != 2:  # real
        result = op.Slice(result, [0], op.shape(x, x.rank - 1), [x.rank - 1])
    return resized(op, result, axis, own, x.rank)  # what was filled with zeros or left out


def resized(op: Emitter, v: Val, axis: int, size: Val, rank: int) -> Val:
    """Cut `v` along `axis`, or fill it with zeros, to `size`."""
    more = size - op.Slice(op.Shape(v), [axis], [axis + 1], [0])
    return pad_or_cut(op, v, op.Concat([0] * rank, [0] * axis, more, [0] * (rank - axis - 1), axis=0))


defvjp("DFT", dft, None, None)
defvjp("DFT", dft_along, None, before=20)  # the axis is an attribute


def framed(op: Emitter, g: Val, y: Val, x: Val, step: Val, window: Val | None, length: Val | None) -> tuple[Val, Val]:
    """Return the cotangent of the windowed frames (B, F, N, 1 or 2), and where each entry stands in the signal (F, N).

    By the matrices of cosines and sines: frames are short.
    """
    if length is not None:
        points = op.Squeeze(op.Reshape(op.Cast(length, to=7), [1]), [0])
    else:
        points = op.Squeeze(op.shape(x, 1, 2) if window is None else op.shape(window), [0])
    time = op.Range(0, points, 1)
    # not the inferred sizes: onnx takes a transform without the attribute for a two-sided one
    frames, bins = (op.Range(0, op.Squeeze(op.Slice(op.Shape(g), [a], [a + 1], [0]), [0]), 1) for a in (1, 2))
    turn = op.Mod(op.Unsqueeze(bins, [1]) * time, points)  # exact, before it is a float
    angle = op.Cast(turn, to=g.dtype) * (2 * math.pi) / op.Cast(points, to=g.dtype)
    cosine, sine = op.Cos(angle), op.Sin(angle)
    real, imaginary = (op.Squeeze(op.Slice(g, [part], [part + 1], [3]), [3]) for part in (0, 1))
    parts = [op.MatMul(real, cosine) - op.MatMul(imaginary, sine)]
    if x.dims[-1] != 1:
        parts.append(op.MatMul(real, sine) + op.MatMul(imaginary, cosine))
    stacked = op.Concat(*(op.Unsqueeze(part, [3]) for part in parts), axis=3)
    return stacked, op.Unsqueeze(frames * op.Reshape(op.Cast(step, to=7), [1]), [1]) + time


def stft_signal(
    op: Emitter, g: Val, y: Val, x: Val, step: Val, window: Val | None, length: Val | None, onesided: int
) -> Val:
    """Frames overlap: they are added where they were cut out."""
    frames, places = framed(op, g, y, x, step, window, length)
    if window is not None:
        frames = frames * op.Unsqueeze(window, [1])
    ends = op.Slice(op.Shape(frames), [3], [WHOLE], [0])
    return add_at(op, op.Reshape(frames, op.Concat([0, -1], ends, axis=0)), x, 1, op.Reshape(places, [-1]))


def stft_window(op: Emitter, g: Val, y: Val, x: Val, step: Val, window: Val, length: Val | None, onesided: int) -> Val:
    frames, places = framed(op, g, y, x, step, window, length)
    return op.ReduceSum(frames * op.Gather(x, places, axis=1), [0, 1, 3], keepdims=0)


defvjp("STFT", stft_signal, None, stft_window, None)
