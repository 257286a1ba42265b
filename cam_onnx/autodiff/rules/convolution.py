"""Convolution. The cotangent of the input is a convolution with the kernel turned around.

Stride 1: Conv with the flipped, transposed kernel (measured as fast as or faster than ConvTranspose; two to four
times where it is depthwise or grouped). The flip is a Transpose and a Slice of the weight that a session folds
once. Stride above 1: ConvTranspose. Every attribute is spelled out: some browsers' runtimes need that.
"""

from __future__ import annotations

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.rules.layout import WHOLE, pad_or_cut
from cam_onnx.autodiff.rules.windows import Windows
from cam_onnx.autodiff.table import defvjp
from cam_onnx.autodiff.val import Refused, Val

__all__: list[str] = []


def conv_x(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    w: Val,
    b: Val | None,
    auto_pad: str,
    dilations: list[int] | None,
    group: int,
    kernel_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Val:
    kernel = kernel_shape or [int(d) for d in w.dims[2:] if isinstance(d, int)]
    if len(kernel) != w.rank - 2:
        raise Refused("a kernel size that is known at run time only")
    windows = Windows.of(op, x, y, kernel, strides, dilations, pads, auto_pad)
    if all(s == 1 for s in windows.strides) and windows.before.known is not None and windows.after.known is not None:
        ends = [s - 1 for s in windows.span]
        edges = [e - int(p) for e, p in zip(ends * 2, [*windows.before.known, *windows.after.known], strict=True)]
        if min(edges) >= 0:
            return _by_flipped_kernel(op, g, w, windows, group, edges)
    m, c = w.dims[:2]
    if c == 1 and isinstance(m, int) and m > group > 1:
        # one input channel to a group, several outputs: depthwise, then summed, because the browsers' WebGPU has been
        # seen to compute a ConvTranspose of such groups wrongly, without a word
        each = _by_conv_transpose(op, g, w, windows, m)
        return op.reshape_like(op.ReduceSum(op.Reshape(each, [0, group, m // group, -1]), [2], keepdims=0), x)
    return _by_conv_transpose(op, g, w, windows, group)


def _by_flipped_kernel(op: Emitter, g: Val, w: Val, windows: Windows, group: int, edges: list[int]) -> Val:
    """Stride 1: the padding that the forward convolution left of a full one."""
    return op.Conv(
        g,
        _turned(op, w, windows.axes, group),
        auto_pad="NOTSET",
        dilations=windows.dilations,
        group=group,
        kernel_shape=windows.kernel,
        pads=edges,
        strides=windows.strides,
    )


def _turned(op: Emitter, w: Val, axes: int, group: int) -> Val:
    """Return the kernel (M, C/group, *K) as (C, M/group, *K), each spatial axis reversed."""
    space = list(range(2, axes + 2))
    if group == 1:
        turned = op.Transpose(w, perm=[1, 0, *space])
    else:
        m, c, *kernel = w.dims
        if not (isinstance(m, int) and isinstance(c, int)):
            raise Refused("groups with a channel count that is known at run time only")
        if m == group and c == 1:  # depthwise: nothing to transpose
            turned = w
        else:
            split = op.Reshape(w, [group, m // group, c, *kernel])
            swapped = op.Transpose(split, perm=[0, 2, 1, *(a + 1 for a in space)])
            turned = op.Reshape(swapped, [group * c, m // group, *kernel])
    reverse = [a for a, k in zip(space, w.dims[2:], strict=True) if k != 1]
    if not reverse:
        return turned
    n = len(reverse)
    return op.Slice(turned, [-1] * n, [-(2**31)] * n, reverse, [-1] * n)


def _by_conv_transpose(op: Emitter, g: Val, w: Val, windows: Windows, group: int) -> Val:
    """Any stride: unfold over the padded input, then cut the padding off."""
    axes = windows.axes
    slack = windows.sizes + windows.before - (windows.counts - [1] * axes) * windows.strides - windows.span
    # slack: positions at the end that no window reached; negative: how far windows reach into the padding
    front, ends = windows.before.known, slack.known
    cut = front is None or ends is None
    if front is not None and ends is not None:
        cut = not all(-s < e < t for e, s, t in zip(ends, windows.span, windows.strides, strict=True))
    if front is None or ends is None or cut:
        pads, extra = [0] * (2 * axes), [s - 1 for s in windows.strides]
    else:
        pads = [*front.tolist(), *(max(0, -int(e)) for e in ends)]
        extra = [max(0, int(e)) for e in ends]
    result = op.ConvTranspose(
        g,
        w,
        auto_pad="NOTSET",
        dilations=windows.dilations,
        group=group,
        kernel_shape=windows.kernel,
        output_padding=extra,
        pads=pads,
        strides=windows.strides,
    )
    if not cut:
        return result
    return op.Slice(result, windows.before, windows.before + windows.sizes, list(range(2, axes + 2)))


def conv_b(op: Emitter, g: Val, y: Val, x: Val, w: Val, b: Val, **_: object) -> Val:
    return op.ReduceSum(g, [axis for axis in range(x.rank) if axis != 1], keepdims=0)


def correlate(
    op: Emitter, source: Val, cells: Val, w: Val, group: int, strides: list[int], dilations: list[int]
) -> Val:
    """Return the cotangent of a kernel (M, C/group, *K): what each tap reads of `source`, times `cells`.

    `source` (N, C, *S) is padded already, `cells` is (N, M, *O). A convolution over N, in which the windows are the
    kernel: strides and dilations change places.
    """
    space = list(range(2, w.rank))
    channels = w.dims[1]
    if group == 1:
        turned = op.Transpose(source, perm=[1, 0, *space])
    else:
        if not isinstance(channels, int):
            raise Refused("groups with a channel count that is known at run time only")
        whole = op.Slice(op.Shape(source), [2], [WHOLE], [0])
        split = op.Reshape(source, op.Concat([0, group, channels], whole, axis=0))
        swapped = op.Transpose(split, perm=[2, 1, 0, *(a + 1 for a in space)])
        turned = op.Reshape(swapped, op.Concat([channels, -1], whole, axis=0))
    found = op.Conv(
        turned,
        op.Transpose(cells, perm=[1, 0, *space]),
        auto_pad="NOTSET",
        dilations=strides,
        group=group,
        pads=[0] * (2 * len(space)),
        strides=dilations,
    )
    taps = op.Slice(found, [0] * len(space), op.shape(w, 2), space)  # a size that does not divide leaves more
    return op.Transpose(taps, perm=[1, 0, *space])


def conv_w(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    w: Val,
    b: Val | None,
    auto_pad: str,
    dilations: list[int] | None,
    group: int,
    kernel_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Val:
    kernel = kernel_shape or [int(d) for d in w.dims[2:] if isinstance(d, int)]
    windows = Windows.of(op, x, y, kernel, strides, dilations, pads, auto_pad)
    padded = pad_or_cut(op, x, op.Concat([0, 0], windows.before, [0, 0], windows.after, axis=0))
    return correlate(op, padded, g, w, group, windows.strides, windows.dilations)


defvjp("Conv", conv_x, conv_w, conv_b)


def unfolded(
    op: Emitter,
    y: Val,
    x: Val,
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    auto_pad: str,
    output_padding: list[int] | None,
    output_shape: list[int] | None,
    pads: list[int] | None,
) -> Val:
    """Return the pads that make of a ConvTranspose's output the whole of what its windows reach."""
    axes = len(kernel)
    span = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    full = (op.shape(x, 2) - [1] * axes) * strides + span  # without padding and output_padding
    if auto_pad == "NOTSET" and not output_shape:
        front = op.constant(list(pads[:axes]) if pads else [0] * axes)
    elif auto_pad == "VALID":
        front = op.constant([0] * axes)
    else:  # the output's size is given, the padding follows
        total = op.Max(full + list(output_padding or [0] * axes) - op.shape(y, 2), [0] * axes)
        half = total / ([2] * axes)
        front = half if auto_pad == "SAME_UPPER" else total - half
    return op.Concat([0, 0], front, [0, 0], full - op.shape(y, 2) - front, axis=0)


def conv_transpose_x(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    w: Val,
    b: Val | None,
    auto_pad: str,
    dilations: list[int] | None,
    group: int,
    kernel_shape: list[int] | None,
    output_padding: list[int] | None,
    output_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Val:
    """The convolution that ConvTranspose is the transpose of, on what the padding leaves of its input."""
    kernel = kernel_shape or [int(d) for d in w.dims[2:] if isinstance(d, int)]
    if len(kernel) != w.rank - 2:
        raise Refused("a kernel size that is known at run time only")
    axes = len(kernel)
    strides, dilations = list(strides or [1] * axes), list(dilations or [1] * axes)
    edges = unfolded(op, y, x, kernel, strides, dilations, auto_pad, output_padding, output_shape, pads)
    inside = edges.known is not None and (edges.known >= 0).all()
    spelled = [0] * (2 * axes)
    if inside and edges.known is not None:
        spelled = [*edges.known[2 : 2 + axes].tolist(), *edges.known[4 + axes :].tolist()]
    else:
        g = pad_or_cut(op, g, edges)
    return op.Conv(
        g,
        w,
        auto_pad="NOTSET",
        dilations=dilations,
        group=group,
        kernel_shape=kernel,
        pads=spelled,
        strides=strides,
    )


def conv_transpose_w(
    op: Emitter,
    g: Val,
    y: Val,
    x: Val,
    w: Val,
    b: Val | None,
    auto_pad: str,
    dilations: list[int] | None,
    group: int,
    kernel_shape: list[int] | None,
    output_padding: list[int] | None,
    output_shape: list[int] | None,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Val:
    """That of the convolution it is the transpose of: input and output change places."""
    kernel = kernel_shape or [int(d) for d in w.dims[2:] if isinstance(d, int)]
    if len(kernel) != w.rank - 2:
        raise Refused("a kernel size that is known at run time only")
    strides, dilations = list(strides or [1] * len(kernel)), list(dilations or [1] * len(kernel))
    edges = unfolded(op, y, x, kernel, strides, dilations, auto_pad, output_padding, output_shape, pads)
    return correlate(op, pad_or_cut(op, g, edges), x, w, group, strides, dilations)


defvjp("ConvTranspose", conv_transpose_x, conv_transpose_w, conv_b)
