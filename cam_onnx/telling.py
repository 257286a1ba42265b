"""What is known of a model's pictures and classes where it runs: of a plain one the conversion has asked already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from cam_onnx import wire
from cam_onnx.contract import Contract
from cam_onnx.engine import Tensor
from cam_onnx.inputs import settle
from cam_onnx.reading import Reading
from cam_onnx.sources.beside import Beside
from cam_onnx.sources.gather import Known, known
from cam_onnx.sources.table import Said, Subject

__all__ = ["Told", "told_of"]

FILE = "the converted file"


class Told(NamedTuple):
    """A contract with its preprocessing and labels in force, the line that calls a guess one, and notes."""

    contract: Contract
    guess: str | None
    notes: list[str]


def told_of(
    read_: Reading, contract: Contract, settings: Mapping[str, Any], image: Tensor | None, classes: int | None
) -> Told:
    """Return what is in force for a model that is open.

    Raises
    ------
    InputError
        What the caller or a converted file says contradicts the model's input.
    """
    found = Known(contract.preprocess, contract.labels, contract.origin)
    if not read_.plain:
        found = _asked(read_, contract, settings, image, classes)
    origin, settled, guess = dict(found.origin), found.preprocess, found.origin.get("guess")
    if image is not None:
        settled, guessed = settle(settled, image.shape, image.dtype)
        guess = guessed or guess
        origin |= {"preprocess": "a guess"} if guessed else {}
    return Told(contract.with_(preprocess=settled, labels=found.labels, origin=origin), guess, found.notes)


def _asked(
    read_: Reading, contract: Contract, settings: Mapping[str, Any], image: Tensor | None, classes: int | None
) -> Known:
    """Ask all sources for what neither the caller nor the contract says."""
    own: dict[str, Any] = {"preprocess": contract.preprocess, "labels": contract.labels}
    in_force = {name: own[name] if settings[name] is None else settings[name] for name in own}
    recorded = None
    if contract.preprocess is not None:
        fields = {name: value for name, value in asdict(contract.preprocess).items() if value is not None}
        recorded = Said(contract.origin.get("preprocess", FILE), fields)
    subject = Subject(
        metadata=wire.metadata(read_.data),
        beside=Beside(read_.source if isinstance(read_.source, str) else None),
        image=contract.roles.get("image", ""),
        shape=None if image is None else image.shape,
        dtype="float32" if image is None else image.dtype,
        classes=contract.each or (classes if contract.target.get("kind") == "class" else None),
    )
    found = known(subject, in_force["preprocess"], in_force["labels"], recorded=recorded)
    kept = {name: contract.origin.get(name, FILE) for name in own if settings[name] is None and own[name] is not None}
    if "preprocess" in kept and "guess" in contract.origin:
        kept["guess"] = contract.origin["guess"]
    return Known(found.preprocess, found.labels, {**found.origin, **kept}, found.notes)
