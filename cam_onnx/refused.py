"""Pictures that cannot be explained among many that can: these are listed, and the others are done.

Only a picture's own fault is such: what is wrong with the model, a target or an option ends the command at once, since
it would be wrong again with the next picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cam_onnx import printing
from cam_onnx.errors import InputError, LimitExceeded
from cam_onnx.limits import Limits
from cam_onnx.progress import Progress

__all__ = ["Refused"]

T = TypeVar("T")


class Refused:
    """The refused ones of `total` pictures; `entries` has name and reason of each."""

    def __init__(self, total: int, limits: Limits) -> None:
        self._total, self._limits = total, limits
        self.entries: list[dict[str, str]] = []

    def attempt(self, picture: str, call: Callable[[], T], progress: Progress) -> T | None:
        """Return ``call()``, or None where `picture` is one of many and cannot be read, which is said."""
        try:
            return call()
        except (InputError, LimitExceeded) as error:
            if self._total == 1 or not self._at_fault(picture):
                raise
            self.entries.append({"picture": picture, "error": str(error)})
            with progress.aside():
                printing.error(str(error))
            return None

    def _at_fault(self, picture: str) -> bool:
        from cam_onnx.render import image

        try:
            image.load(picture, max_pixels=self._limits.max_pixels)
        except (InputError, LimitExceeded):
            return True
        return False

    def code(self) -> int:
        """Say how many there were; return the exit code: 1, or 2 where nothing is left."""
        count = len(self.entries)
        if not count:
            return 0
        rest = "the others are done" if count < self._total else "nothing is done"
        printing.error(f"{count} of {self._total} pictures cannot be explained, {rest}")
        return 1 if count < self._total else 2
