"""Boxes that a file sorts and chooses itself, traced back to the head in front of the choice (torchvision's detectors).

The outputs are (K, 4) beside (K,): each box has one score. The scores lead back, over whatever picks and joins entries,
to the activations that gave them; all candidates are there. Their boxes are computed again as the file does it, with
every pick left out that hangs on the scores: so each has one, also where a file decodes only what it has chosen.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.subgraphs import graphs, reads
from cam_onnx.autodiff.val import Val, cotangent_of
from cam_onnx.graph.heads import VIEWS, Head, Unchosen
from cam_onnx.graph.positions import constants, dims

__all__ = ["before_choice", "chosen_outputs", "computed_again"]

_PICKS = {"Compress", "Gather", "GatherElements", "GatherND"}
_CUTS = VIEWS | _PICKS | {"Slice", "Split"}
_ORDERS = {"If", "Loop", "NonMaxSuppression", "NonZero", "Scan", "TopK"}  # what a decoding has none of


def chosen_outputs(model: Model) -> tuple[ir.Value, ir.Value] | None:
    """Return (K, 4) and (K,), or (N, K, 4) and (N, K): boxes that were chosen, with one score each."""
    outputs = [o for o in model.graph.outputs if cotangent_of(o) is not None]
    for box in outputs:
        wide = dims(box) or []
        if len(wide) not in (2, 3) or wide[-1] != 4:
            continue
        for score in outputs:
            sizes = dims(score) or []
            fits = all(a == b or not isinstance(a, int) or not isinstance(b, int)
                       for a, b in zip(sizes, wide, strict=False))  # fmt: skip
            if len(sizes) == len(wide) - 1 and fits and (len(sizes) > 1 or not isinstance(sizes[0], int)):
                return box, score
    return None


def before_choice(model: Model) -> Head | None:
    """Return the head in front of the choice; None: nothing was chosen, or it is not certain how."""
    ends = chosen_outputs(model)
    if ends is None or len(dims(ends[1]) or ()) != 1:
        return None
    box, score = ends
    way = _back(score)
    given = [_activated(source) for source in way.sources]
    kinds = {kind for _, _, kind in filter(None, given)}
    if None in given or len(kinds) != 1:
        return None
    [kind] = kinds
    parts = [part for part, _, _ in filter(None, given)]
    whole = _joint([logits for _, logits, _ in filter(None, given)])
    classes = _one([(dims(part) or [None])[-1] for part in parts])
    ranks = {len(dims(part) or ()) for part in parts}
    if whole is None or not isinstance(classes, int) or not (ranks == {2} or (ranks == {3} and len(parts) == 1)):
        return None
    nothing = way.nothing(classes) if kind == "softmax" else ""
    if nothing is None or (kind != "softmax" and way.nothing(classes) is not None):
        return None
    hanging = _hanging(model, way.sources)
    boxes = Unchosen(box, hanging, each=way.flattened and not _divided(box, hanging))
    stages = "" if ranks == {3} or whole is not parts[0] else ", of the regions of a first stage"
    return Head(
        whole, boxes if _decodes(boxes) else None,
        f"{score.name} has one score for each box of {box.name}, which were chosen inside the file: in front of that "
        f"{whole.name}, {classes} numbers for each candidate{stages}",
        classes=classes, activation=nothing or ("sigmoid" if kind == "sigmoid" else ""), form="corners",
        parts=tuple(parts),
    )  # fmt: skip


# -- scores ----------------------------------------------------------------------------------------------------------


@dataclass
class _Way:
    """The way from chosen scores back to what gave them, in the order in which they were joined."""

    sources: list[ir.Value] = field(default_factory=list)
    flattened: bool = False  # classes and candidates were put in one row before the choice
    columns: set[int] = field(default_factory=set)  # of single classes
    windows: set[tuple[int, int | None]] = field(default_factory=set)  # of several

    def nothing(self, classes: int) -> str | None:
        """Return which class is never read, "first" or "last"; None: neither, or others too."""
        for word, kept in (("first", range(1, classes)), ("last", range(classes - 1))):
            if self.columns == set(kept) and self.columns and not self.windows:
                return word
        if self.columns or len(self.windows) != 1:
            return None
        [(start, stop)] = self.windows
        if start == 1 and (stop is None or stop >= classes):
            return "first"
        return "last" if start == 0 and stop in (-1, classes - 1) else None


def _back(score: ir.Value) -> _Way:
    way, stack, seen = _Way(), [score], {score}
    while stack:
        value = stack.pop()
        node = value.producer()
        if node is None or node.op_type not in _CUTS | {"Concat", "TopK"} or not node.inputs:
            way.sources.append(value)
            continue
        if node.op_type == "TopK" and value is not node.outputs[0]:
            way.sources.append(value)
            continue
        _note(way, node, value)
        given = node.inputs if node.op_type == "Concat" else node.inputs[:1]
        new = [x for x in dict.fromkeys(given) if x is not None and x not in seen]
        seen.update(new)
        stack += new[::-1]
    return way


def _note(way: _Way, node: ir.Node, value: ir.Value) -> None:
    x = node.inputs[0]
    given, taken = (None if x is None else dims(x)), dims(value)
    if given is None or taken is None or len(given) < 2:
        return
    if node.op_type in ("Reshape", "Flatten") and len(taken) == 1:
        way.flattened = True
    last = len(given) - 1
    axis = node.attributes["axis"].as_int() % len(given) if "axis" in node.attributes else 0
    index = None if len(node.inputs) < 2 or node.inputs[1] is None else node.inputs[1].const_value
    if node.op_type == "Gather" and axis == last and index is not None and isinstance(given[-1], int):
        way.columns.update(int(i) % given[-1] for i in index.numpy().reshape(-1))
    if node.op_type == "Slice":
        starts, ends, axes = (constants(node, name, i) for i, name in enumerate(("starts", "ends", "axes"), 1))
        for start, stop, at in zip(starts or (), ends or (), axes or (), strict=False):
            if at % len(given) == last and (start != 0 or stop < 2**31 - 1):
                way.windows.add((start, None if stop >= 2**31 - 1 else stop))


def _activated(source: ir.Value) -> tuple[ir.Value, ir.Value, str] | None:
    """Return the scores of candidates as they are explained, the logits that they are made of, and by what."""
    node = source.producer()
    x = None if node is None or not node.inputs else node.inputs[0]
    if node is None or x is None:
        return None
    if node.op_type == "Sigmoid":
        return x, x, "sigmoid"
    if node.op_type == "Softmax":
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else -1
        return (x, x, "softmax") if axis in (-1, len(dims(x) or ()) - 1) else None
    product = x.producer() if node.op_type == "Sqrt" else node
    if product is None or product.op_type != "Mul":
        return None
    factors = [f.producer() for f in product.inputs if f is not None]  # a class's, and how well a box is centred
    if not all(f is not None and f.op_type == "Sigmoid" for f in factors):
        return None
    wide = [f.inputs[0] for f in factors if f is not None and (dims(f.outputs[0]) or [1])[-1] != 1]
    return (source, wide[0], "product") if len(wide) == 1 and wide[0] is not None else None


def _joint(values: list[ir.Value]) -> ir.Value | None:
    """Return the nearest value of which all are parts."""
    ways = []
    for value in values:
        way = [value]
        while (node := way[-1].producer()) is not None and node.op_type in _CUTS and node.inputs[0] is not None:
            way.append(node.inputs[0])
        ways.append(way)
    return next((value for value in ways[0] if all(value in way for way in ways)), None) if ways else None


def _one(found: list[int | str | None]) -> int | str | None:
    return found[0] if found and all(each == found[0] for each in found) else None


# -- boxes -----------------------------------------------------------------------------------------------------------


def _hanging(model: Model, sources: list[ir.Value]) -> frozenset[ir.Value]:
    """Return all that is computed of some values, themselves included."""
    found = set(sources)
    for node in model.graph:
        if any(x in found for x in reads(node)):
            found.update(node.outputs)
    return frozenset(found)


def _picked(node: ir.Node, hanging: frozenset[ir.Value]) -> bool:
    """Whether a node picks rows that the scores have chosen."""
    return node.op_type in _PICKS and len(node.inputs) > 1 and node.inputs[1] in hanging


def _kept(node: ir.Node, hanging: frozenset[ir.Value]) -> list[ir.Value]:
    given = node.inputs[:1] if _picked(node, hanging) else node.inputs
    return [x for x in given if x is not None]


def _needed(boxes: Unchosen) -> set[ir.Node]:
    """Return the nodes to be computed again."""
    found: set[ir.Node] = set()
    stack = [boxes.value]
    while stack:
        node = stack.pop().producer()
        if node is not None and node not in found:
            found.add(node)
            stack += [x for x in _kept(node, boxes.hanging) if x in boxes.hanging]
    return found


def _decodes(boxes: Unchosen) -> bool:
    """Whether nothing is left, without the picks, that depends on how many candidates there are."""
    nodes = _needed(boxes)
    cut = any(n.op_type == "Slice" and n.inputs[0] in boxes.hanging and 0 in (constants(n, "axes", 3) or (0,))
              and len(dims(n.outputs[0]) or (0, 0)) > 1 for n in nodes)  # fmt: skip
    return boxes.value in boxes.hanging and not cut and not any(n.op_type in _ORDERS or graphs(n) for n in nodes)


def _divided(box: ir.Value, hanging: frozenset[ir.Value]) -> bool:
    """Whether the index of a row is computed from that of an entry: several entries share a box."""
    picks = [n for n in _needed(Unchosen(box, hanging)) if _picked(n, hanging)]
    stack = [n.inputs[1] for n in picks if n.inputs[0] not in hanging]
    seen = set(stack)
    while stack:
        value = stack.pop()
        node = None if value is None else value.producer()
        if node is None or value not in hanging:
            continue
        if node.op_type == "Div":
            return True
        new = [x for x in node.inputs if x not in seen]
        seen.update(new)
        stack += new
    return False


def computed_again(op: Emitter, model: Model, boxes: Unchosen) -> Val:
    """Return the boxes of all candidates, (A, 4), as nodes."""
    nodes, new = _needed(boxes), dict[ir.Value, ir.Value]()

    def own(value: ir.Value | None) -> ir.Value | None:
        return None if value is None else new.get(value) or op.resolve(value)

    for node in model.graph:
        if node not in nodes:
            continue
        given = [own(x) for x in node.inputs]
        joined = node.op_type == "Concat" and len(set(given)) == 1  # class by class, of the same candidates
        if _picked(node, boxes.hanging) or (joined and given[0] in new.values()):
            assert given[0] is not None
            new[node.outputs[0]] = given[0]
            continue
        copy = ir.node(
            node.op_type, given, attributes=dict(node.attributes), domain=node.domain,
            num_outputs=len(node.outputs), name=op.fresh(f"boxes/{node.name or node.op_type}"),
        )  # fmt: skip
        for y, made in zip(node.outputs, copy.outputs, strict=True):
            made.name, made.type = op.fresh(f"boxes/{y.name}"), y.type
            new[y] = made
        op.nodes.append(copy)
    found = new[boxes.value]
    found.shape = ir.Shape([None, 4])
    return Val(op, found)
