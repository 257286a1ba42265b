"""``convert``: a pure function of the file and its arguments. No runtime, no trial run, the same bytes everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import onnx
import onnx_ir as ir

import cam_onnx
from cam_onnx.autodiff.classical import DOMAIN
from cam_onnx.autodiff.gradient import at_lowest_opset
from cam_onnx.autodiff.model import Model, ModelLike, load
from cam_onnx.autodiff.table import RULES, Table
from cam_onnx.contract import KEY, Contract, Preprocess
from cam_onnx.errors import ContractError, Disconnected, InputError, LayerNotFound, UnsupportedOperators, shown
from cam_onnx.graph.blocked import refuse_blocked
from cam_onnx.graph.converted import Converted
from cam_onnx.graph.early import read_early
from cam_onnx.graph.facts import facts
from cam_onnx.graph.first_axes import channels_elsewhere, widened_axes
from cam_onnx.graph.fusion import cut_fusions
from cam_onnx.graph.layers import find_layers
from cam_onnx.graph.locate import Score, picture_input
from cam_onnx.graph.original import original, outline
from cam_onnx.graph.rewrite import rewrite
from cam_onnx.graph.seeds import base, extend
from cam_onnx.graph.states import recurrence
from cam_onnx.graph.tables import table as bent
from cam_onnx.graph.task import find_task
from cam_onnx.graph.unbatched import unbatched
from cam_onnx.kinds import Boxes, Kind, Letters, Peak
from cam_onnx.limits import DEFAULTS, Limits
from cam_onnx.methods.table import Method, find, without_gradient
from cam_onnx.options import read_labels, read_preprocess
from cam_onnx.sources.beside import of_source
from cam_onnx.sources.purpose import purpose
from cam_onnx.words import read_kind

if TYPE_CHECKING:
    PathLike = str | os.PathLike[str]

__all__ = ["Converted", "convert"]

DEFAULT, OF_ONE_PLACE = "grad-cam", "layer-cam"  # methods, by what is explained; both read the same of the file
TARGET_INPUTS = ("optional", "required")


def convert(
    model: ModelLike,
    *,
    layers: Sequence[str | int] | str | int | None = None,
    score: str | None = None,
    method: str | None = None,
    target: Any = None,
    preprocess: Preprocess | Mapping[str, Any] | PathLike | None = None,
    labels: Iterable[str] | PathLike | None = None,
    target_input: str = "optional",
    reconvert: bool = False,
    fallback: bool = False,
    limits: Limits = DEFAULTS,
    table: Table = RULES,
    options: Mapping[str, Any] | None = None,
) -> Converted:
    """Add the explanation's outputs to a model.

    Parameters
    ----------
    model : path, bytes, onnx.ModelProto, onnx_ir.Model or onnxruntime.InferenceSession
        Not changed.
    layers : str, int, sequence of them or None
        Target layers: names of values (of nodes: their first output). What is no such name: a module of the
        framework, a glob, "last-conv", "all-stages" (of every stride the last), or an index of the candidates that
        `cam-onnx inspect` lists. None: the last value with spatial extent before the global pooling or flatten; of
        methods that attribute to the picture, the picture.
    score : str or None
        The value that is explained, (N, C) or flattened to it. None: the first classification output, taken before
        its final Softmax, Sigmoid, LogSoftmax or ArgMax.
    method : str, optional
        A registered method's name; None: "grad-cam", of boxes, letters and peaks "layer-cam". It decides what the
        file has to compute: a gradient or none, by which rules.
    target : Kind or str, optional
        What kind of score is explained (`cam_onnx.kinds`); None: the task's (`cam_onnx.graph.task`), of a classifier
        the logit of a class, which is an input of the file.
    preprocess : Preprocess, dict of its fields, name of a preset, path or None
        For the contract: how a picture becomes the input. What is not said is looked for in the file's metadata and in
        files beside it, and is guessed where it is nowhere; the contract's `origin` says which.
    labels : sequence of str, path or None
        For the contract: class names; else looked for likewise.
    target_input : {"optional", "required"}
        "optional": `cam_target` has the default [-1], so that old callers keep their feeds (honoured by ONNX
        Runtime's Python, C, C++ and C#). "required": a plain input, the only form that ONNX Runtime Web, Node,
        Java and OpenVINO honour.
    reconvert : bool
        Take a converted file too, and start from the original in it; preprocessing and labels that are not given
        are those of its contract.
    fallback : bool
        Where a gradient is refused, take the first method that needs none, and note it.
    limits : Limits
        Of these, `max_model_bytes` and `max_nodes`.
    table : Table
        Gradient rules: the standard ones by default, see `cam_onnx.autodiff`; some methods have their own.
    options : dict, optional
        Of the method, where they decide what the file computes.

    Returns
    -------
    Converted

    Raises
    ------
    InvalidModel, UnsupportedOpset
        The file cannot be read, or raised to the opset that serves.
    LayerNotFound, ScoreNotFound, Disconnected, UnsupportedOperators
        What was asked for is not there, or has no gradient.
    ContractError
        The model is converted already; with `reconvert`: it was changed after that.
    LimitExceeded
        The file, or what its local functions write out to, is larger than `limits`.
    """
    if target_input not in TARGET_INPUTS:
        raise InputError(f"target_input is {target_input!r}, expected one of {', '.join(TARGET_INPUTS)}")
    chosen = find(method or DEFAULT)
    rules = chosen.rules(chosen.settle(options or {}))
    said = read_kind(target if target is not None else chosen.target or None)
    settings: dict[str, Any] = {"preprocess": read_preprocess(preprocess), "labels": read_labels(labels)}
    kept: dict[str, str] = {}
    loaded = load(model, limits)
    refuse_blocked(loaded)
    source_sha256 = loaded.source_sha256
    for entry in [entry for entry in loaded.proto.metadata_props if entry.key == KEY]:
        old = Contract.from_json(entry.value, loaded.name)  # damaged: said as such
        if not reconvert:
            raise ContractError(
                f"{loaded.name} is converted already: convert the original model, or start from the original in this "
                "file (reconvert=True, --reconvert)"
            )
        proto, raised = original(loaded.proto, old, loaded.name), dict(old.raised)
        loaded = loaded.of(proto, raised)
        source_sha256 = old.source_sha256
        kept = {name: text for name, text in old.origin.items() if settings.get(name) is None}
        settings = {name: getattr(old, name) if given is None else given for name, given in settings.items()}

    settled: list[str] = []  # what an index or a word means, it means in the file as `inspect` looks at it

    def build(prepared: Model, method: Method = chosen) -> Built:
        picture = picture_input(prepared)
        task = find_task(prepared, purpose(of_source(model))) if said is None and score is None else None
        kind = said if task is None else task.kind
        found = base(prepared, kind, score, task)
        asked = _asked(method, layers, picture)
        places = find_layers(prepared, settled or asked, found)
        if asked is not None:
            settled[:] = [place.name for place in places]
        seeded = extend(prepared, found, kind, target_input)
        seeded, early = read_early(seeded) if "early_gradients" in method.lists else (seeded, [])
        bends = bent(rules) if rules and method is chosen else table
        how: dict[str, Any] = {
            "chosen": seeded.chosen, "table": bends, "picture": picture_input(seeded.model), "lists": method.lists,
            "early": early,
        }  # fmt: skip
        try:
            gradients = method.needs_gradient or method.at != "input"
            made = rewrite(seeded.model, seeded.values, places, target_input, gradients=gradients, **how)
        except (Disconnected, UnsupportedOperators):
            if method.needs_gradient:
                raise
            made = rewrite(seeded.model, seeded.values, places, target_input, gradients=False, **how)
        contract = made[1].with_(each=seeded.each, nothing=seeded.nothing, task="" if task is None else task.name)
        if seeded.boxes:
            contract.roles["boxes"] = seeded.boxes
        cuts = cut_fusions([prepared.values[name] for name in seeded.read])
        return Built(prepared, picture, made[0], contract, cuts, kind, found)

    notes = []
    try:
        built = at_lowest_opset(loaded, build)
    except UnsupportedOperators as error:
        others = [name for name in without_gradient() if find(name).at == "layer" or layers is None]
        if not fallback:
            raise UnsupportedOperators(
                f"{error}\nWithout a gradient these methods work: {', '.join(others)} (method=, --method; fallback=, "
                "--fallback: the first)",
                error.missing,
            ) from error
        instead = find(others[0])
        built = at_lowest_opset(loaded, partial(build, method=instead))
        first = next(iter(error.missing), "an operator")
        notes.append(f"{chosen.name} is refused ({first} has no gradient rule): {instead.name} is taken instead")
        chosen, rules = instead, ""
    if method is None and chosen.name == DEFAULT and isinstance(built.kind, (Boxes, Letters, Peak)):
        chosen = find(OF_ONE_PLACE)
        notes.append(
            f"{chosen.name}, since the mean gradient that {DEFAULT} takes does not say which of many places is meant"
        )
    prepared, picture, proto, contract = built.prepared, built.picture, built.proto, built.contract
    if isinstance(built.kind, Letters):
        read_by = recurrence(prepared.values[built.score.name], {layer.name for layer in contract.layers})
        if read_by:
            notes.append(
                f"every letter is read of the whole line ({read_by}): its map marks others as well, and the map's "
                "centre need not lie on it"
            )
    if picture is not None and picture.name:
        contract.roles["image"] = picture.name
        contract = contract.with_(unbatched=unbatched(picture), without_channels=widened_axes(picture) is not None)
    told = facts(prepared, model, picture, built.score, settings, contract.each)
    contract = contract.with_(
        input_axes=None if picture is None or told.preprocess is not None else channels_elsewhere(picture),
        preprocess=told.preprocess,
        labels=told.labels,
        origin=told.origin | kept,
        method=chosen.name,
        tool=f"cam_onnx {cam_onnx.__version__}",
        source_sha256=source_sha256,
        original=outline(prepared.proto),
        target={"kind": "class"} if built.kind is None else built.kind.to_dict(),
        table=rules,
        cuts_fusion=tuple(sorted({*contract.cuts_fusion, *built.cuts})),
    )
    for layer in contract.layers:
        chosen.check(layer.head, layer.name)
    proto.metadata_props.add(key=KEY, value=contract.to_json())
    notes = [*_notes(prepared, contract), *notes, *told.notes]
    return Converted(contract, notes, proto, prepared.weights, loaded.external, built.kind)


class Built(NamedTuple):
    """What one attempt at an opset gives."""

    prepared: Model
    picture: ir.Value | None
    proto: onnx.ModelProto
    contract: Contract
    cuts: tuple[str, ...]
    kind: Kind | None
    score: Score


def _asked(
    method: Method, layers: Sequence[str | int] | str | int | None, picture: ir.Value | None
) -> Sequence[str | int] | str | int | None:
    """Return the layers to look for: the picture, where the method attributes to it."""
    if method.at != "input":
        return layers
    if picture is None or not picture.name:
        raise LayerNotFound(f"{method.name} explains the picture, and no input of the model looks like one")
    if layers is not None and [picture.name] != ([layers] if isinstance(layers, (str, int)) else list(layers)):
        raise InputError(f"{method.name} explains the input {shown(picture.name)!r} itself: name no other layer")
    return [picture.name]


def _notes(model: Model, contract: Contract) -> list[str]:
    notes = []
    if "opset" in contract.raised:
        notes.append("raised from opset {} to {} (onnx's version converter)".format(*contract.raised["opset"]))
    if "ir_version" in contract.raised:
        notes.append("raised from IR version {} to {}".format(*contract.raised["ir_version"]))
    if written := contract.raised.get(f"nodes of {DOMAIN}"):
        notes.append(f"nodes of {DOMAIN} that are written in standard operators: {written[0]}")
    if contract.cuts_fusion:
        notes.append(
            f"reads inside likely fusions of the runtime ({', '.join(contract.cuts_fusion[:3])}"
            f"{', ...' if len(contract.cuts_fusion) > 3 else ''}): original outputs may differ by float rounding"
        )
    return notes
