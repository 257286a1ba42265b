"""Colour maps by name: OpenCV's, and one diverging map for signed values, where zero must look like nothing.

The names stand here, so that they can be listed without loading OpenCV.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cam_onnx.errors import InputError, UnknownName, did_you_mean, shown

__all__ = ["COLORMAPS", "DIVERGING", "check", "colorize"]

DIVERGING = "blue-white-red"

COLORMAPS = (
    "jet", "turbo", "viridis", "plasma", "inferno", "magma", "cividis", "parula",
    "hot", "bone", "pink", "cool", "autumn", "winter", "spring", "summer", "ocean", "deepgreen",
    "rainbow", "hsv", "twilight", "twilight_shifted",
    DIVERGING,
)  # fmt: skip

# luminance falls evenly to both sides of white, so that equal evidence for and against is equally dark
_STOPS = {-1.0: (20, 50, 170), -0.5: (95, 145, 230), 0.0: (255, 255, 255), 0.5: (240, 110, 85), 1.0: (178, 0, 25)}


def check(name: str) -> str:
    """Return the registry's spelling of `name`; case, ``-`` and ``_`` do not matter.

    Raises
    ------
    UnknownName
        The message lists the names and the nearest one.
    """
    folded = str(name).casefold().replace("-", "_")
    for known in COLORMAPS:
        if known.replace("-", "_") == folded:
            return known
    near = did_you_mean(str(name), COLORMAPS)
    raise UnknownName(f"no colour map {shown(name)!r}{near or '.'} There are: {', '.join(COLORMAPS)}")


def colorize(values: ArrayLike, colormap: str = "jet") -> NDArray[np.uint8]:
    """Return the heatmap of a normalised map.

    Parameters
    ----------
    values : array (H, W)
        In [0, 1], or in [-1, 1] where it is signed.
    colormap : str
        With "blue-white-red", and wherever a value is negative, the scale runs from -1 to 1 and zero is its
        middle; otherwise from 0 to 1.

    Returns
    -------
    array (H, W, 3)
        RGB, uint8.

    Raises
    ------
    UnknownName
        No such colour map.
    InputError
        Not two axes, or values that are not finite or outside [-1, 1]: normalise first.
    """
    name = check(colormap)
    table = _table(name)
    array = in_range(values)
    if name == DIVERGING or array.min(initial=0) < 0:
        index = 128 + np.rint(array * 127)  # symmetric: 1..255, zero is exactly the middle
    else:
        index = np.rint(array * 255)
    heatmap: NDArray[np.uint8] = table[index.astype(np.uint8)]
    return heatmap


def in_range(values: ArrayLike) -> NDArray[Any]:
    """Return `values` as a float array (H, W) within [-1, 1]; InputError otherwise."""
    array = np.asarray(values)
    if array.ndim != 2:
        raise InputError(f"a map to draw has two axes (height, width), got shape {array.shape}")
    array = array.astype(np.result_type(array.dtype, np.float32), copy=False)
    if not (np.abs(array) <= 1 + 1e-6).all():  # false for NaN, too
        raise InputError(
            f"a map to draw has values in [0, 1] or [-1, 1], got {array.min():.4g} to {array.max():.4g}: "
            "normalise it first"
        )
    clipped: NDArray[Any] = np.clip(array, -1, 1)
    return clipped


@cache
def _table(name: str) -> NDArray[np.uint8]:
    """Return the (256, 3) RGB table of a colour map; read-only, since it is shared."""
    if name == DIVERGING:
        at = (np.arange(256) - 128) / 127
        channels = [np.interp(at, list(_STOPS), [colour[c] for colour in _STOPS.values()]) for c in range(3)]
        table = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    else:
        from cam_onnx.render.image import lut  # loads cv2

        table = lut(name)
    table.setflags(write=False)
    return table
