"""The target layer where nobody names one: where spatial extent ends on the way to the score.

In a convolutional network that is the last value with spatial axes. A transformer that averages its tokens has it in
its last list of them. One that reads a class token has not: behind its last attention no other token has any influence
on the score, so that the layer is the value that this attention reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from cam_onnx.autodiff.backward import Path, label, mark
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.table import RULES
from cam_onnx.contract import Axes
from cam_onnx.errors import shown
from cam_onnx.graph.positions import constants, dims
from cam_onnx.graph.roles import follow

__all__ = ["choose"]

_VIEWS = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
_PRODUCTS = {"Attention", "Einsum", "MatMul"}


def choose(model: Model, score: ir.Value, found: Mapping[ir.Value, Axes]) -> tuple[ir.Value | None, str]:
    """Return the default among `found`, which stand in the order of the graph, and why; None, and why not."""
    values = list(found)
    spatial = [value for value in values if found[value].tokens is None]
    late = _goes_on(model, spatial[-1], score) if spatial else None
    if spatial and late is None:
        return spatial[-1], "the last value with spatial axes"
    path = mark(model.graph, [*model.graph.inputs, *values], [score], model.opset, RULES)
    asked = f"behind {shown((spatial or values)[-1].name)!r}, the last value with spatial axes, the network goes on"
    if late is not None:
        asked += f" with positions as a list of tokens (at {shown(late)!r}), so that it would be a poor default"
    if found[values[-1]].tokens is None:
        return None, asked
    ends = [_end(node, value, found[value]) for value, node in _users(path, values[-1])]
    if ends and all(end == "pooled" for end in ends):
        return values[-1], "the last tokens before the pooling"
    last = _last_attention(path)
    if last is not None and ("read" in ends or _leads(path, values[-1], last)):
        entering = _entering(path, last)
        if entering is not None and (chosen := _before_projection(path, entering, found)) is not None:
            return chosen, f"enters the last attention ({label(last)}), behind which one token is read"
    return None, f"{asked}, and how the score reads them is not known"


def _goes_on(model: Model, layer: ir.Value, score: ir.Value) -> str | None:
    """Return the first node behind the layer that still works on positions: on a list of them, or by attention."""
    roles = follow(model.graph)
    path = mark(model.graph, [layer], [score], model.opset, RULES)
    for node in path.nodes:
        lists = [v for v in (*node.inputs, *node.outputs) if v in path.values and "t" in roles.get(v, ())]
        on_lists = node.op_type not in _VIEWS and any(y in lists for y in node.outputs)
        if on_lists or _is_attention(path, node):
            return label(node)
    return None


def _is_attention(path: Path, node: ir.Node) -> bool:
    return node.op_type in _PRODUCTS and len({x for x in node.inputs if x in path.values}) > 1


def _users(path: Path, value: ir.Value) -> list[tuple[ir.Value, ir.Node]]:
    """Return the nodes on the path that read a value."""
    return [(value, node) for node in path.nodes if value in node.inputs]


def _end(node: ir.Node, x: ir.Value, axes: Axes) -> str:
    """Say how a node ends the list: "pooled" (all positions count), "read" (some that are not the grid's), or ""."""
    sizes = dims(x)
    [at], rank = axes.spatial, len(axes.order())
    if node.op_type.startswith("Reduce"):
        reduced = constants(node, "axes", 1)
        return "pooled" if reduced is not None and at in {a % rank for a in reduced} else ""
    if node.op_type.startswith("Global"):
        return "pooled" if at > 1 else ""
    if node.op_type in ("Flatten", "Reshape"):
        flat = dims(node.outputs[0])
        known = sizes is not None and all(isinstance(each, int) for each in sizes[1:])
        whole = known and flat is not None and len(flat) == 2 and flat[1] == _product(sizes[1:])  # type: ignore[index]
        return "pooled" if whole and axes.batch == 0 else ""
    if node.op_type == "Gather" and "axis" in node.attributes and node.attributes["axis"].as_int() % rank == at:
        given = node.inputs[1]
        index = None if given is None or given.const_value is None else given.const_value.numpy()
        return "read" if index is not None and index.size == 1 else ""
    if node.op_type in ("Slice", "Split"):
        left = dims(node.outputs[0])
        return "read" if left is not None and left[at] == 1 else ""
    return ""


def _product(sizes: Sequence[int | str | None]) -> int:
    total = 1
    for size in sizes:
        total *= size if isinstance(size, int) else 0
    return total


def _last_attention(path: Path) -> ir.Node | None:
    return next((node for node in reversed(path.nodes) if _is_attention(path, node)), None)


def _leads(path: Path, value: ir.Value, last: ir.Node) -> bool:
    """Whether the node depends on the value."""
    behind = {value}
    for node in path.nodes:
        if any(x in behind for x in node.inputs):
            if node is last:
                return True
            behind.update(node.outputs)
    return False


def _entering(path: Path, node: ir.Node) -> ir.Value | None:
    """Return the nearest value through which everything goes that the node reads of the picture."""
    producers = {y: n for n in path.nodes for y in n.outputs}
    order = {n: i for i, n in enumerate(path.nodes)}
    open_ = {x for x in node.inputs if x in path.values}
    while len(open_) > 1:
        # the one that is made last is not before any other
        latest = max(open_, key=lambda value: order[producers[value]] if value in producers else -1)
        if latest not in producers:
            return None
        open_.remove(latest)
        open_ |= {x for x in producers[latest].inputs if x in path.values}
    return next(iter(open_), None)


def _before_projection(path: Path, value: ir.Value, found: Mapping[ir.Value, Axes]) -> ir.Value | None:
    """Step back over one projection to queries, keys and values, and then to where axes are known."""
    producers = {y: n for n in path.nodes for y in n.outputs}

    def over(at: ir.Value, kinds: set[str]) -> ir.Value:
        while (node := producers.get(at)) is not None and node.op_type in kinds:
            given = [x for x in node.inputs if x in path.values]
            if len(given) != 1:
                break
            at = given[0]
        return at

    before = over(value, _VIEWS | {"Add", "Mul", "Gather", "Slice", "Split"})
    node = producers.get(before)
    if node is not None and node.op_type in ("Gemm", "MatMul") and not _is_attention(path, node):
        value = over(node.inputs[0], _VIEWS) if node.inputs[0] in path.values else value
    while value not in found:
        node = producers.get(value)
        if node is None or node.op_type not in _VIEWS:
            return None
        [value, *more] = [x for x in node.inputs if x in path.values]
        if more:
            return None
    return value
