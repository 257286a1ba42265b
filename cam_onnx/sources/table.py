"""What every source is asked about and answers with, and how it reads numbers and names that others wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cam_onnx.inputs import Shape
from cam_onnx.sources.beside import Beside, Unusable

__all__ = ["Said", "Subject", "mapping", "names", "number", "numbers"]

MANY = 1 << 20  # labels


@dataclass(frozen=True)
class Subject:
    """A model, as far as sources ask about it.

    Parameters
    ----------
    metadata : mapping
        Of the file.
    beside : Beside
    image : str
        The name of the input that a picture goes to, "" if there is none.
    shape, dtype
        Of that input.
    classes : int or None
        How many scores the model has, where that is fixed.
    widths : tuple of int
        The fixed sizes of the scores' axes.
    """

    metadata: Mapping[str, str] = field(default_factory=dict)
    beside: Beside = field(default_factory=lambda: Beside(None))
    image: str = ""
    shape: Shape | None = None
    dtype: str = "float32"
    classes: int | None = None
    widths: tuple[int, ...] = ()

    def fits(self, count: int) -> bool:
        """Whether so many classes may be the model's."""
        return count == self.classes if self.classes is not None else not self.widths or count in self.widths


@dataclass(frozen=True)
class Said:
    """What one source says: fields of `Preprocess`, labels; `where` for people, `doubts` what they should know."""

    where: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    doubts: tuple[str, ...] = ()


def mapping(text: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises
    ------
    Unusable
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"not JSON ({error})") from None
    if not isinstance(data, dict):
        raise Unusable(f"expected a JSON object, got {type(data).__name__}")
    return data


def number(value: Any, what: str) -> float:
    """Return a finite number, also out of text (Unusable if it is none)."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found) or isinstance(value, bool):
        raise Unusable(f"{what} is {str(value)[:60]!r}, expected a number")
    return found


def numbers(value: Any, what: str) -> tuple[float, ...]:
    """Return one finite number or a few (Unusable if they are none)."""
    values = value if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(values) <= 4:
        raise Unusable(f"{what} has {len(values)} entries")
    return tuple(number(each, what) for each in values)


def names(value: Any, what: str) -> tuple[str, ...] | None:
    """Return class names of a list, or of a mapping from class indices; None where there are none.

    Raises
    ------
    Unusable
        A gap among the indices, or something else than names.
    """
    if isinstance(value, dict):
        try:
            found = {int(key): name for key, name in value.items()}
        except (TypeError, ValueError):
            raise Unusable(f"{what}: its keys are not class indices") from None
        if sorted(found) != list(range(len(found))):
            raise Unusable(f"{what}: not every class from 0 on has a name")
        value = [found[index] for index in range(len(found))]
    if not isinstance(value, (list, tuple)):
        raise Unusable(f"{what}: expected a list of class names, got {type(value).__name__}")
    if len(value) > MANY or any(isinstance(name, (list, dict)) for name in value):
        raise Unusable(f"{what}: not a list of class names")
    return tuple(str(name) for name in value) or None
