"""A heatmap over a picture. Where the map is zero the picture's pixels stay exactly as they are.

The opacity follows the map instead of being the same everywhere: a uniform blend greys the whole picture, and
dividing the blend by its own maximum changes its brightness.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cam_onnx.errors import InputError
from cam_onnx.render import drawing
from cam_onnx.render.colormap import colorize, in_range

__all__ = ["overlay"]

# 1 keeps the warm area small, 0.5 tints the background; chosen by eye on photographs
EXPONENT = 0.75


def overlay(
    picture: NDArray[np.uint8],
    values: ArrayLike,
    alpha: float = 0.5,
    colormap: str = "jet",
    box: tuple[float, float, float, float] | None = None,
) -> NDArray[np.uint8]:
    """Blend the heatmap of `values` onto `picture`, with opacity ``alpha * abs(value) ** 0.75``.

    Parameters
    ----------
    picture : array (H, W, 3)
        RGB, uint8.
    values : array (H, W)
        A normalised map, in [0, 1] or [-1, 1].
    alpha : float in [0, 1]
        Opacity where the map is largest; 0 returns the picture.
    colormap : str
    box : (x0, y0, x1, y1), optional
        In pixels of the picture: drawn as a white border with a black one around it.

    Returns
    -------
    array (H, W, 3)
        RGB, uint8.

    Raises
    ------
    InputError
        `alpha` outside [0, 1] or NaN, or a map and a picture of different size.
    UnknownName
        No such colour map.
    """
    if not (isinstance(alpha, (int, float, np.number)) and 0 <= alpha <= 1):
        raise InputError(f"alpha is {alpha!r}, expected a number from 0 (picture only) to 1")
    array = in_range(values)
    if picture.shape != (*array.shape, 3):
        raise InputError(f"the map is {array.shape}, the picture {picture.shape}: expected ({array.shape}, 3)")
    heatmap = colorize(array, colormap)
    opacity = (float(alpha) * np.abs(array) ** EXPONENT).astype(np.float32)[..., None]
    blend = picture.astype(np.float32)
    blend += opacity * (heatmap - blend)
    drawn: NDArray[np.uint8] = np.rint(blend, out=blend).astype(np.uint8)
    if box is not None:
        line = max(1, round(min(picture.shape[:2]) / 250))
        x0, y0, x1, y1 = (round(edge) for edge in box)
        drawing.rectangle(drawn, (x0 - line, y0 - line, x1 + line, y1 + line), (0, 0, 0), line)
        drawing.rectangle(drawn, (x0, y0, x1, y1), (255, 255, 255), line)
    return drawn
