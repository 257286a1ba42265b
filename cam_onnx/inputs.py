"""What the shape and the type of a model's input say of the pictures that go into it, and the guess where they do not.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cam_onnx.errors import InputError
from cam_onnx.preprocess import DTYPES, Preprocess

__all__ = ["IMAGENET", "Shape", "extents", "guess", "resolve", "settle", "sized"]

Shape = Sequence[int | str | None]

IMAGENET: dict[str, Any] = dict(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def guess(shape: Shape, dtype: str) -> tuple[Preprocess, str]:
    """Guess the preprocessing from the shape and type of a model's input.

    Parameters
    ----------
    shape : sequence of (int, str or None)
        Of the input; a name or None is a dimension that is not fixed.
    dtype : str
        "float32", "float16", "float64" or "uint8".

    Returns
    -------
    preprocess : Preprocess
        Floats: pixels / 255 with ImageNet's mean and standard deviation (grey: 0..1); uint8: raw pixels.
    text : str
        One line that says that this is a guess, what it is, and how to say what is right.

    Raises
    ------
    InputError
        The input is no picture: not of rank 4, or no axis of 1 or 3 channels, or another type.
    """
    layout, channels, size = _picture_axes(shape, dtype)
    base = Preprocess(size=size, layout=layout or "NCHW", channels="GRAY" if channels == 1 else "RGB", dtype=dtype)
    if dtype == "uint8":
        what, guessed = "raw pixels 0..255", base
    elif channels == 1:
        what, guessed = "pixels / 255", replace(base, scale=1 / 255)
    else:
        what = "pixels / 255 with ImageNet's mean and std"
        guessed = replace(base, **IMAGENET)
    text = (
        f"preprocessing is a guess from the input {_text(shape, dtype)}: {guessed.channels}, {sized(guessed)}, {what}, "
        f"{guessed.layout}; say what the model was trained with by preprocess= (--preprocess)"
    )
    return guessed, text


def resolve(preprocess: Preprocess, tensor_shape: Shape, dtype: str) -> Preprocess:
    """Fill in what the model's input fixes: size, layout, dtype.

    Parameters
    ----------
    preprocess : Preprocess
    tensor_shape, dtype
        Of the model's input, as for `guess`.

    Raises
    ------
    InputError
        `size` or `channels` contradict a fixed dimension, or values that were made for floats go into uint8.
    """
    layout, channels, _ = _picture_axes(tensor_shape, dtype, preprocess.layout)
    where = f"the model's input is {_text(tensor_shape, dtype)}"
    wanted = 1 if preprocess.channels == "GRAY" else 3
    if channels is not None and channels != wanted:
        other = "GRAY" if channels == 1 else "RGB or BGR"
        raise InputError(f"preprocess: channels {preprocess.channels} makes {wanted}, but {where}: set {other}")
    known = extents(tensor_shape, layout or preprocess.layout)
    given = preprocess.size or (None, None)
    if any(None not in (k, s) and k != s for k, s in zip(known, given, strict=True)):
        raise InputError(f"preprocess: size {preprocess.size} (height, width), but {where}")
    neutral = preprocess.scale == 1 and set(preprocess.mean) == {0} and set(preprocess.std) == {1}
    if dtype == "uint8" and not neutral:
        raise InputError(f"preprocess: scale, mean and std make floats, but {where}: leave them at 1, 0 and 1")
    size = (known[0] or given[0], known[1] or given[1])
    return replace(preprocess, size=size, layout=layout or preprocess.layout, dtype=dtype)


def settle(given: Preprocess | None, tensor_shape: Shape | None, dtype: str) -> tuple[Preprocess | None, str | None]:
    """Return the preprocessing in force, and the text of the guess where nobody said it.

    What is no picture's input has none, and can still be explained by its tensors.

    Raises
    ------
    InputError
        See `resolve`.
    """
    if tensor_shape is None:
        return given, None
    if given is not None:
        return resolve(given, tensor_shape, dtype), None
    try:
        return guess(tensor_shape, dtype)
    except InputError:
        return None, None


def _picture_axes(
    shape: Shape, dtype: str, preferred: str = "NCHW"
) -> tuple[str | None, int | None, tuple[int | None, int | None]]:
    """Return layout (None: the shape does not say), number of channels and size, as far as they are fixed."""
    if dtype not in DTYPES:
        raise InputError(f"a picture cannot be fed to an input of {dtype} (expected {', '.join(DTYPES)}): give tensors")
    where = f"a picture cannot be fed to the input {_text(shape, dtype)}"
    if len(shape) != 4:
        raise InputError(f"{where}: it has {len(shape)} axes instead of 4 (NCHW or NHWC): give tensors")
    possible = [
        layout
        for layout, axis in (("NCHW", 1), ("NHWC", 3))
        if shape[axis] in (1, 3) or not isinstance(shape[axis], int)
    ]
    if not possible:
        raise InputError(f"{where}: neither axis 1 nor axis 3 has 1 or 3 channels: give tensors")
    certain = [layout for layout in possible if isinstance(shape[1 if layout == "NCHW" else 3], int)] or possible
    layout = preferred if preferred in certain else certain[0]
    channels = shape[1 if layout == "NCHW" else 3]
    return (
        layout if isinstance(channels, int) else None if len(possible) == 2 else layout,
        channels if isinstance(channels, int) else None,
        extents(shape, layout),
    )


def extents(shape: Shape, layout: str) -> tuple[int | None, int | None]:
    pair = shape[2:4] if layout == "NCHW" else shape[1:3]
    height, width = (n if isinstance(n, int) and n > 0 else None for n in pair)
    return height, width


def sized(preprocess: Preprocess) -> str:
    """Return in words the size that pictures get."""
    height, width = preprocess.size or (None, None)
    steps = f", in multiples of {preprocess.multiple}" if preprocess.multiple > 1 else ""
    if height is not None and width is not None:
        return f"{height}x{width}"
    if height is None and width is None:
        return f"its own size{steps}"
    return (f"height {height}, its own aspect" if height else f"width {width}, its own aspect") + steps


def _text(shape: Shape, dtype: str) -> str:
    return f"({', '.join('?' if n is None else str(n) for n in shape)}) {dtype}"
