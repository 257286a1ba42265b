"""Words of the command line: argparse with one line per error and a nearest name, and how values are written.

argparse names a type by its function where a value is wrong: "invalid size value".
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from cam_onnx.errors import did_you_mean, shown

__all__ = ["Parser", "numbers", "size", "threshold"]


class Parser(argparse.ArgumentParser):
    """argparse, with one line per error and a nearest name."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: "):
            option = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
            message = f"unknown {shown(option)}{self.nearest(option)}"
        self.exit(2, f"{self.prog}: {shown(message)} ({self.prog} --help)\n")

    def nearest(self, option: str) -> str:
        """Return ``"; did you mean '--x'?"``: the dashes, which all have, do not make options alike."""
        known = [text.removeprefix("--") for text in self.options() if text.startswith("--")]
        return did_you_mean(option.lstrip("-"), known).replace("'", "'--", 1)

    def options(self) -> list[str]:
        """Return every option string, of the sub-commands too."""
        found = [text for action in self._actions for text in action.option_strings]
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                found += [text for sub in action.choices.values() for text in sub.options()]
        return found


def numbers(text: str) -> tuple[float, ...]:
    """Read ``0.485,0.456,0.406``."""
    return tuple(float(part) for part in text.split(","))


def size(text: str) -> tuple[int | None, int | None]:
    """Read ``224``, ``224,320`` or ``224x320`` as (height, width); ``48,*``: the width is the picture's own."""
    parts = [None if part == "*" else int(part) for part in text.replace("x", ",").split(",")]
    height, width = parts * 2 if len(parts) == 1 else parts
    return height, width


def threshold(text: str) -> float:
    """Read a number above 0 and at most 1."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number: put --regions behind the pictures, or write --regions=0.5"
        ) from None
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is out of range: above 0, at most 1")
    return value
