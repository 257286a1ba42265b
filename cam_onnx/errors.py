"""Every exception that leaves cam_onnx. A library's own errors are translated in the one file that imports it.

CamOnnxError
├── InvalidModel            not a usable ONNX file: truncated, malformed, unsafe external data
├── UnsupportedOpset        the version converter cannot raise the file to the opset that serves
├── LayerNotFound           no such value or node; or no default layer found
├── ScoreNotFound           no output that looks like class scores
├── Disconnected            the layer does not influence the score through a derivative
├── UnsupportedOperators    operators without a gradient rule on the path (all of them, at once)
├── ContractError           a converted file whose contract is broken, newer, or not what was asked for
├── InputError              (ValueError) a picture, tensor, target or option that does not fit
├── UnknownName             (KeyError) a method, colour map, backend or class name that does not exist
├── LimitExceeded           larger than a limit that is in force
├── RunFailed               no runtime, provider, memory, terminated
└── WriteFailed             (OSError) nothing was written, or the old file is intact

A message says what, where, and what to do. `exit_code` is the command line's: 2 for bad input, 1 for what
failed on the way.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

__all__ = [
    "CamOnnxError",
    "ContractError",
    "Disconnected",
    "InputError",
    "InvalidModel",
    "LayerNotFound",
    "LimitExceeded",
    "RunFailed",
    "ScoreNotFound",
    "UnknownName",
    "UnsupportedOperators",
    "UnsupportedOpset",
    "WriteFailed",
    "did_you_mean",
    "shown",
]


class CamOnnxError(Exception):
    """Root of all errors that cam_onnx raises on purpose."""

    exit_code = 2


class InvalidModel(CamOnnxError):
    """The file is not a usable ONNX model: re-export it, or download it again."""


class UnsupportedOpset(CamOnnxError):
    """The file must be raised to a newer opset and onnx's version converter cannot: export it at that opset."""


class LayerNotFound(CamOnnxError):
    """No value and no node has that name, or no default layer was found: `cam-onnx inspect` lists candidates."""


class ScoreNotFound(CamOnnxError):
    """No output looks like class scores: name the value to explain (`score=`, `--score`)."""


class Disconnected(CamOnnxError):
    """The score does not depend on the layer through any derivative: choose another layer."""


class UnsupportedOperators(CamOnnxError):
    """Operators between layer and score have no gradient rule. `missing` maps each to its nodes' names."""

    def __init__(self, message: str, missing: dict[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.missing = missing or {}


class ContractError(CamOnnxError):
    """The converted file's contract is damaged, newer than this version, or differs from what was asked for."""


class InputError(CamOnnxError, ValueError):
    """A picture, a tensor, a target or an option does not fit: the message gives the expected form."""


class UnknownName(CamOnnxError, KeyError):
    """A name that no registry knows: the message lists what there is."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0]) if self.args else ""


class LimitExceeded(CamOnnxError):
    """Something is larger than a limit in force: the message names the limit and how to raise it."""


class RunFailed(CamOnnxError):
    """The engine could not run: no runtime installed, a provider missing, memory, or terminated."""

    exit_code = 1


class WriteFailed(CamOnnxError, OSError):
    """Nothing was written; a file that was there before is intact."""

    exit_code = 1

    def __str__(self) -> str:  # OSError formats its arguments as errno pairs
        return str(self.args[0]) if self.args else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest of `known`, or an empty string."""
    folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def shown(text: object, limit: int = 300) -> str:
    r"""Return a path or a name from a file as text that is safe to print, cut in the middle after `limit` characters.

    Control and bidirectional characters, line separators and undecodable bytes come out as escapes: a name
    cannot end the line, colour the terminal or reverse the sentence around it.
    """
    if isinstance(text, (bytes, os.PathLike)):
        text = os.fsdecode(text)
    text = str(text)
    if len(text) > limit:
        text = f"{text[: limit // 2]}...{text[-limit // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
