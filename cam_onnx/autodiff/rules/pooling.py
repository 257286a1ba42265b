"""Pooling with windows. A maximum gives its cotangent to one position, the first; an average to all.

No Indices output is used: it is slow in ONNX Runtime and missing in browsers. Instead every tap of the window is
compared with the output, and its share is added into its phase of the input grid (positions modulo the stride);
the phases are interleaved at the end. Windows may overlap, so MaxUnpool would not do.

A few nodes a tap are too many for a large window. Its maximum is taken axis by axis, so that the taps of the axes add
up and do not multiply; its average is a box slid over what stands at the first tap of each window.
"""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.elementwise import where
from cam_onnx.autodiff.rules.layout import WHOLE, pad_or_cut
from cam_onnx.autodiff.rules.windows import Windows
from cam_onnx.autodiff.table import defvjp
from cam_onnx.autodiff.val import Val

__all__: list[str] = []


FEW, MANY = 9, 49  # taps: more than these are taken axis by axis, or slid as a box


def window_grid(op: Emitter, windows: Windows) -> tuple[Val, Val]:
    """Return the size of the windows' own grid (whole strides, as far as any window reaches), and the pads to it.

    The pads are negative behind where no window reached the end of the input.
    """
    grid = (windows.counts + [_overlap(windows, a) for a in range(windows.axes)]) * windows.strides
    return grid, op.Concat([0, 0], windows.before, [0, 0], grid - windows.sizes - windows.before, axis=0)


def _overlap(windows: Windows, axis: int) -> int:
    """How many strides a window reaches behind its first position."""
    return (windows.span[axis] - 1) // windows.strides[axis]


def read_taps(
    op: Emitter, grid: Val, x: Val, windows: Windows, taps: list[tuple[int, ...]]
) -> dict[tuple[int, ...], Val]:
    """Return what every window sees at each of these taps: arrays of the output's shape.

    Measured in ONNX Runtime: a strided Slice costs four times a plain one, so with one stride in 2-D the phases
    of the grid are laid out once, as blocks of channels, by SpaceToDepth.
    """
    stride, channels = windows.strides[0], x.dims[1]
    blocks = windows.axes == 2 and set(windows.strides) == {stride} and stride > 1 and isinstance(channels, int)
    source = op.SpaceToDepth(grid, blocksize=stride) if blocks else grid
    space = list(range(2, 2 + windows.axes))
    seen = {}
    for tap in taps:
        at = [t * d for t, d in zip(tap, windows.dilations, strict=True)]
        reach = [_overlap(windows, a) for a in range(windows.axes)]
        if blocks and isinstance(channels, int):
            (down, row), (right, column) = (divmod(i, stride) for i in at)
            first = (row * stride + column) * channels
            ends = [first + channels, _until(reach[0] - down), _until(reach[1] - right)]
            seen[tap] = op.Slice(source, [first, down, right], ends, [1, *space])
        else:
            # entries behind the last one that is read
            ends = [_until((r + 1) * s - i - 1) for r, s, i in zip(reach, windows.strides, at, strict=True)]
            seen[tap] = op.Slice(source, at, ends, space, windows.strides)
    return seen


def _until(behind: int) -> int:
    """Return a Slice's end that leaves away the last `behind` entries."""
    return -behind if behind else WHOLE


def fold(op: Emitter, shares: dict[tuple[int, ...], Val], grid: Val, windows: Windows) -> Val:
    """Add every tap's share (shape of the output) into the grid: the transpose of `read_taps`."""
    phases: dict[tuple[int, ...], Val] = {}
    for tap, share in shares.items():
        where = [divmod(t * d, s) for t, d, s in zip(tap, windows.dilations, windows.strides, strict=True)]
        front = [shift for shift, _ in where]
        back = [_overlap(windows, a) - shift for a, (shift, _) in enumerate(where)]
        if any(front + back):
            share = op.Pad(share, [0, 0, *front, 0, 0, *back])
        phase = tuple(rest for _, rest in where)
        phases[phase] = phases[phase] + share if phase in phases else share
    if windows.strides == [1] * windows.axes:
        return phases[(0,) * windows.axes]
    empty = next(iter(phases.values())) * 0.0
    return op.Reshape(_interleave(op, phases, empty, windows, ()), op.Concat([0, 0], grid, axis=0))


def fold_evenly(op: Emitter, share: Val, size: Val, windows: Windows) -> Val:
    """Add one share into the grid at every tap."""
    ones = [1] * windows.axes
    dense = windows.strides == ones
    if windows.dilations == ones and (dense or math.prod(windows.kernel) > MANY):
        # a box slid by one is its own transpose: one node, measured ten times faster than its taps
        laid = share if dense else fold(op, {(0,) * windows.axes: share}, size, windows)
        front = [k - 1 for k in windows.kernel]
        pooled = op.AveragePool(
            laid,
            auto_pad="NOTSET",
            ceil_mode=0,
            count_include_pad=1,
            kernel_shape=windows.kernel,
            pads=front + (front if dense else [0] * windows.axes),
            strides=ones,
        )
        return pooled * float(math.prod(windows.kernel))
    return fold(op, dict.fromkeys(windows.taps(), share), size, windows)


def _interleave(
    op: Emitter, phases: dict[tuple[int, ...], Val], empty: Val, windows: Windows, prefix: tuple[int, ...]
) -> Val:
    """Stack phases on new axes behind each spatial axis: (N, C, L1, s1, L2, s2, ...)."""
    axis = len(prefix)
    if axis == windows.axes:
        return phases.get(prefix, empty)
    parts = [_interleave(op, phases, empty, windows, (*prefix, r)) for r in range(windows.strides[axis])]
    # deeper axes have been split already: this one still stands at 2 + axis
    parts = [op.Unsqueeze(part, [3 + axis]) for part in parts]
    return op.Concat(*parts, axis=3 + axis) if len(parts) > 1 else parts[0]


def max_pool(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    auto_pad: str,
    ceil_mode: int,
    dilations: list[int] | None,
    kernel_shape: list[int],
    pads: list[int] | None,
    strides: list[int] | None,
    **_: object,  # storage_order shows in Indices only
) -> Val:
    axes = len(kernel_shape)
    strides, dilations, pads = strides or [1] * axes, dilations or [1] * axes, pads or [0] * 2 * axes
    lanes = [a for a in range(axes) if (kernel_shape[a], strides[a], pads[a], pads[axes + a]) != (1, 1, 0, 0)]

    def along(which: list[int]) -> dict[str, Any]:
        return {
            "auto_pad": auto_pad,
            "ceil_mode": ceil_mode,
            "dilations": [d if a in which else 1 for a, d in enumerate(dilations)],
            "kernel_shape": [k if a in which else 1 for a, k in enumerate(kernel_shape)],
            "pads": [p if a % axes in which else 0 for a, p in enumerate(pads)] if auto_pad == "NOTSET" else None,
            "strides": [s if a in which else 1 for a, s in enumerate(strides)],
        }

    if math.prod(kernel_shape) > FEW and len(lanes) > 1:
        # of several maxima the first one: in the first row that has one the first, so axis by axis gives the same
        lane = lanes.pop()
        z = op.MaxPool(x, **along([lane]))
        z.value.shape = ir.Shape([d if a != 2 + lane else y.dims[a] for a, d in enumerate(x.dims)])
        return max_pool(op, max_pool(op, g, y, z, **along(lanes)), z, x, **along([lane]))
    windows = Windows.of(op, x, y, kernel_shape, strides, dilations, pads, auto_pad)
    size, edges = window_grid(op, windows)
    grid = pad_or_cut(op, x, edges, value=LOWEST)
    rest, shares = g, {}
    *earlier, last = windows.taps()
    for tap, seen in read_taps(op, grid, x, windows, earlier).items():
        shares[tap] = where(op, op.Equal(seen, y), rest)  # ties: the first position takes all
        rest = rest - shares[tap]
    shares[last] = rest
    return pad_or_cut(op, fold(op, shares, size, windows), -edges)


LOWEST = -3.4028234663852886e38  # of float32; padding never is a maximum


def average_pool(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    auto_pad: str,
    ceil_mode: int,
    count_include_pad: int,
    dilations: list[int] | None,
    kernel_shape: list[int],
    pads: list[int] | None,
    strides: list[int] | None,
) -> Val:
    windows = Windows.of(op, x, y, kernel_shape, strides, dilations, pads, auto_pad)
    size, edges = window_grid(op, windows)
    share = g
    for axis in range(windows.axes):
        share = share / op.Cast(_counted(op, windows, axis, bool(count_include_pad)), to=g.dtype)
    return pad_or_cut(op, fold_evenly(op, share, size, windows), -edges)


def _counted(op: Emitter, windows: Windows, axis: int, include_pad: bool) -> Val:
    """Return how many positions of each window count along `axis`: int64, broadcastable to the output."""
    pick = [op.Slice(v, [axis], [axis + 1], [0]) for v in (windows.before, windows.after, windows.sizes)]
    before, after, size = pick
    count = op.Squeeze(op.Slice(windows.counts, [axis], [axis + 1], [0]), [0])
    first = op.Range(0, count, 1) * [windows.strides[axis]] - before
    seen = op.Unsqueeze(first, [1]) + [t * windows.dilations[axis] for t in range(windows.kernel[axis])]
    # padding counts if it is included; what ceil_mode hangs over never does
    low, high = (-before, size + after) if include_pad else (op.constant([0]), size)
    inside = op.And(op.GreaterOrEqual(seen, low), op.Less(seen, high))
    counted = op.ReduceSum(op.Cast(inside, to=7), [1], keepdims=0)
    return op.Reshape(counted, [-1 if a == axis else 1 for a in range(windows.axes)])


defvjp("MaxPool", max_pool)
defvjp("AveragePool", average_pool)


def lp_pool(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    auto_pad: str,
    dilations: list[int] | None,
    kernel_shape: list[int],
    p: int,
    pads: list[int] | None,
    strides: list[int] | None,
    **_: object,  # ceil_mode shows in the output's size
) -> Val:
    windows = Windows.of(op, x, y, kernel_shape, strides, dilations, pads, auto_pad)
    size, edges = window_grid(op, windows)
    share = power_share(op, g, y, p)
    folded = pad_or_cut(op, fold_evenly(op, share, size, windows), -edges)
    return folded * power_slope(op, x, p)


def power_share(op: Emitter, g: Val, y: Val, p: int) -> Val:
    positive = op.Greater(y, 0.0)  # at 0: 0
    return op.Where(positive, g * op.Pow(op.Where(positive, y, 1.0), 1.0 - p), 0.0)


def power_slope(op: Emitter, x: Val, p: int) -> Val:
    return op.Sign(x) if p == 1 else op.Sign(x) * op.Pow(op.Abs(x), p - 1.0)


defvjp("LpPool", lp_pool)
defvjp("GlobalLpPool", lambda op, g, y, x, p: power_share(op, g, y, p) * power_slope(op, x, p))
