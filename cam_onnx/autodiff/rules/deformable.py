"""Convolution with displaced taps: every tap of every window reads at its own place; then a product with the kernel."""

from __future__ import annotations

from dataclasses import dataclass

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.sampling import Grid
from cam_onnx.autodiff.rules.taps import Taps, floats, positions, read, splat, weights
from cam_onnx.autodiff.rules.windows import Windows
from cam_onnx.autodiff.table import defvjp
from cam_onnx.autodiff.val import Val

__all__: list[str] = []


@dataclass(frozen=True)
class Deformed:
    """What a DeformConv read: images (B, c, S), of N batches in `split` parts with offsets of their own.

    `taps`: at each axis (B, K * P), K taps of P windows; `shape`: (N, split, c, K, P) as a Reshape says it.
    """

    images: Val
    axes: list[Grid]
    windows: Windows
    split: int
    group: int
    taps: int
    count: Val

    @classmethod
    def of(
        cls,
        op: Emitter,
        g: Val,
        y: Val,
        x: Val,
        w: Val,
        offset: Val,
        dilations: list[int] | None,
        group: int,
        kernel_shape: list[int] | None,
        offset_group: int,
        pads: list[int] | None,
        strides: list[int] | None,
    ) -> Deformed:
        kernel = kernel_shape or [int(d) for d in w.dims[2:] if isinstance(d, int)]
        windows = Windows.of(op, x, y, kernel, strides, dilations, pads, "NOTSET")
        n, taps = windows.axes, windows.taps()
        count = op.ReduceProd(windows.counts, keepdims=1)
        moved = op.Reshape(floats(op, offset, g), op.Concat([-1, len(taps), n], count, axis=0))
        axes = []
        for axis in range(n):
            output = op.Range(0, op.Squeeze(op.Slice(windows.counts, [axis], [axis + 1], [0]), [0]), 1)
            output = op.Reshape(output * [windows.strides[axis]], [-1 if a == axis else 1 for a in range(n)])
            window = op.Reshape(op.Expand(output, windows.counts), [1, -1])
            tap = op.constant([[t[axis] * windows.dilations[axis]] for t in taps])
            at = floats(op, window + tap - op.Slice(windows.before, [axis], [axis + 1], [0]), g)
            own = op.Squeeze(op.Slice(moved, [axis], [axis + 1], [2]), [2]) + at
            size, one = op.shape(x, axis + 2, axis + 3), op.constant(1.0, g.dtype)
            axes.append(Grid(op.Reshape(own, [0, -1]), one, size, (one, one)))
        pixels = op.ReduceProd(windows.sizes, keepdims=1)
        channels = op.shape(x, 1, 2) / [offset_group]
        images = op.Reshape(x, op.Concat([-1], channels, pixels, axis=0))
        return cls(images, axes, windows, offset_group, group, len(taps), count)

    def neighbours(self, op: Emitter, slope: int | None = None) -> list[Taps]:
        return [axis.taps(op, "linear", "zeros", slopes=i == slope) for i, axis in enumerate(self.axes)]

    def where(self, op: Emitter) -> Val:
        return positions(op, self.neighbours(op), self.windows.sizes)

    def sampled(self, op: Emitter) -> Val:
        """Return what was read: (N, split, c, K, P)."""
        seen = read(op, self.images, self.where(op)) * op.Unsqueeze(weights(op, self.neighbours(op)), [1])
        return self.parted(op, op.ReduceSum(seen, [2], keepdims=0))

    def parted(self, op: Emitter, v: Val) -> Val:
        channels = op.Slice(op.Shape(self.images), [1], [2], [0])
        return op.Reshape(v, op.Concat([-1, self.split], channels, [self.taps], self.count, axis=0))

    def masked(self, op: Emitter, v: Val, mask: Val | None) -> Val:
        if mask is None:
            return v
        return v * op.Reshape(floats(op, mask, v), op.Concat([-1, self.split, 1, self.taps], self.count, axis=0))

    def columns(self, op: Emitter, g: Val, w: Val) -> Val:
        """Return the cotangent of what the kernel was multiplied with: (N, split, c, K, P)."""
        return self.parted(op, op.MatMul(op.Transpose(self.rows(op, w), perm=[0, 2, 1]), self.grouped(op, g)))

    def rows(self, op: Emitter, w: Val) -> Val:
        inner = op.ReduceProd(op.shape(w, 1), keepdims=1)
        return op.Reshape(w, op.Concat([self.group, -1], inner, axis=0))

    def grouped(self, op: Emitter, g: Val) -> Val:
        outer = op.Slice(op.Shape(g), [1], [2], [0]) / [self.group]
        return op.Reshape(g, op.Concat([0, self.group], outer, self.count, axis=0))


def deform_x(
    op: Emitter, g: Val, y: Val, x: Val, w: Val, offset: Val, b: Val | None, mask: Val | None, **how: object
) -> Val:
    seen = Deformed.of(op, g, y, x, w, offset, **how)  # type: ignore[arg-type]
    flat = flat_columns(op, seen, seen.masked(op, seen.columns(op, g, w), mask))
    shares = op.Unsqueeze(flat, [2]) * op.Unsqueeze(weights(op, seen.neighbours(op)), [1])
    return op.reshape_like(splat(op, shares, seen.where(op), op.Shape(seen.images)), x)


def flat_columns(op: Emitter, seen: Deformed, v: Val) -> Val:
    """Reshape (N, split, c, K, P) to (B, c, K * P)."""
    ends = op.Slice(op.Shape(seen.images), [1], [2], [0])
    return op.Reshape(v, op.Concat([-1], ends, seen.count * [seen.taps], axis=0))


def deform_offset(
    op: Emitter, g: Val, y: Val, x: Val, w: Val, offset: Val, b: Val | None, mask: Val | None, **how: object
) -> Val:
    seen = Deformed.of(op, g, y, x, w, offset, **how)  # type: ignore[arg-type]
    flat = flat_columns(op, seen, seen.masked(op, seen.columns(op, g, w), mask))
    told = op.ReduceSum(read(op, seen.images, seen.where(op)) * op.Unsqueeze(flat, [2]), [1], keepdims=0)
    found = []
    for axis in range(seen.windows.axes):
        moved = op.ReduceSum(told * weights(op, seen.neighbours(op, slope=axis)), [1], keepdims=0)
        found.append(op.Reshape(moved, op.Concat([0, seen.taps, 1], seen.count, axis=0)))
    return op.reshape_like(op.Concat(*found, axis=2), offset)


def deform_w(
    op: Emitter, g: Val, y: Val, x: Val, w: Val, offset: Val, b: Val | None, mask: Val | None, **how: object
) -> Val:
    seen = Deformed.of(op, g, y, x, w, offset, **how)  # type: ignore[arg-type]
    masked = seen.masked(op, seen.sampled(op), mask)
    inner = op.ReduceProd(op.shape(w, 1), keepdims=1)
    columns = op.Reshape(masked, op.Concat([-1, seen.group], inner, seen.count, axis=0))
    each_ = op.MatMul(seen.grouped(op, g), op.Transpose(columns, perm=[0, 1, 3, 2]))
    return op.reshape_like(op.ReduceSum(each_, [0], keepdims=0), w)


def deform_mask(
    op: Emitter, g: Val, y: Val, x: Val, w: Val, offset: Val, b: Val | None, mask: Val, **how: object
) -> Val:
    seen = Deformed.of(op, g, y, x, w, offset, **how)  # type: ignore[arg-type]
    return op.reshape_like(op.ReduceSum(seen.columns(op, g, w) * seen.sampled(op), [2], keepdims=0), mask)


def deform_b(op: Emitter, g: Val, y: Val, x: Val, *_: Val | None, **__: object) -> Val:
    return op.ReduceSum(g, [axis for axis in range(x.rank) if axis != 1], keepdims=0)


defvjp("DeformConv", deform_x, deform_w, deform_offset, deform_b, deform_mask)
