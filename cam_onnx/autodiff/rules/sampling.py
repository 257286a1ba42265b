"""Reading an image at the points of a grid."""

from __future__ import annotations

from dataclasses import dataclass

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.taps import Tap, Taps, floats, positions, read, splat, weights
from cam_onnx.autodiff.table import defvjp
from cam_onnx.autodiff.val import Val

__all__ = ["Grid"]

# Coordinates outside are first brought inside (border, reflection), then each neighbour for itself.


def reflected(op: Emitter, at: Val, low: Val, high: Val) -> tuple[Val, Val]:
    """Return `at` folded at both bounds as often as needed, and the sign that this gives a slope."""
    width = op.Max(high - low, 1e-6)  # an image of one pixel
    turn = (at - low) / (width * 2.0)
    turned = (turn - op.Floor(turn)) * (width * 2.0)
    one = op.constant(1.0, at.dtype)
    return low + width - op.Abs(turned - width), op.Where(op.Less(turned, width), one, -one)


@dataclass(frozen=True)
class Grid:
    """One axis of a grid: coordinates in pixels (B, P), and the slope of each in what the grid says."""

    at: Val
    slope: Val
    size: Val
    bounds: tuple[Val, Val]

    @classmethod
    def of(cls, op: Emitter, said: Val, size: Val, align_corners: int, mode: str, padding: str) -> Grid:
        length = floats(op, size, said)
        scale = (length - 1.0) / 2.0 if align_corners else length / 2.0
        low = op.constant(0.0, said.dtype) if align_corners else op.constant(-0.5, said.dtype)
        high = length - 1.0 if align_corners else length - 0.5
        at = (said + 1.0) * scale if align_corners else (said + 1.0) * scale - 0.5
        if mode == "nearest":
            at = op.Round(at)
        slope = scale
        inside = op.And(op.GreaterOrEqual(at, low), op.LessOrEqual(at, high))
        if padding == "border" and mode != "cubic":  # as PyTorch and ONNX Runtime: its neighbours are brought inside
            at = op.Where(inside, at, op.Min(op.Max(at, 0.0), length - 1.0))
            slope = op.Where(inside, slope, 0.0)
        elif padding == "reflection":
            folded, sign = reflected(op, at, low, high)
            at, slope = op.Where(inside, at, folded), op.Where(inside, slope, slope * sign)
        return cls(at, slope, size, (low, high))

    def taps(self, op: Emitter, mode: str, padding: str, slopes: bool = False) -> Taps:
        """Return the neighbours, with weights or with the slopes of the weights."""
        low = op.Round(self.at) if mode == "nearest" else op.Floor(self.at)
        part = self.at - low
        if mode == "nearest":
            found = [(0.0, part * 0.0 + 1.0)]
        elif mode == "linear":
            right = op.constant(1.0, part.dtype)
            found = [(0.0, -right if slopes else 1.0 - part), (1.0, right if slopes else part)]
        else:
            found = [(shift, cubic(part - shift, shift, slopes)) for shift in (-1.0, 0.0, 1.0, 2.0)]
        last = floats(op, self.size, part) - 1.0
        taps = []
        for shift, weight in found:
            index = low + shift if shift else low
            if padding == "zeros":
                inside = op.And(op.GreaterOrEqual(index, 0.0), op.LessOrEqual(index, last))
                weight = op.Where(inside, weight, 0.0)
            elif padding == "reflection":
                index = op.Round(reflected(op, index, *self.bounds)[0])
            taps.append(Tap(op.Cast(op.Min(op.Max(index, 0.0), last), to=7), weight))
        return taps


def cubic(distance: Val, shift: float, slope: bool, a: float = -0.75) -> Val:
    """The cubic convolution kernel (Keys 1981) at `distance` from the neighbour that lies `shift` from the floor."""
    t = distance if shift <= 0 else -distance  # not negative
    if shift in (0.0, 1.0):
        value = (3 * (a + 2) * t - 2 * (a + 3)) * t if slope else ((a + 2) * t - (a + 3)) * t * t + 1.0
    else:
        value = (3 * a * t - 10 * a) * t + 8 * a if slope else ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return -value if slope and shift > 0 else value


def grid_axes(op: Emitter, x: Val, grid: Val, g: Val, align_corners: int, mode: str, padding: str) -> list[Grid]:
    """One entry a spatial axis of `x`; a grid's last axis counts them from the last."""
    n = x.rank - 2
    flat = op.Reshape(floats(op, grid, g), [0, -1, n])
    parts = [op.Squeeze(op.Slice(flat, [n - 1 - a], [n - a], [2]), [2]) for a in range(n)]
    return [Grid.of(op, part, op.shape(x, a + 2, a + 3), align_corners, mode, padding) for a, part in enumerate(parts)]


def grid_sample_x(
    op: Emitter, g: Val, y: Val, x: Val, grid: Val, align_corners: int, mode: str, padding_mode: str
) -> Val:
    mode = mode.removeprefix("bi")  # bilinear and bicubic before 20
    axes = grid_axes(op, x, grid, g, align_corners, mode, padding_mode)
    taps = [axis.taps(op, mode, padding_mode) for axis in axes]
    shares = op.Unsqueeze(op.Reshape(g, [0, 0, -1]), [2]) * op.Unsqueeze(weights(op, taps), [1])
    size = op.ReduceProd(op.shape(x, 2), keepdims=1)
    flat = splat(op, shares, positions(op, taps, op.shape(x, 2)), op.Concat(op.shape(x, 0, 2), size, axis=0))
    return op.reshape_like(flat, x)


def grid_sample_grid(
    op: Emitter, g: Val, y: Val, x: Val, grid: Val, align_corners: int, mode: str, padding_mode: str
) -> Val:
    mode = mode.removeprefix("bi")
    if mode == "nearest":  # steps
        return op.Expand(op.constant(0.0, g.dtype), op.shape(grid))
    axes = grid_axes(op, x, grid, g, align_corners, mode, padding_mode)
    taps = [axis.taps(op, mode, padding_mode) for axis in axes]
    seen = read(op, op.Reshape(x, [0, 0, -1]), positions(op, taps, op.shape(x, 2)))
    told = op.ReduceSum(seen * op.Unsqueeze(op.Reshape(g, [0, 0, -1]), [2]), [1], keepdims=0)
    found = []
    for a, axis in enumerate(axes):
        sloped = [axis.taps(op, mode, padding_mode, slopes=True) if i == a else t for i, t in enumerate(taps)]
        found.append(op.ReduceSum(told * weights(op, sloped), [1], keepdims=0) * axis.slope)
    return op.reshape_like(op.Concat(*(op.Unsqueeze(v, [2]) for v in reversed(found)), axis=2), grid)


def affine_grid(op: Emitter, g: Val, y: Val, theta: Val, size: Val, align_corners: int) -> Val:
    """A grid is its base, the coordinates of all positions and a 1, times the transposed matrix."""
    n = y.rank - 2
    shape = op.shape(y, 1, n + 1)
    parts = []
    for axis in reversed(range(n)):  # x, y, z: from the last axis on
        count = op.shape(y, axis + 1, axis + 2)
        at = op.Cast(op.Range(0, op.Squeeze(count, [0]), 1), to=g.dtype) * 2.0
        steps = op.Cast(op.Max(count - [1], [1]) if align_corners else count, to=g.dtype)
        first = op.Cast(count, to=g.dtype) - 1.0  # a single position lies in the middle
        at = (at - first) / steps
        parts.append(op.Expand(op.Reshape(at, [-1 if a == axis else 1 for a in range(n)]), shape))
    parts.append(op.Expand(op.constant(1.0, g.dtype), shape))
    base = op.Concat(*(op.Reshape(part, [-1, 1]) for part in parts), axis=1)
    return op.MatMul(op.Transpose(op.Reshape(g, [0, -1, n]), perm=[0, 2, 1]), base)


defvjp("AffineGrid", affine_grid, None)
defvjp("GridSample", grid_sample_x, grid_sample_grid)
