"""Kinds of targets by word, as the command line takes them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx.errors import InputError, shown
from cam_onnx.kinds import (
    Area,
    Box,
    Boxes,
    Detection,
    Difference,
    Expression,
    Finer,
    Kind,
    Letters,
    Logit,
    Mask,
    Peak,
    Pixel,
    Position,
    Probability,
    ResidualSoftmax,
    Similarity,
    Unit,
    Value,
)

__all__ = ["WORDS", "from_word", "read_kind"]

WORDS = {
    "class[:CLASS]": "its logit, what CLASS alone means",
    "probability[:CLASS]": "its probability in the place of its logit",
    "residual-softmax[:CLASS]": "logit + log probability",
    "finer[:CLASS]": "against the three nearest classes",
    "not:OTHER[:CLASS]": "why CLASS and not OTHER, a class index",
    "raise, lower": "of a regression: what would",
    "unit:I, no-unit:I": "one unit of a binary or multi-label head",
    "similar:FILE": "likeness to a picture or to a vector (.npy); similar alone: of two pictures, each to the other",
    "mask:FILE.npy[:CLASS]": "a class on a mask, of a segmentation",
    "pixel:Y,X[:CLASS]": "a class at a pixel",
    "box:X0,Y0,X1,Y1[:CLASS]": "a class in a box: segmentation, raw detection head",
    "detection:X0,Y0,X1,Y1[:CLASS]": "how near a raw detection head comes to that finding",
    "position:T[:CLASS]": "a class at a position of a sequence",
    "area[:CLASS]": "a class where it is seen: of a segmentation's output",
    "peak[:CLASS]": "a class where it is strongest: of a keypoint's heatmap",
    "boxes[:COUNT[:CLASS]]": "the best boxes of a raw detection head, one map each",
    "letters[:CLASS]": "what a text recogniser reads, one map a letter",
    "value:EXPRESSION": "any scalar, such as boxes[0,4,:].max(); the word may be left out where there is a bracket",
}


def read_kind(source: Any) -> Kind | None:
    """Return a kind: as given, or by its word; None stays None.

    Raises
    ------
    InputError
        Neither a kind nor a kind's word.
    """
    if source is None or isinstance(source, Kind):
        return source
    found = from_word(source) if isinstance(source, str) else None
    if found is None:
        raise InputError(f"target {shown(source)!r} is no kind of target: {', '.join(WORDS)}")
    return found


def from_word(text: str) -> Kind | None:
    """Return the kind that a word of the command line means, or None: it is a class.

    Raises
    ------
    InputError
        A word of a kind with an argument that does not fit.
    """
    word, colon, rest = text.partition(":")
    simple = {"raise": Value(), "lower": Value(lower=True)}
    if text in simple:
        return simple[text]
    argument, _, cls = rest.partition(":")
    of: dict[str, Any] = {"cls": _class(cls)} if cls else {}
    try:
        if word in _OF_CLASS:
            made: Kind = _OF_CLASS[word](cls=_class(rest) if rest else -1)
            return made
        if word == "not" and colon:
            return Difference(int(argument), **of)
        if word in ("unit", "no-unit") and colon:
            return Unit(int(rest), absent=word == "no-unit")
        if word == "pixel" and colon:
            y, x = map(int, argument.split(","))
            return Pixel(y, x, **of)
        if word in _BOXES and (colon or word == "detection"):
            x0, y0, x1, y1 = map(float, argument.split(","))
            return _BOXES[word](x0, y0, x1, y1, **of)
        if word == "position" and colon:
            return Position(int(argument), **of)
        if word == "boxes":
            return Boxes(int(argument) if argument else 1, **of)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        form = next(form for form in WORDS if form.startswith(word))
        raise InputError(f"target {shown(text)!r}: expected {form}") from None
    if word == "similar" and rest:
        return Similarity(_array(rest) if rest.lower().endswith(".npy") else rest)
    if word == "similar":
        raise InputError(f"target {shown(text)!r}: expected similar:FILE, a picture or .npy; alone: of two pictures")
    if word == "mask" and colon:
        return Mask(_array(argument), **of)
    if word == "value" and colon:
        return Expression(rest)
    if "[" in text or "(" in text:
        return Expression(text)
    return None


_BOXES: dict[str, type[Box]] = {"box": Box, "detection": Detection}

_OF_CLASS: dict[str, Any] = {
    "class": Logit,
    "probability": Probability,
    "residual-softmax": ResidualSoftmax,
    "finer": Finer,
    "area": Area,
    "peak": Peak,
    "letters": Letters,
}


def _class(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _array(path: str) -> NDArray[Any]:
    try:
        if os.path.getsize(path) > 1 << 28:
            raise InputError(f"{shown(path)} is larger than 256 MB: no mask or vector")
        found: NDArray[Any] = np.load(path, allow_pickle=False)
        return found
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{shown(path)}: cannot read it as a .npy file ({error})") from None
