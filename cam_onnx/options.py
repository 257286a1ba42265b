"""What a user gives for model, preprocessing and labels, as the rest of the package takes it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from cam_onnx import files
from cam_onnx.contract import Preprocess
from cam_onnx.declared import check_operators
from cam_onnx.errors import InputError, UnknownName, did_you_mean, shown
from cam_onnx.external import External, check_external
from cam_onnx.inlined import check_size
from cam_onnx.limits import DEFAULTS, Limits, raise_it
from cam_onnx.presets import PRESETS
from cam_onnx.wire import LONGEST

__all__ = ["Settings", "check_model", "is_session", "read_labels", "read_model", "read_preprocess"]


Settings = Preprocess | Mapping[str, Any] | None  # all of it, single fields, or nothing said


def read_preprocess(source: Preprocess | Mapping[str, Any] | str | os.PathLike[str] | None) -> Settings:
    """Return a `Preprocess`: a preset where `source` is its name, else read from the JSON file at this path.

    A mapping is single fields of one, and stays that: the others are still to be found.

    A preset wins over a file of the same name, so that what a command does never depends on the folder it runs in:
    ``./imagenet`` is the file.
    """
    if source is None or isinstance(source, Preprocess):
        return source
    if isinstance(source, Mapping):
        whole = Preprocess.from_dict(dict(source))
        return {name: getattr(whole, name) for name in source}
    if not isinstance(source, (str, os.PathLike)):
        raise InputError(
            "preprocess: expected a Preprocess, fields of one, the name of a preset or the path of a JSON file, got "
            f"{type(source).__name__}"
        )
    if isinstance(source, str):
        if source in PRESETS:
            return PRESETS[source].preprocess
        if os.path.splitext(source) == (os.path.basename(source), "") and not os.path.lexists(source):
            raise UnknownName(
                f"preprocess: {shown(source)!r} is no preset and no file{did_you_mean(source, PRESETS)} (presets: "
                f"{', '.join(PRESETS)}; a file: JSON)"
            )
    text = _text(source, "preprocessing file")
    try:
        return Preprocess.from_json(text)
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


def read_model(source: Any, limits: Limits = DEFAULTS) -> tuple[bytes, str | None]:
    """Return a model's bytes, and its path if it has one. Loads no onnx."""
    if isinstance(source, (str, os.PathLike)):
        path, limit, todo = os.fspath(source), limits.max_model_bytes, raise_it("max_model_bytes")
        if limit > LONGEST:
            limit, todo = LONGEST, "no ONNX file can be larger; export it with external data"
        return files.read(path, what="model", limit=limit, todo=todo), path
    if is_session(source):
        made_of = getattr(source, "_model_bytes", None) or getattr(source, "_model_path", None)
        if not made_of:
            raise InputError("model: this session does not say what it was made of; give its path or its bytes")
        return read_model(made_of, limits)
    if type(source).__module__.partition(".")[0] == "onnx_ir" and hasattr(source, "graph"):
        source = sys.modules["onnx_ir"].to_proto(source)  # whoever has one has imported it
    if hasattr(source, "SerializeToString"):  # an onnx.ModelProto
        source = source.SerializeToString(deterministic=True)
    if isinstance(source, (bytes, bytearray, memoryview)):
        limits.check("max_model_bytes", len(source), "the model has")
        return bytes(source), None
    raise InputError(
        "model: expected a path, bytes or an onnx.ModelProto, an onnx_ir.Model or a session of ONNX Runtime, got "
        f"{type(source).__name__}"
    )


def is_session(source: Any) -> bool:
    """Whether a model is given as a session of ONNX Runtime, of which nothing is imported for this."""
    return hasattr(source, "get_modelmeta") and hasattr(source, "get_providers")


def check_model(data: bytes, path: str | None, limits: Limits = DEFAULTS) -> list[External]:
    """Return a model's checked external data, after counting its bytes and nodes; before any reader sees it.

    Raises
    ------
    InvalidModel
        Unsafe external data, or a function that calls itself.
    UnsupportedOperators
        Operators that load or run what is not in the file.
    LimitExceeded
    """
    where = "the model" if path is None else path
    check_size(data, limits, where)
    check_operators(data, where)
    entries = check_external(data, path)
    beside = sum({(entry.file, entry.offset): entry.length or 0 for entry in entries}.values())
    limits.check("max_model_bytes", len(data) + beside, f"{shown(where)}: with its external data")
    return entries


def _text(path: str | os.PathLike[str], what: str) -> str:
    try:
        return files.read(path, what=what, limit=16 << 20).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(path)}: not UTF-8 text ({error.reason} at byte {error.start}): {what}") from None
