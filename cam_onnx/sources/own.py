"""Our own files beside a model: ``<model>.preprocess.json``, ``<model>.json``, ``<model>.labels.txt``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from cam_onnx.contract import Preprocess
from cam_onnx.errors import InputError
from cam_onnx.presets import PRESETS
from cam_onnx.sources.beside import Unusable
from cam_onnx.sources.lists import lines
from cam_onnx.sources.table import Said, Subject, mapping

__all__ = ["labels", "plain", "preprocess"]

KNOWN = {each.name for each in fields(Preprocess)}


def preprocess(subject: Subject) -> Iterator[Said]:
    """A `Preprocess` as JSON, or the name of a preset."""
    name = f"{subject.beside.stem}.preprocess.json"
    text = subject.beside.text(name)
    if text is None:
        return
    if (preset := text.strip().strip('"')) in PRESETS:
        yield Said(name, asdict(PRESETS[preset].preprocess) | {"size": None})
        return
    yield Said(name, told(mapping(text)))


def plain(subject: Subject) -> Iterator[Said]:
    """The same; a file of this name that has other keys is somebody else's."""
    name = f"{subject.beside.stem}.json"
    text = subject.beside.text(name) if subject.beside.stem else None
    if text is None:
        return
    try:
        data = mapping(text)
    except Unusable:
        return
    if data and data.keys() <= KNOWN:
        yield Said(name, told(data))


def labels(subject: Subject) -> Iterator[Said]:
    """One class name a line."""
    name = f"{subject.beside.stem}.labels.txt"
    text = subject.beside.text(name)
    if text is not None:
        yield Said(name, labels=lines(text))


def told(data: dict[str, Any]) -> dict[str, Any]:
    """Return what a `Preprocess` in JSON says, all fields: those that are not written have their defaults.

    Raises
    ------
    Unusable
    """
    try:
        settled = Preprocess.from_dict(data)
    except InputError as error:
        raise Unusable(str(error).removeprefix("preprocess: ")) from None
    models = ("size", "layout", "dtype", "multiple")  # its own, where nothing is said
    return {name: value for name, value in asdict(settled).items() if name in data or name not in models}
