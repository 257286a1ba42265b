"""Where to look: the score before its softmax, and the target layers.

Both are found on the graph. A score is the first output that has one number per class; a layer is a value with
spatial extent on the way to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from cam_onnx.autodiff.backward import mark
from cam_onnx.autodiff.functions import inside
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.table import RULES
from cam_onnx.autodiff.val import cotangent_of
from cam_onnx.contract import Axes
from cam_onnx.errors import InputError, LayerNotFound, ScoreNotFound, did_you_mean, shown
from cam_onnx.graph.default_layer import choose
from cam_onnx.graph.roles import Roles, axes_of, follow, has_extent

__all__ = ["Place", "Score", "candidates", "fed", "find_dense", "find_layers", "find_score", "picture_input"]

_FINAL = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid", "ArgMax": ""}
_FINAL |= {"QLinearSoftmax": "softmax", "QLinearSigmoid": "sigmoid"}
_TRANSPARENT = {"Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_TRANSPARENT |= {"QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True)
class Score:
    """The explained value.

    `single`: it has no batch axis, (C,). `classes`: C', or None where it is symbolic. `activation`: what the model
    does to it at its end: "softmax", "sigmoid" or "".
    """

    name: str
    single: bool
    classes: int | None
    activation: str = ""


@dataclass(frozen=True)
class Place:
    """A target layer: a value's name, what its axes are, and why it is the default."""

    name: str
    axes: Axes
    why: str = ""


def fed(model: Model) -> list[ir.Value]:
    """Return the inputs that a caller feeds (initializers of the same name are not)."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def picture_input(model: Model) -> ir.Value | None:
    """Return the input that a picture goes to: the first of rank 4, else of rank 3 or more, else the only one."""
    found = fed(model)
    for rank in (4, 5, 3):
        for value in found:
            if value.shape is not None and len(value.shape) == rank:
                return value
    return found[0] if len(found) == 1 else None


def find_score(model: Model, name: str | None) -> Score:
    """Return the score: the value called `name`, or the first classification output before its final activation.

    Raises
    ------
    ScoreNotFound
        No such value, not floating-point, or no output that looks like class scores: the message lists them.
    """
    if name is not None:
        value = model.values.get(name)
        if value is None:
            near = did_you_mean(name, [n for n in model.values if n])
            raise ScoreNotFound(f"{model.name} has no value {shown(name)!r} to take as the score{near}")
        if value.dtype is None:
            raise ScoreNotFound(
                f"{model.name}: the element type of {shown(name)!r} is not known: an operator before it is not of the "
                "standard, or types do not fit; name another value as the score"
            )
        if cotangent_of(value) is None:
            before, _ = _before_activation(value)
            hint = f"; did you mean {shown(before.name)!r}, which it is made of?" if before is not value else ""
            raise ScoreNotFound(
                f"{model.name}: score {shown(name)!r} is {value.dtype}: it has no derivative; name a float value{hint}"
            )
        if value.shape is None or len(value.shape) == 0:
            raise ScoreNotFound(
                f"{model.name}: score {shown(name)!r} has no known rank of at least 1: name another value"
            )
        return _score(model, value)
    for output in model.graph.outputs:
        value, activation = _before_activation(output)
        if cotangent_of(value) is not None and _is_class_scores(value):
            return replace(_score(model, value), activation=activation)
    listed = ", ".join(f"{shown(o.name or '')} {_typed(o)}" for o in model.graph.outputs) or "none"
    raise ScoreNotFound(
        f"{model.name}: no output looks like class scores (a floating-point (N, C)); its outputs: {listed}. "
        "Name the value to explain (score=, --score)"
    )


def find_dense(model: Model, name: str | None) -> Score:
    """Return the score of targets with a place: a segmentation's or a detection head's output, or a sequence's.

    The value called `name`, or the first floating-point output of rank 3 or more before its final activation.

    Raises
    ------
    ScoreNotFound
    """
    if name is not None:
        return replace(find_score(model, name), classes=None)
    for output in model.graph.outputs:
        value, activation = _before_activation(output)
        if cotangent_of(value) is not None and value.shape is not None and len(value.shape) > 2 and value.name:
            return Score(value.name, single=False, classes=None, activation=activation)
    listed = ", ".join(f"{shown(o.name or '')} {_typed(o)}" for o in model.graph.outputs) or "none"
    raise ScoreNotFound(
        f"{model.name}: no output has a place for every value (a floating-point one of rank 3 or more); its outputs: "
        f"{listed}. Name the value (score=, --score)"
    )


def _typed(value: ir.Value) -> str:
    dims = [] if value.shape is None else [str(d) if isinstance(d, int) else d.value or "?" for d in value.shape]
    shape = "of unknown rank" if value.shape is None else "x".join(dims) or "scalar"
    return f"{value.dtype.name.lower() if value.dtype else '?'} {shape}"


def _before_activation(output: ir.Value) -> tuple[ir.Value, str]:
    """Return the input of a final Softmax, Sigmoid, LogSoftmax or ArgMax, and what it is ("": an ArgMax).

    Also behind casts and reshapes, and both of ArgMax(Softmax(x)).
    """
    value, found, activation = output, output, ""
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type not in _FINAL and node.op_type not in _TRANSPARENT:
            break
        if activation and node.op_type in _FINAL:
            break  # one is enough
        value = node.inputs[0]
        if node.op_type in _FINAL:
            found, activation = value, _FINAL[node.op_type]
    # the version converter puts a Flatten of what is flat before an old Softmax: the user's own value is meant
    while (node := found.producer()) is not None and node.op_type in ("Flatten", "Identity"):
        x = node.inputs[0]
        if x is None or found is output or x.shape is None or x.shape != found.shape:
            break
        found = x
    return found, activation


def _is_class_scores(value: ir.Value) -> bool:
    if value.dtype is None or value.shape is None or len(value.shape) == 0:
        return False
    return len(value.shape) <= 2 or all(d == 1 for d in list(value.shape)[2:])


def _score(model: Model, value: ir.Value) -> Score:
    assert value.shape is not None
    assert value.name
    dims = [d if isinstance(d, int) else d.value for d in value.shape]
    if len(dims) == 1:
        picture = picture_input(model)
        batch = None if picture is None or picture.shape is None or not len(picture.shape) else picture.shape[0]
        if batch is not None and dims[0] == (batch if isinstance(batch, int) else batch.value):
            return Score(value.name, single=False, classes=1)
        return Score(value.name, single=True, classes=dims[0] if isinstance(dims[0], int) else None)
    classes: int | None = 1
    for d in dims[1:]:
        classes = classes * d if classes is not None and isinstance(d, int) else None
    return Score(value.name, single=False, classes=classes)


def candidates(model: Model, score: Score) -> list[Place]:
    """Return every inner value with spatial extent on the way to the score, in the order of the graph."""
    roles = follow(model.graph)
    found = []
    for value in _on_path(model, score):
        axes = axes_of(roles.get(value, ()))
        if axes is not None and has_extent(value, axes) and value.name:
            found.append(Place(value.name, axes))
    return found


def _on_path(model: Model, score: Score) -> list[ir.Value]:
    """Return every inner value of which the score has a derivative, also where none reaches the input (Round)."""
    inner = [y for node in model.graph for y in node.outputs]
    path = mark(model.graph, [*fed(model), *inner], [model.values[score.name]], model.opset, RULES)
    return [y for y in inner if y in path.values and y.name != score.name]


def find_layers(model: Model, names: Sequence[str] | str | None, score: Score) -> list[Place]:
    """Return the target layers: value names, node names (their first output), or the default.

    The default is the last value with spatial extent before the global pooling or flatten; where a class token is
    read, the input of the last attention.

    Raises
    ------
    LayerNotFound
        Unknown name, a layer without spatial extent, or no good default (none with spatial extent, or attention
        behind the last one): the message lists candidates.
    """
    if names is None:
        found = candidates(model, score)
        if not found:
            raise LayerNotFound(
                f"{model.name}: no value with spatial extent lies between the input and {shown(score.name)!r}; "
                f"values on the way: {_listed([v.name or '' for v in _on_path(model, score)])}. "
                "Name a layer (layers=, --layer)"
            )
        axes = {model.values[p.name]: p.axes for p in found}
        chosen, why = choose(model, model.values[score.name], axes, follow(model.graph))
        if chosen is None:
            raise LayerNotFound(
                f"{model.name}: {why}; name the layer that you mean (layers=, --layer); candidates: "
                f"{_listed([place.name for place in found])}"
            )
        return _of_known_type(model, [replace(p, why=why) for p in found if model.values[p.name] is chosen])
    roles = follow(model.graph)
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise InputError("layers: an empty list; name at least one layer, or None for the default")
    places = [_named(model, name, roles, score) for name in names]
    if len({place.name for place in places}) < len(places):
        raise InputError(f"layers: {', '.join(map(shown, names))} name one value twice")
    return _of_known_type(model, places)


def _of_known_type(model: Model, places: list[Place]) -> list[Place]:
    for place in places:
        if model.values[place.name].dtype is None:
            raise LayerNotFound(
                f"{model.name}: the element type of layer {shown(place.name)!r} is not known: an operator before it is "
                "not of the standard; export the model with the types of its inner values (value_info)"
            )
    return places


def _named(model: Model, name: str, roles: dict[ir.Value, Roles], score: Score) -> Place:
    value = model.values.get(name)
    nodes = {node.name: node for node in model.graph if node.name}
    if value is None and name in nodes:
        value = nodes[name].outputs[0]
    if value is None and (where := inside(model.proto, name)):
        raise LayerNotFound(
            f"{model.name}: {shown(name)!r} lies inside {where}, where it cannot be an output; candidates: "
            f"{_listed([p.name for p in candidates(model, score)])}"
        )
    if value is None or not value.name:
        known = [n for n in (*model.values, *nodes) if n]
        near = did_you_mean(name, known)
        extra = "" if near else f"; candidates: {_listed([p.name for p in candidates(model, score)])}"
        raise LayerNotFound(f"{model.name} has no value or node {shown(name)!r}{near}{extra}")
    axes = axes_of(roles.get(value, ()))
    if axes is None or not has_extent(value, axes):
        why = "has no spatial extent that a map could show"
        if axes is None and value.shape is not None and len(value.shape) > 2:
            why = "is not known to have spatial axes: nothing before it says which axis is what"
        raise LayerNotFound(
            f"{model.name}: layer {shown(name)!r} {_typed(value)} {why}; candidates: "
            f"{_listed([p.name for p in candidates(model, score)])}"
        )
    return Place(value.name, axes)


def _listed(names: Sequence[str]) -> str:
    """Return the last few names, the best candidates first."""
    last = [shown(n) for n in names[::-1][:8]]
    return (", ".join(last) or "none") + (", ..." if len(names) > 8 else "")
