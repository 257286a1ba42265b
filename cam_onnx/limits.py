"""Limits: what a file from a stranger may cost. One object, so that a service sets them once for everything.

Time and memory are bounded by these and nothing else. A message that names one says how to raise it, in the library
and on the command line. Standard library only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from cam_onnx.errors import InputError, LimitExceeded

__all__ = ["DEFAULTS", "Limits", "raise_it"]


@dataclass(frozen=True)
class Limits:
    """Limits in force; the defaults stop bombs and no model or picture that people use.

    Parameters
    ----------
    max_model_bytes : int
        The model's file together with its external data.
    max_nodes : int
        Nodes of the model after every call of a local function is written out, those of subgraphs included.
    max_pixels : int
        Width times height of a picture's file, read from its header.
    max_input_bytes : int
        A tensor read from a .npy file, by its header.
    timeout : float or None
        Seconds for each run of the network (`convert` runs none); None: as long as it takes.

    Raises
    ------
    InputError
        A limit that is not a positive number.
    """

    max_model_bytes: int = 16 << 30
    max_nodes: int = 1_000_000
    max_pixels: int = 178_000_000
    max_input_bytes: int = 1 << 30
    timeout: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "timeout":
                if value is None:
                    continue
                good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
            else:
                good = isinstance(value, int) and not isinstance(value, bool) and value > 0
            if not good:
                kind = "number of seconds" if field.name == "timeout" else "whole number"
                raise InputError(f"limits: {field.name} is {value!r}, expected a positive {kind}")

    def check(self, name: str, found: int, what: str, unit: str = "bytes") -> None:
        """Refuse what is larger than the limit called `name`; `what` is the message up to the number, `unit` follows.

        Raises
        ------
        LimitExceeded
        """
        allowed = getattr(self, name)
        if found > allowed:
            raise LimitExceeded(f"{what} {found:,} {unit}, the limit is {allowed:,}: {raise_it(name)}")


DEFAULTS = Limits()


def raise_it(name: str) -> str:
    """Return what to do about a limit: its name in the library and on the command line."""
    return f"raise {name} (limits=, --{name.replace('_', '-')}) if you trust the file"
