"""The geometry of a sliding window, shared by convolution and pooling: sizes, strides, dilations, paddings.

One form for static and symbolic sizes: what is static is computed at conversion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.val import Val

__all__ = ["Windows"]


@dataclass(frozen=True)
class Windows:
    """A window over the spatial axes of `x` (N, C, *S) with output `y` (N, M, *O).

    Attributes
    ----------
    kernel, strides, dilations : list of int
    before, after : Val
        int64 (D,): padding in front of and behind each spatial axis.
    sizes, counts : Val
        int64 (D,): the spatial sizes of `x` and `y`.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: Val
    after: Val
    sizes: Val
    counts: Val

    @classmethod
    def of(
        cls,
        op: Emitter,
        x: Val,
        y: Val,
        kernel: Sequence[int],
        strides: Sequence[int] | None,
        dilations: Sequence[int] | None,
        pads: Sequence[int] | None,
        auto_pad: str,
    ) -> Windows:
        axes = len(kernel)
        strides, dilations = list(strides or [1] * axes), list(dilations or [1] * axes)
        sizes, counts = op.shape(x, 2), op.shape(y, 2)
        span = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            if strides == [1] * axes:
                total = op.constant([s - 1 for s in span])
            else:
                total = op.Max((counts - [1] * axes) * strides + span - sizes, [0] * axes)
            half = total / ([2] * axes)
            before, after = (half, total - half) if auto_pad == "SAME_UPPER" else (total - half, half)
        else:  # VALID has no pads
            spelled = list(pads or [0] * 2 * axes) if auto_pad == "NOTSET" else [0] * 2 * axes
            before, after = op.constant(spelled[:axes]), op.constant(spelled[axes:])
        return cls(list(kernel), strides, dilations, before, after, sizes, counts)

    @property
    def axes(self) -> int:
        return len(self.kernel)

    @property
    def span(self) -> list[int]:
        """How far a window reaches along each axis."""
        return [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    def taps(self) -> list[tuple[int, ...]]:
        """Return the positions inside a window, in the order in which a maximum is looked for."""
        return [tuple(int(i) for i in tap) for tap in np.ndindex(*self.kernel)]
