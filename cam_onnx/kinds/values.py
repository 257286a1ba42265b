"""Scores that are values of a network: of a regression, one unit, a likeness to a vector, any expression."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from cam_onnx.errors import InputError, shown
from cam_onnx.kinds.kind import Kind, check_index

__all__ = ["Expression", "Similarity", "Unit", "Value"]


@dataclass(frozen=True, eq=False)
class Value(Kind):
    """The value of a regression with one output: what raises it, or with `lower` what lowers it."""

    lower: bool = False
    word = "value"


@dataclass(frozen=True, eq=False)
class Unit(Kind):
    """One unit of a binary or multi-label head: what speaks for it, or with `absent` against it."""

    index: int = 0
    absent: bool = False
    word = "unit"

    def __post_init__(self) -> None:
        check_index("unit", "index", self.index)


@dataclass(frozen=True, eq=False)
class Similarity(Kind):
    """The cosine between the model's output and a reference vector, such as another picture's output; or (`cosine`
    False) their product, which does not fall where something else is in the picture too.

    `reference`: the vector; or the path of a picture, of which the model that is explained gives it.
    """

    reference: Any = None
    cosine: bool = True
    word = "similarity"

    @property
    def picture(self) -> str | None:
        """The path of a picture, whose vector a model has to give."""
        return self.reference if isinstance(self.reference, str) else None

    def __post_init__(self) -> None:
        if isinstance(self.reference, (str, os.PathLike)):
            object.__setattr__(self, "reference", os.fspath(self.reference))
            return
        vector = np.asarray(self.reference, np.float64).reshape(-1)
        if not vector.size or not np.isfinite(vector).all() or not vector.any():
            raise InputError("target similarity: the reference is empty, zero or not finite; expected a vector")
        object.__setattr__(self, "reference", vector / np.linalg.norm(vector))


@dataclass(frozen=True, eq=False)
class Expression(Kind):
    """Any scalar of the model's values, ``boxes[0,4,:].max()``: see `cam_onnx.expression`."""

    text: str = ""
    word = "expression"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InputError(f"target expression {shown(self.text)!r}: expected text such as 'logits[:,3]'")
