"""A model that a user gives as a converted one: converted now, or read as it is, and then onnx is not imported."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cam_onnx import wire
from cam_onnx.contract import KEY, Contract
from cam_onnx.errors import ContractError, shown
from cam_onnx.external import External
from cam_onnx.kinds import Kind
from cam_onnx.limits import Limits
from cam_onnx.methods.table import Method
from cam_onnx.options import Settings, check_model, is_session, read_model

EMPTY: Mapping[str, Any] = {}

__all__ = ["EMPTY", "Converting", "Reading", "convert", "fits", "read"]


@dataclass(frozen=True)
class Converting:
    """What a conversion is asked for, beside the model."""

    layers: str | int | Sequence[str | int] | None = None
    score: str | None = None
    method: str | None = None
    target: Kind | None = None
    fallback: bool = False
    limits: Limits = field(default_factory=Limits)
    options: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Settings = None
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Reading:
    """A converted model.

    Attributes
    ----------
    data : bytes
    contract : Contract
    external : list of External
    folder : str or None
        Where these lie.
    source : str or bytes
        What it was made of, to be converted again.
    plain : bool
        Whether the source was converted here.
    notes : list of str
    kind : Kind or None
        Of the target it was converted for here.
    session : InferenceSession or None
        The caller's own, of this converted model.
    """

    data: bytes
    contract: Contract
    external: list[External]
    folder: str | None
    source: str | bytes
    plain: bool
    notes: list[str] = field(default_factory=list)
    kind: Kind | None = None
    session: Any = None


def read(model: Any, asked: Converting) -> Reading:
    """Return a model as a converted one.

    Raises
    ------
    ContractError
        It is converted, for something else than what is asked for.
    CamOnnxError
        See `cam_onnx.convert`.
    """
    data, path = read_model(model, asked.limits)
    entry = wire.metadata(data, "the model" if path is None else path).get(KEY)
    folder = None if path is None else os.path.dirname(os.path.abspath(path))
    if entry is None:
        check_model(data, path, asked.limits)  # convert does so too, but importing it takes a second
        source = path or data
        del data  # as large as the weights: convert reads the file again
        return convert(source, folder, asked)
    contract = Contract.from_json(entry, "the model" if path is None else shown(path))
    contract.agrees(asked.layers, asked.score)
    session = model if is_session(model) else None
    if session is not None and session.get_modelmeta().custom_metadata_map.get(KEY) != entry:
        raise ContractError(
            f"{shown(path or 'the model')} was changed after its session was made: make a new session, or give the path"
        )
    entries = check_model(data, path, asked.limits)
    return Reading(data, contract, entries, folder, path or data, plain=False, session=session)


def convert(source: str | bytes, folder: str | None, asked: Converting) -> Reading:
    """Convert a plain model, or a converted one's original anew."""
    from cam_onnx.graph.convert import convert

    made = convert(
        source, layers=asked.layers, score=asked.score, method=asked.method, target=asked.target,
        reconvert=True, fallback=asked.fallback, limits=asked.limits, options=asked.options,
        preprocess=asked.preprocess, labels=asked.labels,
    )  # fmt: skip
    return Reading(made.to_bytes(), made.contract, made.external, folder, source, True, made.notes, made.kind)


def fits(contract: Contract, method: Method, kind: Kind | None, options: Mapping[str, Any] = EMPTY) -> None:
    """Refuse a method (with these options) or a kind of target that a converted file was not made for.

    Raises
    ------
    ContractError
    InputError
        The method is not defined for this network.
    """
    todo = "give the original model, or convert --reconvert it"
    has, wants = contract.target, None if kind is None else kind.to_dict()
    if wants is None and method.target and has.get("kind") != method.target:
        wants = {"kind": method.target}
    if wants is not None and has != wants:
        settings = " with these settings" if has.get("kind") == wants["kind"] else ""
        raise ContractError(
            f"converted for targets of kind {has.get('kind')}, not {wants['kind']}{settings}: {todo} with --target"
        )
    image = [layer.name for layer in contract.layers] == [contract.roles.get("image")]
    if method.at == "input" and not image:
        raise ContractError(
            f"{method.name} explains the picture, and the file was converted for layer "
            f"{shown(contract.layers[0].name)!r}: {todo} with --method {method.name}"
        )
    if not method.takes(contract.table, options):
        given = "".join(f" with {name}={value}" for name, value in options.items() if method.table)
        raise ContractError(f"the file's way back has other rules than {method.name}{given} needs: {todo}")
    if missing := [need for need in method.lists if need not in contract.lists]:
        raise ContractError(
            f"{method.name} needs {' and '.join(missing)}, and the file was converted without: {todo} with --method "
            f"{method.name}"
        )
    if method.needs_gradient and not all(layer.gradients for layer in contract.layers):
        raise ContractError(f"{method.name} needs a gradient, and the file was converted without one: {todo}")
    for layer in contract.layers:
        method.check(layer.head, layer.name)
