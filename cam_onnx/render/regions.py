"""The warm areas of a map as numbers: where they lie, how large they are, and how much of the map they hold.

A picture cannot be compared or stored in a table; boxes and shares can. The threshold is on the normalised map,
so that "half of the largest value" means the same for every picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cam_onnx.errors import InputError, shown
from cam_onnx.render import drawing
from cam_onnx.render.colormap import in_range

__all__ = ["THRESHOLD", "Region", "check_threshold", "draw_regions", "regions"]

THRESHOLD = 0.5

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True, eq=False)
class Region:
    """One connected warm area of a map. Pixels are the picture's; x goes to the right, y down.

    Attributes
    ----------
    box : tuple (x0, y0, x1, y1)
        Ends excluded: ``picture[y0:y1, x0:x1]`` is the area's crop.
    contour : int32 array (P, 2)
        Its outer border as a polygon of pixels (x, y), to within a pixel; holes are not followed.
    area : int
        Pixels.
    share : float in [0, 1]
        Part of the sum of the map's positive values that lies in it.
    peak : tuple (x, y)
        Where the map is largest in it.
    value : float
        The map there.
    """

    box: tuple[int, int, int, int]
    contour: NDArray[np.int32]
    area: int
    share: float
    peak: tuple[int, int]
    value: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it; the contour is one flat list x, y, x, y, ..., as in COCO's segmentations."""
        return {
            "box": list(self.box),
            "area": self.area,
            "share": round(self.share, 6),
            "peak": {"x": self.peak[0], "y": self.peak[1], "value": round(self.value, 6)},
            "contour": self.contour.ravel().tolist(),
        }


def regions(values: ArrayLike, threshold: float = THRESHOLD) -> list[Region]:
    """Return the connected areas where a normalised map is at least `threshold`, the largest share first.

    Parameters
    ----------
    values : array (H, W)
        In [0, 1], or in [-1, 1] where it is signed: what speaks against the class is no warm area.
    threshold : float
        Above 0, at most 1. Pixels that touch at a corner are connected.

    Raises
    ------
    InputError
        A threshold outside its range, or a map that is not normalised or has not two axes.
    """
    level = check_threshold(threshold)
    array = in_range(values)
    positive = np.maximum(array, 0).astype(np.float64)
    total = float(positive.sum())
    if total == 0:
        return []
    labels, boxes = drawing.areas(array >= level)
    found = []
    for label, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        inside = labels[y0:y1, x0:x1] == label
        part = np.where(inside, positive[y0:y1, x0:x1], 0)
        row, column = np.unravel_index(int(part.argmax()), part.shape)
        found.append(
            Region(
                box=(x0, y0, x1, y1),
                contour=drawing.trace(inside) + np.array([x0, y0], np.int32),
                area=int(inside.sum()),
                share=float(part.sum() / total),
                peak=(x0 + int(column), y0 + int(row)),
                value=float(part[row, column]),
            )
        )
    return sorted(found, key=lambda region: -region.share)


def draw_regions(picture: NDArray[np.uint8], found: Sequence[Region]) -> NDArray[np.uint8]:
    """Return a copy of `picture` (RGB u8) with the border, the box and the share of every region on it."""
    drawn = np.ascontiguousarray(picture).copy()
    height, width = drawn.shape[:2]
    line = max(1, round(min(height, width) / 250))
    for region in found:  # white on black: one of the two is seen on any colour
        for colour, thickness in ((BLACK, line + 2), (WHITE, line)):
            drawing.polygon(drawn, region.contour, colour, thickness)
        drawing.rectangle(drawn, region.box, WHITE, line)
    for region in found:  # labels last: no line through a number
        _label(drawn, f"{region.share:.0%}", region.box)
    return drawn


def check_threshold(threshold: Any) -> float:
    """Return a region's threshold as a float; InputError where it is none."""
    if isinstance(threshold, (int, float, np.number)) and not isinstance(threshold, bool) and 0 < threshold <= 1:
        return float(threshold)
    raise InputError(f"threshold is {shown(threshold)}, expected a number above 0, at most 1")


def _label(picture: NDArray[np.uint8], words: str, box: tuple[int, int, int, int]) -> None:
    """Write at the upper left corner of `box`, inside the picture."""
    height, width = picture.shape[:2]
    high = max(8, round(min(height, width) / 30))
    if min(height, width) < 4 * high:  # too small a picture for words
        return
    margin = high // 2
    wide = drawing.text_size(words, high)[0] + 2 * margin
    x = min(box[0], width - wide)
    y = max(box[1] - high - 2 * margin, 0)
    drawing.rectangle(picture, (x, y, x + wide, y + high + 2 * margin), WHITE, -1)
    drawing.text(picture, words, (x + margin, y + margin + high), high, BLACK, max(1, high // 8))
