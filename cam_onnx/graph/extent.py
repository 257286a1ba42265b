"""Where positions end: which values on the way to the score still hold positions that it reads, and where that stops.

A list of tokens may hold positions that nobody reads any more: behind a last attention only the class token counts. So
it is followed backwards, list by list, whether the score reads the grid's entries of it. What is not known to leave
them alone is taken to read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from cam_onnx.autodiff.path import Path
from cam_onnx.autodiff.subgraphs import reads
from cam_onnx.graph.alike import Node, alike
from cam_onnx.graph.cells import WINDOWS, Windows
from cam_onnx.graph.positions import LIST, Positions, constants, dims
from cam_onnx.graph.roles import Roles

__all__ = ["ALIGNED", "Extent"]

# every entry of the output is made of the entries at its place; broadcasting lines the last axes up
ALIGNED = {
    "Abs", "Add", "BatchNormalization", "Cast", "Celu", "Clip", "DequantizeLinear", "Div", "Dropout", "Elu", "Erf",
    "Exp", "FastGelu", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Max", "Min", "Mish",
    "Mul", "Neg", "PRelu", "Pow", "QuantizeLinear", "QuickGelu", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sin",
    "Cos", "Softplus", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu", "Where",
}  # fmt: skip
_ALONG = {"LayerNormalization", "LogSoftmax", "RMSNormalization", "SimplifiedLayerNormalization", "Softmax"}
_ROWS = ALIGNED | _ALONG | {"Concat", "Gemm", "MatMul", "Reshape", "Slice", "Split", "Transpose"}


class Extent:
    """Positions on the way from the picture to a score.

    Attributes
    ----------
    graph : onnx_ir.Graph
    nodes : list of onnx_ir.Node
        Of the graph, on the way, in its order.
    """

    def __init__(
        self, graph: ir.Graph, path: Path, scores: Sequence[ir.Value], roles: Mapping[ir.Value, Roles]
    ) -> None:
        self.graph, self._roles = graph, roles
        self._on = path.values | set(path.stands.values())
        self.nodes = [node for node in graph if any(y in self._on for y in node.outputs)]
        self._producers = {y: node for node in self.nodes for y in node.outputs}
        self._order = {node: i for i, node in enumerate(self.nodes)}
        self._users: dict[ir.Value, list[ir.Node]] = {}
        for node in self.nodes:
            for x in self._given(node):
                self._users.setdefault(x, []).append(node)
        self._read: dict[ir.Value, set[int]] = {score: self._lists(score) for score in scores}
        for node in reversed(self.nodes):
            for x in self._given(node):
                axes = {a for a in self._lists(x) for i, each in enumerate(node.inputs) if each is x
                        and self._reads(node, i, a)}  # fmt: skip
                self._read.setdefault(x, set()).update(axes)
        open_ = set()
        for node in reversed(self.nodes):
            if any(self.holds(y) or y in open_ for y in node.outputs if y in self._on):
                open_.update(self._given(node))
        self._open = open_

    def is_on(self, value: ir.Value) -> bool:
        """Whether a value lies on the way."""
        return value in self._on

    def _given(self, node: ir.Node) -> list[ir.Value]:
        return list(dict.fromkeys(x for x in reads(node) if x in self._on))

    def _lists(self, value: ir.Value) -> set[int]:
        return {a for a, role in enumerate(self._roles.get(value, ())) if isinstance(role, Positions)}

    def holds(self, value: ir.Value) -> bool:
        """Whether the score reads positions of a value."""
        sizes, roles = dims(value), self._roles.get(value)
        if sizes is None:
            return True
        if roles is None:
            return sum(size != 1 for size in sizes[1:]) > 1  # one axis beside the batch are channels
        if self._folded(value):
            return any(self.carries(node, value) for node in self._users.get(value, ()))
        read = self._read.get(value, set())
        return any(size != 1 and self._place(role, len(sizes), a in read)
                   for a, (role, size) in enumerate(zip(roles, sizes, strict=True)))  # fmt: skip

    def _folded(self, value: ir.Value) -> bool:
        """Whether a list shares its axis with the samples, as before a Gemm: what is read of it, the next ones say."""
        return any(isinstance(role, Windows) and any(isinstance(part, Positions) for part, _ in role.parts)
                   for role in self._roles.get(value, ()))  # fmt: skip

    def _place(self, role: str, rank: int, read: bool) -> bool:
        if isinstance(role, Positions):
            return read
        if isinstance(role, Windows):
            return role.places
        return role[0] in f"sd{LIST}" or (role == "?" and rank > 2)

    def carries(self, node: ir.Node, x: ir.Value) -> bool:
        """Whether positions of a value are read by this node."""
        lists = self._lists(x)
        if self._folded(x):
            return any(self.holds(y) for y in node.outputs if y in self._on)
        if not lists:
            return self.holds(x)
        return any(self._reads(node, i, a) for i, each in enumerate(node.inputs) if each is x for a in lists) or (
            x not in node.inputs  # inside a subgraph
        )

    def carried(self, node: ir.Node) -> list[ir.Value]:
        """Return what a node reads positions of."""
        return [x for x in self._given(node) if self.carries(node, x)]

    def ends(self) -> list[ir.Node]:
        """Return the nodes that read positions, and behind which there are none."""
        return [node for node in self.nodes
                if not any(self.holds(y) or y in self._open for y in node.outputs if y in self._on)
                and self.carried(node)]  # fmt: skip

    def spread(self, node: ir.Node) -> list[ir.Value]:
        """Return what a node reads that has positions, also where they share an axis with channels (anchors of a head).

        Of a score that has positions itself it does not matter which of them are read, and what is not known may have
        some: queries of a decoder, which may share an axis with the samples.
        """
        return [x for x in self._given(node) if self.holds(x) or self.mixes(x) or self._may_hold(x)]

    def _may_hold(self, value: ir.Value) -> bool:
        unknown = set(self._roles.get(value, "?")) <= {"?", WINDOWS}
        return unknown and (value.shape is None or len(value.shape) > 1)

    def mixes(self, value: ir.Value, axes: slice = slice(None)) -> bool:
        """Whether positions share one of the axes with something else."""
        return any(isinstance(role, Windows) and any(part[0][0] in f"sd{LIST}" for part in role.parts)
                   for role in self._roles.get(value, ())[axes])  # fmt: skip

    def producer(self, value: ir.Value) -> ir.Node | None:
        """Return the node on the way that gives a value."""
        return self._producers.get(value)

    def common(self, nodes: list[ir.Node]) -> ir.Value | None:
        """Return the nearest value through which all positions go that the nodes read."""
        return self.joint({x for node in nodes for x in self.carried(node)})

    def joint(self, values: Iterable[ir.Value]) -> ir.Value | None:
        """Return the nearest value through which all positions go of some values; of one it is that one."""
        open_ = set(values)
        while len(open_) > 1:
            # the one that is made last is not before any other
            latest = max(open_, key=lambda v: self._order[self._producers[v]] if v in self._producers else -1)
            if latest not in self._producers:
                return None
            open_.remove(latest)
            open_.update(self.carried(self._producers[latest]))
        return next(iter(open_), None)

    def above_others(self, value: ir.Value) -> ir.Value:
        """Return where a list came from whose other tokens have read the same positions before: there it was alone.

        A second class-attention reads the positions that the first one has read, beside what that made of them.
        """
        at, beside = value, False
        while (node := self._producers.get(at)) is not None and alike(node).op_type in _ROWS:
            beside = beside or any(isinstance(role, Positions) and role.first for role in self._roles.get(at, ()))
            given = self.carried(node)
            if len(given) != 1:
                break
            [at] = given
            if beside and sum(at in each.inputs and self.carries(each, at) for each in self.nodes) > 1:
                return at
        return value

    def _reads(self, node: ir.Node, i: int, axis: int) -> bool:
        """Whether a node reads the grid's entries of its input i, a list along `axis`, for what is read of its own."""
        x, seen = node.inputs[i], alike(node)
        assert x is not None
        places = [k for k, each in enumerate(seen.inputs) if each is x]
        given = [y for y in node.outputs if y in self._on]
        return not places or any(self._reads_for(seen, k, axis, y) for k in places for y in given)

    def _reads_for(self, node: Node, i: int, axis: int, y: ir.Value) -> bool:
        x = node.inputs[i]
        assert x is not None
        sizes, made = dims(x), dims(y)
        if sizes is None or made is None:
            return True
        rank, shift = len(sizes), len(made) - len(sizes)
        kind = node.op_type
        if kind == "MatMul" and axis >= rank - 2 and _turned(node, i):
            axis = 2 * rank - 3 - axis
        if kind == "MatMul" and i == 0:
            return axis == rank - 1 or self._wanted(y, axis + shift)
        if kind == "MatMul":
            if axis == rank - 2:
                return self._weighed(node, x, axis)
            return self._wanted(y, axis + shift)
        if kind == "Transpose":
            perm = list(node.attributes["perm"].as_ints()) if "perm" in node.attributes else list(range(rank))[::-1]
            return self._wanted(y, perm.index(axis))
        if kind in ("Gather", "Slice", "Split") and i == 0:
            taken = _taken(node, y, axis)
            if taken is None:
                return self._wanted(y, axis - (kind == "Gather" and _axis(node, rank, 0) < axis and shift < 0))
            if shift == 0 and isinstance(self._role(y, axis), Positions):
                return self._wanted(y, axis)
            return taken == () or self._several(x, axis, *taken)
        if kind == "Concat" or kind in ALIGNED or (kind in _ALONG and not _along(node, rank, axis)):
            return self._wanted(y, axis + shift)
        if kind in ("Flatten", "Reshape", "Squeeze", "Unsqueeze"):
            if self._folded(y):
                return self.holds(y)
            mine, its = sorted(self._lists(x)), sorted(self._lists(y))
            return len(mine) != len(its) or self._wanted(y, its[mine.index(axis)])
        return True

    def _role(self, value: ir.Value, axis: int) -> str:
        roles = self._roles.get(value, ())
        return roles[axis] if 0 <= axis < len(roles) else "?"

    def _wanted(self, y: ir.Value, axis: int) -> bool:
        return not isinstance(self._role(y, axis), Positions) or axis in self._read.get(y, ())

    def _several(self, x: ir.Value, axis: int, start: int, stop: int | None) -> bool:
        """Whether entries from `start` to `stop` hold more than one of the grid's."""
        role = self._role(x, axis)
        assert isinstance(role, Positions)
        last = None if role.total is None else role.first + role.total
        end = min((e for e in (stop, last) if e is not None), default=None)
        return end is None or end - max(start, role.first) > 1

    def _weighed(self, node: Node, x: ir.Value, axis: int) -> bool:
        """Whether a product sums over the grid's entries: constant weights may leave them out."""
        weights = None if node.inputs[0] is None else node.inputs[0].const_value
        role = self._role(x, axis)
        assert isinstance(role, Positions)
        if weights is None or role.total is None:
            return True
        grid = weights.numpy()[..., role.first : role.first + role.total]
        return bool((grid != 0).reshape(-1, grid.shape[-1]).any(0).sum() > 1)


def _turned(node: Node, i: int) -> bool:
    name = ("transA", "transB")[i]
    return name in node.attributes and bool(node.attributes[name].as_int())


def _axis(node: Node, rank: int, default: int) -> int:
    return (node.attributes["axis"].as_int() if "axis" in node.attributes else default) % rank


def _along(node: Node, rank: int, axis: int) -> bool:
    """Whether a normalisation mixes the entries of an axis."""
    first = _axis(node, rank, -1)
    return axis == first if "oftmax" in node.op_type else axis >= first


def _taken(node: Node, y: ir.Value, axis: int) -> tuple[int, int | None] | tuple[()] | None:
    """Return which entries of an axis an output holds, from and to; None: the axis is left alone; (): not known."""
    x = node.inputs[0]
    sizes, made = dims(x) if x is not None else None, dims(y)
    assert sizes is not None
    assert made is not None
    rank = len(sizes)
    if node.op_type == "Gather":
        if _axis(node, rank, 0) != axis:
            return None
        index = None if node.inputs[1] is None else node.inputs[1].const_value
        if index is None or index.size != 1:
            return ()
        at, length = int(index.numpy().reshape(-1)[0]), sizes[axis]
        if at < 0:
            return (at + length, at + length + 1) if isinstance(length, int) else ()
        return at, at + 1
    if node.op_type == "Split":
        if _axis(node, rank, 0) != axis:
            return None
        lengths = [(dims(each) or [None] * rank)[axis] for each in node.outputs]
        at = list(node.outputs).index(y)
        if not all(isinstance(length, int) for length in lengths[: at + 1]):
            return ()
        start = sum(length for length in lengths[:at] if isinstance(length, int))
        return start, start + int(lengths[at] or 0)
    starts, ends, axes, steps = (constants(node, n, i) for i, n in enumerate(("starts", "ends", "axes", "steps"), 1))
    if starts is None or ends is None or (axes is None and len(node.inputs) > 3 and node.inputs[3] is not None):
        return ()
    along = list(range(len(starts))) if axes is None else [a % rank for a in axes]
    if axis not in along:
        return None
    k = along.index(axis)
    start, stop, length = starts[k], ends[k], sizes[axis]
    if steps is not None and steps[k] != 1:
        return ()
    if (start < 0 or stop < 0) and not isinstance(length, int):
        return ()
    size = length if isinstance(length, int) else 0
    return (start + size if start < 0 else start), (stop + size if stop < 0 else None if stop >= 2**31 - 1 else stop)
