"""What all kinds of targets have in common."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx.errors import InputError, shown

__all__ = ["Kind", "OfClass", "check_index"]


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
class OfClass(Kind):
    """A kind that leaves a class to choose: -1, an index, a name, ``top:K``."""

    cls: Any = field(default=-1, kw_only=True)

    @property
    def of(self) -> Any:
        return self.cls


def check_index(word: str, name: str, value: Any) -> None:
    """Refuse what is no index from 0 on."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise InputError(f"target {word}: {name} is {shown(value)!r}, expected an index from 0 on")
