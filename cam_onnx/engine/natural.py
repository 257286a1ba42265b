"""Inputs at which a gradient can be checked: a seeded one where none is given, and none that is flat.

On a flat area all windows of a maximum hold ties, where a network has no derivative, so that every picture gets a
little noise; and random pixels are no picture: a network that never saw the like saturates.
"""

from __future__ import annotations

import numpy as np

from cam_onnx.contract import Preprocess
from cam_onnx.engine import Array, Tensor
from cam_onnx.errors import InputError

__all__ = ["noisy", "picture", "tensor"]

OPEN = 64  # the extent of an axis that the model leaves open
NOISE = 0.01  # in parts of the input's standard deviation


def picture(settings: Preprocess, seed: int = 0) -> Array:
    """Return a seeded picture (H, W, 3), uint8: colours whose spectrum falls like that of photographs."""
    height, width = settings.extent(224, 224)
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    # one brightness for all, and less of each colour by itself
    spectrum = np.fft.rfft2(rng.standard_normal((4, height, width))) / frequency
    spectrum[:, 0, 0] = 0
    grey, *colours = np.fft.irfft2(spectrum, s=(height, width))
    planes = np.stack([grey + 0.4 * colour for colour in colours], axis=-1)
    planes *= 60 / (planes.std() or 1)
    pixels: Array = np.clip(np.rint(planes + 118), 0, 255).astype(np.uint8)
    return pixels


def tensor(model: Tensor, seed: int = 0) -> Array:
    """Return a standard normal input of one sample, where the model's input is no picture.

    Raises
    ------
    InputError
        Not an input of floats whose rank is known.
    """
    if model.shape is None or not model.dtype.startswith("float"):
        raise InputError(f"no input can be made up for {model}: give one (inputs=, --input NAME=FILE.npy)")
    shape = [d if isinstance(d, int) else (OPEN if i else 1) for i, d in enumerate(model.shape)]
    return np.random.default_rng(seed).standard_normal(shape).astype(model.dtype)


def noisy(values: Array, seed: int = 1) -> Array:
    """Return an input with a little seeded noise on it; one of 8-bit pixels is moved by at most one of them."""
    rng = np.random.default_rng(seed)
    if values.dtype.kind != "f":
        if values.dtype != np.uint8:
            return values
        pixels: Array = np.clip(values.astype(np.int16) + rng.integers(-1, 2, values.shape), 0, 255).astype(np.uint8)
        return pixels
    wide = values.astype(np.float64)
    spread = float(wide.std()) or float(np.abs(wide).max(initial=0)) or 1.0
    moved: Array = (wide + NOISE * spread * rng.standard_normal(values.shape)).astype(values.dtype)
    return moved
