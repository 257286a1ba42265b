"""Where to look for the score: it is found on the graph, before its softmax.

A score is the first output that has one number per class.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.val import cotangent_of
from cam_onnx.errors import ScoreNotFound, did_you_mean, shown
from cam_onnx.graph.embeddings import are_places, is_embedding
from cam_onnx.graph.states import is_state
from cam_onnx.graph.unbatched import unbatched
from cam_onnx.graph.upstream import upstream

__all__ = ["Score", "fed", "find_dense", "find_score", "picture_input", "typed"]

_FINAL = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid", "ArgMax": ""}
_FINAL |= {"QLinearSoftmax": "softmax", "QLinearSigmoid": "sigmoid"}
_MADE = "_v_"  # how the version converter names what it adds
_COUNTS = {"Compress", "NonMaxSuppression", "NonZero", "Unique"}
_TRANSPARENT = {"Identity", "Cast", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_TRANSPARENT |= {"QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True)
class Score:
    """The explained value.

    `single`: it has no batch axis, (C,). `classes`: C', or None where it is symbolic. `activation`: what the model
    does to it at its end: "softmax", "sigmoid" or "". `beside`: what it is made of with it, where the model has no
    value that joins them: the other levels of a detector.
    """

    name: str
    single: bool
    classes: int | None
    activation: str = ""
    beside: tuple[str, ...] = ()

    def values(self, model: Model) -> list[ir.Value]:
        """Return all that it is made of."""
        return [model.values[name] for name in (self.name, *self.beside)]


def fed(model: Model) -> list[ir.Value]:
    """Return the inputs that a caller feeds."""
    return list(model.graph.inputs)


def picture_input(model: Model) -> ir.Value | None:
    """Return the input that a picture goes to: one of rank 4, else of rank 3 or more, else the only one.

    Of several one that is denoted as an image, one of three channels, one of 1 or 4, the first. The states of a
    recurrent network are none, nor are numbers beside these.
    """
    found = fed(model)
    if states := [value for value in found if is_state(model.graph, value)]:
        rest = [value for value in found if value not in states and (value.shape is None or len(value.shape) > 0)]
        found = rest or found
    for rank in (4, 5, 3):
        if ranked := [value for value in found if value.shape is not None and len(value.shape) == rank]:
            return max(ranked, key=_likeness)
    return found[0] if len(found) == 1 else None


def _likeness(value: ir.Value) -> int:
    assert value.shape is not None
    denoted = getattr(value.type, "denotation", None) == "IMAGE"
    channels = (value.shape[1], value.shape[-1])
    return 3 * denoted + (2 if 3 in channels else 1 if 1 in channels or 4 in channels else 0)


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
    outputs = sorted(model.graph.outputs, key=lambda output: is_embedding(output) or are_places(output))
    for output in map(_numbers, outputs):
        value, activation = _before_activation(output)
        scores = _is_class_scores(value) and _is_class_scores(output)
        scores = scores and not (_is_counted(output) or _is_ranked(output) or _is_of_others(model, output))
        if scores and cotangent_of(value) is not None:
            return replace(_score(model, value), activation=activation)
    listed = ", ".join(f"{shown(o.name or '')} {typed(o)}" for o in model.graph.outputs) or "none"
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
    listed = ", ".join(f"{shown(o.name or '')} {typed(o)}" for o in model.graph.outputs) or "none"
    raise ScoreNotFound(
        f"{model.name}: no output has a place for every value (a floating-point one of rank 3 or more); its outputs: "
        f"{listed}. Name the value (score=, --score)"
    )


def typed(value: ir.Value) -> str:
    """Return a value's type and shape as messages show it."""
    dims = [] if value.shape is None else [str(d) if isinstance(d, int) else d.value or "?" for d in value.shape]
    shape = "of unknown rank" if value.shape is None else "x".join(dims) or "scalar"
    return f"{value.dtype.name.lower() if value.dtype else '?'} {shape}"


def _numbers(output: ir.Value) -> ir.Value:
    """Return the output, or of a map from labels to scores these scores."""
    node = output.producer()
    scores = node.inputs[0] if node is not None and node.op_type == "ZipMap" else None
    return output if scores is None else scores


def _before_activation(output: ir.Value) -> tuple[ir.Value, str]:
    """Return the input of a final Softmax, Sigmoid, LogSoftmax or ArgMax, and what it is ("": an ArgMax).

    Also behind casts and reshapes, and both of ArgMax(Softmax(x)).
    """
    value, found, activation = output, output, ""
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        written_out = _of_softmax(node)
        final = "softmax" if written_out is not None else _FINAL.get(node.op_type)
        if final is None and node.op_type not in _TRANSPARENT:
            break
        if activation and final is not None:
            break  # one is enough
        value = node.inputs[0] if written_out is None else written_out
        if final is not None:
            found, activation = value, final
    # the version converter puts a Flatten of what is flat before an old Softmax: the user's own value is meant
    while (node := found.producer()) is not None and node.op_type in ("Flatten", "Identity"):
        x = node.inputs[0]
        if x is None or found is output or x.shape is None or found.shape is None:
            break
        of_one = (found.name or "").startswith(_MADE) and _is_class_scores(x)  # (N, C, 1, 1) is flat too
        if x.shape != found.shape and not (of_one and list(x.shape)[:2] == list(found.shape)):
            break
        found = x
    return found, activation


def _of_softmax(node: ir.Node) -> ir.Value | None:
    """Return what a softmax reads that is written out, as runtimes without a kernel of its type save it."""
    if node.op_type != "Div" or len(node.inputs) != 2:
        return None
    shares, total = (None if x is None else _spread(x).producer() for x in node.inputs)
    if shares is None or total is None or shares.op_type != "Exp" or total.op_type != "ReduceSum":
        return None
    x = shares.inputs[0]
    if total.inputs[0] is not node.inputs[0] or x is None:
        return None
    less = x.producer()
    if less is None or less.op_type != "Sub" or less.inputs[1] is None:
        return None
    largest = _spread(less.inputs[1]).producer()
    found = less.inputs[0]
    return found if largest is not None and largest.op_type == "ReduceMax" and largest.inputs[0] is found else None


def _spread(value: ir.Value) -> ir.Value:
    """Return what is laid over a row's classes again; JAX makes sure that it is not below minus infinity."""
    while (node := value.producer()) is not None and node.op_type in (
        "Expand",
        "Identity",
        "Max",
        "Reshape",
        "Unsqueeze",
    ):
        rest = [x for x in node.inputs if x is not None and not (node.op_type == "Max" and x.const_value is not None)]
        if not rest or (node.op_type == "Max" and len(rest) > 1):
            break
        value = rest[0]
    return value


def _is_counted(output: ir.Value) -> bool:
    """Whether the picture decides how many numbers there are: candidates, as keypoints are, and no classes."""
    if output.shape is None or len(output.shape) != 2 or isinstance(output.shape[1], int):
        return False
    return any(node.op_type in _COUNTS for node in upstream(output))


def _is_ranked(output: ir.Value) -> bool:
    """Whether numbers stand in the order of their size, as the best candidates do: which is whose is not known."""
    value = output
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type == "TopK":
            return True
        if node.op_type not in _TRANSPARENT | _FINAL.keys() | {"Slice", "Mul"}:
            return False
        value = node.inputs[0]
    return False


def _is_of_others(model: Model, output: ir.Value) -> bool:
    """Whether there are rows of one picture: of another number than pictures are given."""
    picture = picture_input(model)
    if picture is None or not picture.shape or not output.shape or len(output.shape) != 2 or unbatched(picture):
        return False
    given, rows = picture.shape[0], output.shape[0]
    return isinstance(given, int) and isinstance(rows, int) and rows != given


def _is_class_scores(value: ir.Value) -> bool:
    if value.dtype is None or value.shape is None or len(value.shape) == 0:
        return False
    if len(value.shape) <= 2:
        return True
    return isinstance(value.shape[1], int) and all(
        d == 1 for d in list(value.shape)[2:]
    )  # not candidates of any number


def _score(model: Model, value: ir.Value) -> Score:
    assert value.shape is not None
    assert value.name
    dims = [d if isinstance(d, int) else d.value for d in value.shape]
    if len(dims) == 1:
        picture = picture_input(model)
        batch = None if picture is None or picture.shape is None or not len(picture.shape) else picture.shape[0]
        batch = None if picture is not None and unbatched(picture) else batch
        if batch is not None and dims[0] == (batch if isinstance(batch, int) else batch.value):
            return Score(value.name, single=False, classes=1)
        return Score(value.name, single=True, classes=dims[0] if isinstance(dims[0], int) else None)
    classes: int | None = 1
    for d in dims[1:]:
        classes = classes * d if classes is not None and isinstance(d, int) else None
    return Score(value.name, single=False, classes=classes)
