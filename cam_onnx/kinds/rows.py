"""Scores of a class in a row: at a position of a sequence, of a box, of a letter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cam_onnx.errors import InputError, shown
from cam_onnx.kinds.kind import OfClass, check_index

__all__ = ["Boxes", "Letters", "Position"]


@dataclass(frozen=True, eq=False)
class Position(OfClass):
    """A class at one position of a sequence, (N, T, C) or (T, N, C): the t-th letter of a text recogniser."""

    t: int = 0
    word = "position"

    def __post_init__(self) -> None:
        check_index("position", "t", self.t)


@dataclass(frozen=True, eq=False)
class Boxes(OfClass):
    """The best boxes of a raw detection head, or of what a file's own suppression of boxes is fed: the class's score.

    `count` boxes at most, of which no two of one class overlap by more than half; class -1 is any.
    """

    count: int = 1
    word = "boxes"

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, (int, np.integer)) or self.count < 1:
            raise InputError(f"target boxes: count is {shown(self.count)!r}, expected at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Return what the contract says: how many are asked for is chosen at run time."""
        return {"kind": self.word}


@dataclass(frozen=True, eq=False)
class Letters(OfClass):
    """What a recogniser of text reads, letter by letter: at each, the logit of its class where it is read.

    Of a sequence (N, T, C) or (T, N, C), by CTC's greedy path: blanks are skipped, repeats are one letter. Class -1 is
    every letter.
    """

    word = "letters"
