"""What a model is and what can be explained in it: found, not guessed at, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import onnx_ir as ir

from cam_onnx.autodiff import spelling
from cam_onnx.autodiff.backward import mark
from cam_onnx.autodiff.model import Model, ModelLike, load
from cam_onnx.autodiff.skeleton import MADE
from cam_onnx.contract import KEY, Contract, Preprocess
from cam_onnx.errors import CamOnnxError, LayerNotFound
from cam_onnx.graph.asked_layers import Asked
from cam_onnx.graph.blocked import refuse_blocked, runtime_only
from cam_onnx.graph.candidates import Place
from cam_onnx.graph.facts import facts
from cam_onnx.graph.held import DERIVATIVE
from cam_onnx.graph.layers import find_layers, find_stages
from cam_onnx.graph.locate import Score, fed, picture_input
from cam_onnx.graph.roles import follow
from cam_onnx.graph.seeds import base
from cam_onnx.graph.strides import grid_of, strides
from cam_onnx.graph.task import find_task
from cam_onnx.limits import DEFAULTS, Limits
from cam_onnx.sources.beside import of_source
from cam_onnx.sources.purpose import purpose

__all__ = ["Candidate", "Described", "Report", "inspect"]

T = TypeVar("T")


@dataclass(frozen=True)
class Described:
    """A value: its name, its type, its shape (names for symbolic dimensions) and the operator that gives it."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
    op_type: str = ""


@dataclass(frozen=True)
class Candidate(Described):
    """A value that can be a target layer.

    Attributes
    ----------
    index : int
        What it is asked for by, unless the file has a value or a node of this name.
    grid : tuple
        Sizes of what a map of it would have: of its spatial axes, or of the grid that its tokens are laid out on.
    stride : tuple of float or None
        How far apart in the picture two neighbours on that grid lie, for each axis; None: not known.
    marks : tuple of str
        "default"; what stands for it, "last-conv"; "stage": one of "all-stages".
    """

    index: int = 0
    grid: tuple[int | str | None, ...] = ()
    stride: tuple[float, ...] | None = None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What `inspect` found.

    Attributes
    ----------
    opset, ir_version : int
    inputs, outputs : tuple of Described
    converted : bool
        Whether the file has a contract already.
    task : str
        What the model does, as far as that was found.
    task_why : str
        Why it is.
    target : str
        The kind of target that is explained by default.
    score : str or None
        The value that is explained by default; None: `problems` says why.
    beside : tuple of str
        What it is made of with it, where a detector has outputs of each level.
    layer : str or None
        The default target layer; of several (`layers`), the first.
    why : str
        Why it is.
    candidates : tuple of Candidate
        Values with spatial extent on the way to the score, in the order of the graph.
    unsupported : tuple of str
        Operators on the way from the input that have no gradient rule, with counts and the first node.
    runtime_only : tuple of str
        ONNX Runtime's own operators, with counts: the file needs ONNX Runtime, converted or not.
    problems : tuple of str
        What keeps the model from being converted without options, a line each.
    layers : tuple of str
        The default target layers: one, or one of each level of a feature pyramid.
    preprocess : Preprocess or None
        How a picture becomes the input, as far as it is said or the graph shows it; None: only a guess.
    labels : tuple of str or None
    origin : dict
        Where these are from.
    notes : tuple of str
        What was found of them and is not used, and guesses.
    """

    opset: int
    ir_version: int
    inputs: tuple[Described, ...]
    outputs: tuple[Described, ...]
    converted: bool
    task: str
    task_why: str
    target: str
    score: str | None
    layer: str | None
    why: str
    candidates: tuple[Candidate, ...]
    unsupported: tuple[str, ...]
    problems: tuple[str, ...]
    layers: tuple[str, ...] = ()
    preprocess: Preprocess | None = None
    labels: tuple[str, ...] | None = None
    origin: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    runtime_only: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def inspect(model: ModelLike, score: str | None = None, limits: Limits = DEFAULTS) -> Report:
    """Describe a model.

    Parameters
    ----------
    model : path, bytes, onnx.ModelProto, onnx_ir.Model or onnxruntime.InferenceSession
    score : str, optional
        See `cam_onnx.convert`.
    limits : Limits
        Of these, `max_model_bytes` and `max_nodes`.

    Raises
    ------
    InvalidModel
        The file is not a usable model. What only keeps it from being explained stands in the report.
    """
    loaded = load(model, limits)
    converted = next((entry.value for entry in loaded.proto.metadata_props if entry.key == KEY), None)
    contract = None if converted is None else Contract.from_json(converted, loaded.name)
    if contract is not None and score is None:
        score = contract.score
    problems: list[str] = []

    def attempt(find: Callable[[], T]) -> T | None:
        try:
            return find()
        except CamOnnxError as error:
            problems.append(str(error))
            return None

    attempt(lambda: refuse_blocked(loaded))
    prepared = loaded
    if loaded.opset < spelling.LOWEST:
        prepared = attempt(lambda: loaded.raise_to(spelling.LOWEST)) or loaded
    task = attempt(lambda: find_task(prepared, purpose(of_source(model)))) if score is None else None
    kind = None if task is None else task.kind
    found = None if score is None and task is None else attempt(lambda: base(prepared, kind, score, task))
    places, unsupported, default = [], [], None
    if found is not None:
        default = attempt(lambda: find_layers(prepared, None, found))
        places = _candidates(prepared, found, default or [])
        path = mark(prepared.graph, fed(prepared), found.values(prepared), prepared.opset, DERIVATIVE)
        for name, nodes in sorted(path.refused.items()):
            count = f"{len(nodes)} node{'s'[: len(nodes) > 1]}"
            unsupported.append(f"{name}: {count}, first {nodes[-1].name or nodes[-1].outputs[0].name!r}")
    own = {} if contract is None else {"preprocess": contract.preprocess, "labels": contract.labels}
    told = facts(prepared, model, picture_input(prepared), found, own)
    return Report(
        opset=loaded.opset,
        ir_version=loaded.proto.ir_version,
        inputs=tuple(_described(value) for value in fed(loaded)),
        outputs=tuple(_described(value) for value in loaded.graph.outputs),
        converted=converted is not None,
        task="" if task is None else task.name,
        task_why="" if task is None else task.why,
        target="" if found is None else "class" if kind is None else kind.word,
        score=None if found is None else found.name,
        layer=default[0].name if default else None,
        why=default[0].why if default else "",
        candidates=tuple(places),
        unsupported=tuple(unsupported),
        problems=tuple(problems),
        layers=tuple(place.name for place in default or ()),
        preprocess=told.preprocess,
        labels=told.labels,
        origin=told.origin | ({} if contract is None else contract.origin),
        notes=tuple(told.notes),
        runtime_only=runtime_only(loaded.proto),
        beside=() if found is None else found.beside,
    )


def _candidates(model: Model, score: Score, default: list[Place]) -> list[Candidate]:
    asked = Asked(model, score)
    marked: dict[str, list[str]] = {}
    for place in default:
        marked.setdefault(place.name, []).append("default")
    for place in asked.candidates and find_stages(model, score):
        marked.setdefault(place.name, []).append("stage")
    with suppress(LayerNotFound):  # a network of products has no convolution
        marked.setdefault(asked.last_conv().name, []).append("last-conv")
    values = {model.values[place.name]: place.axes for place in asked.candidates}
    known = strides(model.graph, follow(model.graph))
    return [
        Candidate(
            **vars(_described(value)),
            index=index,
            grid=_told(grid_of(value, axes)),
            stride=tuple(float(stride) for stride in known[value]) if value in known else None,
            marks=tuple(marked.get(value.name or "", ())),
        )
        for index, (value, axes) in enumerate(values.items())
    ]


def _described(value: ir.Value) -> Described:
    dims = None if value.shape is None else _told(d if isinstance(d, int) else d.value for d in value.shape)
    dtype = "" if value.dtype is None else str(value.dtype.name).lower()
    producer = value.producer()
    return Described(value.name or "", dtype, dims, "" if producer is None else producer.op_type)


def _told(dims: Iterable[int | str | None]) -> tuple[int | str | None, ...]:
    """Return sizes without the names that inference made up."""
    return tuple(None if isinstance(d, str) and d.startswith(MADE) else d for d in dims)
