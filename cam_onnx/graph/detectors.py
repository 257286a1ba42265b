"""Detection heads: which numbers of a model are boxes, and which are scores of classes.

One value with both (`heads`), two values, or what a suppression or a sorting (`sorted_heads`) inside the file is fed.
Where the scores are certain and the form of the boxes is not, the boxes are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import onnx_ir as ir

from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.subgraphs import graphs
from cam_onnx.autodiff.val import cotangent_of
from cam_onnx.graph.chosen import before_choice, chosen_outputs
from cam_onnx.graph.focal import focal
from cam_onnx.graph.heads import VIEWS, Head, gives, rows
from cam_onnx.graph.levels import levels
from cam_onnx.graph.positions import dims
from cam_onnx.graph.sorted_heads import before_sorting

__all__ = ["find"]


def find(model: Model) -> Head | str | None:
    """Return the detection head; a text: there is one, and why it is not understood; None: there is none."""
    suppressed = _before_suppression(model)
    if not isinstance(suppressed, Head) and (head := before_choice(model)) is not None:
        return head
    if suppressed is not None:
        return suppressed
    for recognise in (before_sorting, _chosen_already, levels, _apart, rows):
        if (found := recognise(model)) is not None:
            return found
    return None


# -- two values: SSD, RetinaNet, FCOS, DETR, RT-DETR -----------------------------------------------------------------


def _apart(model: Model) -> Head | str | None:
    """(N, A, 4) and (N, A, C) or (N, C, A)."""
    outputs = [_unstacked(o) for o in model.graph.outputs if len(_sizes(o)) == 3 and cotangent_of(o) is not None]
    boxes = [o for o in outputs if _sizes(o)[2] == 4]
    if len(boxes) > 1:  # as many classes as a box has numbers
        boxes = [o for o in boxes if gives(o) == "Sigmoid" and _before(o)[0] is not o]
    if len(boxes) != 1:
        return None
    [box] = boxes
    count = _sizes(box)[1]
    scores = [o for o in outputs if o is not box and count is not None and count in _sizes(o)[1:]]
    if not scores and len(outputs) == 2 and not isinstance(count, int):  # each has a symbol of its own
        scores = [o for o in outputs if o is not box and not isinstance(_sizes(o)[1], int)]
        count = _sizes(scores[0])[1] if scores else count
    wide = [o for o in scores if 1 not in _sizes(o)[1:]] or scores
    if len(wide) != 1:
        return None
    [score] = wide
    sizes = _sizes(score)
    turned = sizes[1] != count
    classes = sizes[1 if turned else 2]
    if not isinstance(classes, int):
        return None
    where = f"{box.name} has four numbers for each candidate, and {score.name} {classes}"
    logits, activation = _before(score)
    of_one = gives(box) == "Sigmoid"
    form = "centre of 1" if of_one else _corners(model) if _ends_as_corners(box) else ""
    nothing = {"sigmoid": "sigmoid", "softmax": "last" if of_one else "first", "": ""}[activation]
    if not activation and not of_one and not focal([score], classes):
        return f"{where}; whether one of them stands for nothing cannot be told: they are logits of unknown kind"
    if not activation:
        nothing = "last" if of_one and _plain(box) else "sigmoid"
    if nothing in ("first", "last") and (classes < 2 or turned):
        return None
    return Head(
        logits, box if form else None, where, turned=turned, classes=classes - (nothing in ("first", "last")),
        first=int(nothing == "first"), activation=nothing, form=form,
    )  # fmt: skip


def _unstacked(value: ir.Value) -> ir.Value:
    """Return what one entry of a stack was before it was stacked: a decoder's last layer, as transformers has it."""
    node = value.producer()
    stack = None if node is None or node.op_type != "Gather" or node.inputs[0] is None else node.inputs[0].producer()
    if node is None or stack is None or stack.op_type != "Concat" or node.inputs[1] is None:
        return value
    index, rank = node.inputs[1].const_value, len(dims(node.inputs[0]) or ())  # type: ignore[arg-type]
    along = [each.attributes["axis"].as_int() if "axis" in each.attributes else 0 for each in (node, stack)]
    if index is None or index.size != 1 or not rank or along[0] % rank != along[1] % rank:
        return value
    at = int(index.numpy().reshape(-1)[0])
    if not -len(stack.inputs) <= at < len(stack.inputs):
        return value
    layer = None if stack.inputs[at] is None else stack.inputs[at].producer()  # type: ignore[union-attr]
    single = all(x is not None and (dims(x) or [0] * rank)[along[0]] == 1 for x in stack.inputs)
    if not single or layer is None or layer.op_type != "Unsqueeze" or layer.inputs[0] is None:
        return value
    return layer.inputs[0] if len(dims(layer.inputs[0]) or ()) == rank - 1 else value


def _sizes(value: ir.Value) -> list[int | str | None]:
    return dims(value) or []


def _before(value: ir.Value) -> tuple[ir.Value, str]:
    """Return the input of a final Softmax or Sigmoid along the classes, of the same shape."""
    node = value.producer()
    while node is not None and node.op_type in ("Identity", "Cast") and node.inputs[0] is not None:
        value, node = node.inputs[0], node.inputs[0].producer()
    known = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
    if node is not None and node.op_type in known and node.inputs[0] is not None:
        return node.inputs[0], known[node.op_type]
    return value, ""


def _ends_as_corners(box: ir.Value) -> bool:
    """Whether the last step is a centre less half a size, and a centre and half a size (SSD that decodes its boxes)."""
    node = box.producer()
    if node is None or node.op_type != "Concat" or node.attributes["axis"].as_int() not in (-1, 2):
        return False
    makers = [None if x is None else x.producer() for x in node.inputs]
    kinds = [None if maker is None else maker.op_type for maker in makers]
    return kinds in (["Sub", "Add"], ["Sub", "Sub", "Add", "Add"])


def _plain(box: ir.Value) -> bool:
    """Whether a Sigmoid gives the boxes right behind a linear layer: no reference is added to (DETR)."""
    node = box.producer()
    while node is not None and node.op_type in VIEWS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    x = None if node is None else node.inputs[0]
    behind = None if x is None else x.producer()
    if behind is None or behind.op_type in ("Gemm", "MatMul"):
        return behind is not None
    return behind.op_type == "Add" and any(_constant(x) for x in behind.inputs)


def _constant(value: ir.Value | None) -> bool:
    node = None if value is None else value.producer()
    return value is not None and (value.is_initializer() or (node is not None and node.op_type == "Constant"))


# -- what stands before a NonMaxSuppression --------------------------------------------------------------------------


def _before_suppression(model: Model) -> Head | str | None:
    nodes = [n for n in model.graph if n.op_type in _SUPPRESSIONS]
    if not nodes:
        hidden = next((n.op_type for n in _inside(model) if n.op_type in _SUPPRESSIONS), None)
        return hidden and f"{hidden} lies in a subgraph or function, where what it is fed cannot be explained"
    heads = [_SUPPRESSIONS[node.op_type](model, node) for node in nodes]
    first = heads[0]
    for one, other in pairwise(heads):
        if isinstance(one, str) or isinstance(other, str) or (one.scores, one.boxes) != (other.scores, other.boxes):
            return f"{len(nodes)} nodes suppress boxes, of different scores"
    return first


def _suppressed(model: Model, node: ir.Node) -> Head | str:
    """Boxes (N, A, 4) and scores (N, C, A), as ONNX has it."""
    boxes, scores = node.inputs[:2]
    where = f"what {node.name or node.op_type} is fed"
    sizes = None if scores is None else dims(scores)
    if boxes is None or scores is None or sizes is None or len(sizes) != 3 or cotangent_of(scores) is None:
        return f"{where} is of unknown shape"
    if not isinstance(sizes[1], int):
        return f"{where} has an unknown number of classes"
    if _sparse(scores):
        return f"{where} is a choice of candidates: those before it have no place in the file's boxes"
    centre = "center_point_box" in node.attributes and node.attributes["center_point_box"].as_int()
    return Head(
        scores, boxes, f"{where}: {scores.name}, with the boxes {boxes.name}",
        turned=True, classes=sizes[1], form="centre" if centre else _corners(model),
    )  # fmt: skip


def _efficient(model: Model, node: ir.Node) -> Head | str:
    """Boxes (N, A, 4) or (N, A, C, 4) and scores (N, A, C), as TensorRT's plug-in has it."""
    boxes, scores = node.inputs[:2]
    where = f"what {node.name or node.op_type} is fed"
    sizes = None if scores is None else dims(scores)
    if boxes is None or scores is None or sizes is None or len(sizes) != 3 or not isinstance(sizes[2], int):
        return f"{where} is of unknown shape"
    centre = "box_coding" in node.attributes and node.attributes["box_coding"].as_int()
    sigmoid = "score_activation" in node.attributes and node.attributes["score_activation"].as_int()
    plain = len(dims(boxes) or ()) == 3
    return Head(
        scores, boxes if plain else None, f"{where}: {scores.name}, with the boxes {boxes.name}",
        classes=sizes[2], form=("centre" if centre else "corners") if plain else "",
        activation="sigmoid" if sigmoid else "",
    )  # fmt: skip


_SUPPRESSIONS: dict[str, Callable[[Model, ir.Node], Head | str]] = {
    "NonMaxSuppression": _suppressed,
    "EfficientNMS_TRT": _efficient,
}


def _inside(model: Model) -> Iterator[ir.Node]:
    """Yield the nodes of all subgraphs."""
    stack = [inner for node in model.graph for inner in graphs(node)]
    while stack:
        graph = stack.pop()
        for node in graph:
            yield node
            stack.extend(graphs(node))


def _chosen_already(model: Model) -> str | None:
    ends = chosen_outputs(model)
    return ends and f"{ends[1].name} has one score for each box of {ends[0].name}: they were chosen inside the file"


def _sparse(scores: ir.Value) -> bool:
    """Whether candidates were chosen before: by their number (TopK) or by a threshold (NonZero)."""
    value = scores
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type in ("Compress", "Gather", "GatherElements", "GatherND", "NonZero", "TopK"):
            given, taken = dims(node.inputs[0]), dims(value)
            whole = given is not None and taken is not None and all(isinstance(d, int) for d in taken[1:])
            return not whole or node.op_type in ("NonZero", "TopK")
        if node.op_type not in VIEWS | {"Slice", "Split", "Mul", "Sigmoid", "Softmax"}:
            return False
        value = node.inputs[0]
    return False


def _corners(model: Model) -> str:
    """Return which number comes first: NonMaxSuppression takes either order, exporters write their framework's."""
    producer = model.proto.producer_name.lower()
    if "tf2onnx" in producer or "tensorflow" in producer:
        return "rows"
    return "corners" if "torch" in producer or "paddle" in producer else ""
