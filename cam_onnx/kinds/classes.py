"""Scores of a class: its logit, and what is made of it and of the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cam_onnx.errors import InputError, shown
from cam_onnx.kinds.kind import OfClass

__all__ = ["Difference", "Finer", "Logit", "Probability", "ResidualSoftmax"]


@dataclass(frozen=True, eq=False)
class Logit(OfClass):
    """The class's logit: what a class index or a name alone means."""

    word = "class"


@dataclass(frozen=True, eq=False)
class Probability(OfClass):
    """The class's probability: softmax, or sigmoid where the model ends in one. Near 1 its derivative vanishes."""

    word = "probability"


@dataclass(frozen=True, eq=False)
class ResidualSoftmax(OfClass):
    """``y_c + log p_c``: the logit, and how it stands among the others (Cai 2025, arXiv:2501.06261)."""

    word = "residual-softmax"


@dataclass(frozen=True, eq=False, kw_only=True)  # Finer(281) would mean alpha
class Finer(OfClass):
    """``sum_d p_d (y_c - alpha y_d) / sum_d p_d`` over the `nearest` classes d (Zhang 2025, arXiv:2501.11309).

    `weighted` False: the plain mean over d.
    """

    alpha: float = 1.0
    nearest: int = 3
    weighted: bool = True
    word = "finer"

    def __post_init__(self) -> None:
        if self.nearest < 1:
            raise InputError(f"target finer: nearest is {self.nearest!r}, expected at least 1")


@dataclass(frozen=True, eq=False)
class Difference(OfClass):
    """Why the class and not `other`: ``y_c - y_other``."""

    other: int = 0
    word = "difference"

    def __post_init__(self) -> None:
        if isinstance(self.other, bool) or not isinstance(self.other, (int, np.integer)) or self.other < 0:
            raise InputError(f"target difference: other is {shown(self.other)!r}, expected a class index")
