"""All colour maps on one picture, each with its name: a name does not say what one will see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cam_onnx.render import drawing
from cam_onnx.render.colormap import COLORMAPS, DIVERGING, colorize

__all__ = ["sheet", "strip"]

STRIP, WIDTH, NAMES, GAP, LETTERS = 24, 512, 170, 8, 11  # pixels
INK = (40, 40, 40)


def strip(name: str, width: int = WIDTH) -> NDArray[np.uint8]:
    """Return a colour map from its lowest value to its highest, RGB u8 (1, width, 3)."""
    return colorize(np.linspace(-1 if name == DIVERGING else 0, 1, width)[None], name)


def sheet() -> NDArray[np.uint8]:
    """Return every colour map as a labelled strip, RGB u8 on white; low values stand on the left."""
    step = STRIP + GAP
    picture = np.full((GAP + step * len(COLORMAPS), GAP + NAMES + WIDTH + GAP, 3), 255, np.uint8)
    for i, name in enumerate(COLORMAPS):
        y, x = GAP + i * step, GAP + NAMES
        picture[y : y + STRIP, x : x + WIDTH] = strip(name)
        drawing.text(picture, name, (GAP, y + (STRIP + LETTERS) // 2), LETTERS, INK)
    return picture
