"""Scores of a class at a place of the picture: on an area, in a box, at a pixel, where it is strongest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cam_onnx.errors import InputError
from cam_onnx.kinds.kind import OfClass, check_index

__all__ = ["Area", "Box", "Detection", "Mask", "Peak", "Pixel"]


@dataclass(frozen=True, eq=False)
class Mask(OfClass):
    """A class on the true entries of a mask: the mean of its logit there, of a segmentation's output.

    `mask` (H, W) is bool, laid over the output whatever its resolution.
    """

    mask: Any = None
    word = "mask"

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask)
        if mask.dtype != np.bool_ or mask.ndim < 1:
            raise InputError(f"target mask: expected a bool array (H, W), got {mask.dtype} of shape {mask.shape}")
        if not mask.any():
            raise InputError(f"target mask: none of its {mask.size} entries is true")
        object.__setattr__(self, "mask", mask)


@dataclass(frozen=True, eq=False)
class Pixel(OfClass):
    """A class at one position of a segmentation's output, in its own pixels."""

    y: int = 0
    x: int = 0
    word = "pixel"

    def __post_init__(self) -> None:
        check_index("pixel", "y", self.y)
        check_index("pixel", "x", self.x)


@dataclass(frozen=True, eq=False)
class Box(OfClass):
    """A rectangle (x0, y0, x1, y1) in pixels of the network's input, ends not included.

    Of a segmentation: the class inside it, as `Mask`. Of a raw detection head, (N, 4 + C, A) or (N, A, 4 + C) with
    boxes as centre and size: the class's score of the candidate that overlaps it most; `objectness`: a fifth number
    stands before the classes, and multiplies them. There it may reach over the picture's edge, as findings do.
    """

    x0: float = 0
    y0: float = 0
    x1: float = 0
    y1: float = 0
    objectness: bool = False
    word = "box"

    def __post_init__(self) -> None:
        edges = (self.x0, self.y0, self.x1, self.y1)
        if not all(isinstance(e, (int, float)) and abs(e) < float("inf") for e in edges):
            raise InputError(f"target {self.word} {edges}: expected four finite numbers x0, y0, x1, y1")
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise InputError(
                f"target {self.word} {edges} is empty or reversed: expected x0 < x1 and y0 < y1, in pixels"
            )
        if self.x1 <= 0 or self.y1 <= 0:  # what a detector finds may reach over an edge
            raise InputError(f"target {self.word} {edges} lies outside the picture, whose first pixel is 0, 0")


@dataclass(frozen=True, eq=False)
class Detection(Box):
    """How near a raw detection head comes to finding the class in a box (Petsiuk 2020, arXiv:2006.03204, eq. 4).

    The largest ``IoU * objectness * cosine`` over all candidates, the cosine between a candidate's class scores and the
    class; where the head has no objectness its largest class score stands for it. Parameters as for `Box`.
    """

    word = "detection"


@dataclass(frozen=True, eq=False)
class Area(OfClass):
    """A class where the network sees it: the mean of its logit over the places where it is the largest of all.

    Of a segmentation's output; class -1 is the one with the largest area. Of a map with one channel, the places where
    its logit is positive.
    """

    word = "area"


@dataclass(frozen=True, eq=False)
class Peak(OfClass):
    """A class where it is strongest: the largest value of its map, such as a keypoint where it is found.

    Of a heatmap for each keypoint, (N, K, H, W); class -1 is the one with the largest peak. Of two distributions, over
    columns (N, K, W) and rows (N, K, H), as SimCC has it (arXiv:2107.03332): the mean of both peaks. Of several places
    with the largest value the first one is explained.
    """

    word = "peak"
