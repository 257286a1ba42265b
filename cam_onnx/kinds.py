"""Kinds of targets: what is explained, where it is not simply the logit of a class.

One class a kind: an object in the library, a word on the command line, a seed in the graph
(`cam_onnx.graph.seeds`), and an entry of the contract. Those that still leave a class to choose have `of`, as
`Explainer.explain(target=)` takes it. A kind is checked when it is made, as far as that can be without the model.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx.errors import InputError, shown

__all__ = [
    "Area",
    "Box",
    "Boxes",
    "Detection",
    "Difference",
    "Expression",
    "Finer",
    "Kind",
    "Letters",
    "Logit",
    "Mask",
    "Pixel",
    "Position",
    "Probability",
    "ResidualSoftmax",
    "Similarity",
    "Unit",
    "Value",
]


@dataclass(frozen=True, eq=False)
class Kind:
    """Base of all kinds. `word`: its name in the contract and on the command line."""

    word = ""

    @property
    def of(self) -> Any:
        """The class; kinds that leave none to choose have -1, which is then the only one."""
        return -1

    def to_dict(self) -> dict[str, Any]:
        """Return what the contract says of it: without the class, which is chosen at run time, arrays by digest."""
        said: dict[str, Any] = {"kind": self.word}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name != "cls":
                said[f.name] = _digest(value) if isinstance(value, np.ndarray) else value
        return said


def _digest(array: NDArray[Any]) -> str:
    text = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"{array.dtype} {'x'.join(map(str, array.shape))} {text}"


@dataclass(frozen=True, eq=False)
class _OfClass(Kind):
    cls: Any = field(default=-1, kw_only=True)

    @property
    def of(self) -> Any:
        return self.cls


@dataclass(frozen=True, eq=False)
class Logit(_OfClass):
    """The class's logit: what a class index or a name alone means."""

    word = "class"


@dataclass(frozen=True, eq=False)
class Probability(_OfClass):
    """The class's probability: softmax, or sigmoid where the model ends in one. Near 1 its derivative vanishes."""

    word = "probability"


@dataclass(frozen=True, eq=False)
class ResidualSoftmax(_OfClass):
    """``y_c + log p_c``: the logit, and how it stands among the others (Cai 2025, arXiv:2501.06261)."""

    word = "residual-softmax"


@dataclass(frozen=True, eq=False, kw_only=True)  # Finer(281) would mean alpha
class Finer(_OfClass):
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
class Difference(_OfClass):
    """Why the class and not `other`: ``y_c - y_other``."""

    other: int = 0
    word = "difference"

    def __post_init__(self) -> None:
        if isinstance(self.other, bool) or not isinstance(self.other, (int, np.integer)) or self.other < 0:
            raise InputError(f"target difference: other is {shown(self.other)!r}, expected a class index")


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
        _index("unit", "index", self.index)


@dataclass(frozen=True, eq=False)
class Similarity(Kind):
    """The cosine between the model's output and a reference vector, such as another picture's output; or (`cosine`
    False) their product, which does not fall where something else is in the picture too.
    """

    reference: Any = None
    cosine: bool = True
    word = "similarity"

    def __post_init__(self) -> None:
        vector = np.asarray(self.reference, np.float64).reshape(-1)
        if not vector.size or not np.isfinite(vector).all() or not vector.any():
            raise InputError("target similarity: the reference is empty, zero or not finite; expected a vector")
        object.__setattr__(self, "reference", vector / np.linalg.norm(vector))


@dataclass(frozen=True, eq=False)
class Mask(_OfClass):
    """A class on the true entries of a mask: the mean of its logit there, of a segmentation's output.

    `mask` (H, W) is bool, laid over the output whatever its resolution.
    """

    mask: Any = None
    word = "mask"

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask)
        if mask.dtype != np.bool_ or mask.ndim < 1:
            raise InputError(f"target mask: expected a bool array (H, W), got {mask.dtype} of shape {mask.shape}")
        if not mask.any():
            raise InputError(f"target mask: none of its {mask.size} entries is true")
        object.__setattr__(self, "mask", mask)


@dataclass(frozen=True, eq=False)
class Pixel(_OfClass):
    """A class at one position of a segmentation's output, in its own pixels."""

    y: int = 0
    x: int = 0
    word = "pixel"

    def __post_init__(self) -> None:
        _index("pixel", "y", self.y)
        _index("pixel", "x", self.x)


@dataclass(frozen=True, eq=False)
class Box(_OfClass):
    """A rectangle (x0, y0, x1, y1) in pixels of the network's input, ends not included.

    Of a segmentation: the class inside it, as `Mask`. Of a raw detection head, (N, 4 + C, A) or (N, A, 4 + C) with
    boxes as centre and size: the class's score of the candidate that overlaps it most; `objectness`: a fifth number
    stands before the classes, and multiplies them. There it may reach over the picture's edge, as findings do.
    """

    x0: float = 0
    y0: float = 0
    x1: float = 0
    y1: float = 0
    objectness: bool = False
    word = "box"

    def __post_init__(self) -> None:
        edges = (self.x0, self.y0, self.x1, self.y1)
        if not all(isinstance(e, (int, float)) and abs(e) < float("inf") for e in edges):
            raise InputError(f"target {self.word} {edges}: expected four finite numbers x0, y0, x1, y1")
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise InputError(
                f"target {self.word} {edges} is empty or reversed: expected x0 < x1 and y0 < y1, in pixels"
            )
        if self.x1 <= 0 or self.y1 <= 0:  # what a detector finds may reach over an edge
            raise InputError(f"target {self.word} {edges} lies outside the picture, whose first pixel is 0, 0")


@dataclass(frozen=True, eq=False)
class Detection(Box):
    """How near a raw detection head comes to finding the class in a box (Petsiuk 2020, arXiv:2006.03204, eq. 4).

    The largest ``IoU * objectness * cosine`` over all candidates, the cosine between a candidate's class scores and the
    class; where the head has no objectness its largest class score stands for it. Parameters as for `Box`.
    """

    word = "detection"


@dataclass(frozen=True, eq=False)
class Position(_OfClass):
    """A class at one position of a sequence, (N, T, C) or (T, N, C): the t-th letter of a text recogniser."""

    t: int = 0
    word = "position"

    def __post_init__(self) -> None:
        _index("position", "t", self.t)


@dataclass(frozen=True, eq=False)
class Area(_OfClass):
    """A class where the network sees it: the mean of its logit over the places where it is the largest of all.

    Of a segmentation's output; class -1 is the one with the largest area. Of a map with one channel, the places where
    its logit is positive.
    """

    word = "area"


@dataclass(frozen=True, eq=False)
class Boxes(_OfClass):
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
class Letters(_OfClass):
    """What a recogniser of text reads, letter by letter: at each, the logit of its class where it is read.

    Of a sequence (N, T, C) or (T, N, C), by CTC's greedy path: blanks are skipped, repeats are one letter. Class -1 is
    every letter.
    """

    word = "letters"


@dataclass(frozen=True, eq=False)
class Expression(Kind):
    """Any scalar of the model's values, ``boxes[0,4,:].max()``: see `cam_onnx.expression`."""

    text: str = ""
    word = "expression"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InputError(f"target expression {shown(self.text)!r}: expected text such as 'logits[:,3]'")


def _index(word: str, name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise InputError(f"target {word}: {name} is {shown(value)!r}, expected an index from 0 on")
