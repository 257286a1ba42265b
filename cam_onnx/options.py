"""What a user gives for model, preprocessing and labels, as the rest of the package takes it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from cam_onnx import files
from cam_onnx.contract import Preprocess
from cam_onnx.errors import InputError, shown

__all__ = ["read_labels", "read_model", "read_preprocess"]


def read_preprocess(source: Preprocess | str | os.PathLike[str] | None) -> Preprocess | None:
    """Return a `Preprocess`, read from a JSON file where `source` is a path."""
    if source is None or isinstance(source, Preprocess):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(f"preprocess: expected a Preprocess or the path of a JSON file, got {type(source).__name__}")
    try:
        return Preprocess.from_json(_text(source, "preprocessing file"))
    except InputError as error:
        raise InputError(f"{shown(source)}: {error}") from None


def read_labels(source: Iterable[str] | str | os.PathLike[str] | None) -> tuple[str, ...] | None:
    """Return class names in class order, one a line where `source` is a path (BOM and CRLF are fine)."""
    if source is None:
        return None
    if isinstance(source, (str, os.PathLike)):
        names = [line.strip() for line in _text(source, "labels file").split("\n")]
        while names and not names[-1]:
            names.pop()
        if not names:
            raise InputError(f"{shown(source)}: no labels in it; one class name a line")
        return tuple(names)
    return tuple(str(name) for name in source)


def read_model(source: Any) -> tuple[bytes, str | None]:
    """Return a model's bytes, and its path if it has one. Loads no onnx."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return files.read(path, what="model"), path
    if hasattr(source, "SerializeToString"):  # an onnx.ModelProto
        return source.SerializeToString(), None
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), None
    raise InputError(f"model: expected a path, bytes or an onnx.ModelProto, got {type(source).__name__}")


def _text(path: str | os.PathLike[str], what: str) -> str:
    try:
        return files.read(path, what=what, limit=16 << 20).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(path)}: not UTF-8 text ({error.reason} at byte {error.start}): {what}") from None
