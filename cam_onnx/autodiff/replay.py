"""A loop that goes through the iterations of another backwards.

What the rules read of an iteration is recorded by running the body once more, forwards, and only as far as it is
needed for that; what is the same in every iteration is computed once outside; what is linear records nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.nested import attach, closed, ordered, unsure, zeros_of
from cam_onnx.autodiff.path import Path
from cam_onnx.autodiff.subgraphs import reads
from cam_onnx.autodiff.table import Table
from cam_onnx.autodiff.val import Val, cotangent_type
from cam_onnx.autodiff.writing import Body

__all__ = ["Backwards", "Pairs", "Replay", "Walk"]

Walk = Callable[..., dict[ir.Value, Val]]
Pairs = list[tuple[ir.Value, Val]]
INT64, BOOL = ir.DataType.INT64, ir.DataType.BOOL


class Replay(Emitter):
    """Emits the body of the loop that runs backwards. What it reads of an iteration is looked up in a record."""

    def __init__(self, within: Emitter, body: Body, at: ir.Value) -> None:
        super().__init__(within.opset, within=within)
        self.body, self.at = body, at
        self.records: dict[ir.Value, ir.Value] = {}  # value of the body -> all of its iterations
        self.slices: dict[ir.Value, Callable[[], Val]] = {}  # inputs of the body that are slices of what is there
        self.inner: dict[ir.Node, None] = {}
        self._played: dict[ir.Value, ir.Value] = {}
        self._other: dict[ir.Value, ir.Value] = {}
        self._sizes: dict[ir.Value, ir.Value] = {}
        self._constant_in_time: dict[ir.Node, bool] = {}

    def adopt(self, nodes: Iterable[ir.Node], same: Mapping[ir.Value, ir.Value]) -> None:
        self.inner.update(dict.fromkeys(nodes))
        for written_out, value in same.items():  # record what was written out, not the call beside it
            if value.producer() in self.inner:
                self._other.setdefault(value, written_out)

    def has(self, value: ir.Value) -> bool:
        return value in self._input_set or value.producer() in self.inner

    @property
    def _input_set(self) -> set[ir.Value]:
        return set(self.body.inputs)

    def resolve(self, value: ir.Value, named: bool = False) -> ir.Value:
        if value in self._played:
            return self._played[value]
        if not self.has(value):
            return super().resolve(value, named)
        source = self._other.get(value, value)
        if source is not value:
            played = self._named(Val(self, self.resolve(source)), value) if named else self.resolve(source)
        elif self.fixed(value.producer()):
            assert self.within is not None
            self.within.adopt(self._makers(value), {})
            played = self.within.resolve(value, True)
        elif value in self.slices:
            played = self._named(self.slices[value](), value)
        else:
            record = ir.Value(name=self.fresh(f"{value.name}/all"), type=value.type)
            self.records[value] = record
            played = self._named(self.Gather(Val(self, record), Val(self, self.at), axis=0), value)
        if source is value or named:
            self._played[value] = played
        return played

    def _named(self, val: Val, value: ir.Value) -> ir.Value:
        """Give what was looked up the name of the value: copied nodes of the body read it by that."""
        node = ir.node("Identity", [val.value], name=self.fresh(f"{value.name}/Identity"))
        if val.value.producer() is not None and self.nodes and self.nodes[-1] is val.value.producer():
            val.value.name = value.name
            return val.value
        node.outputs[0].name, node.outputs[0].type = value.name, value.type
        self.nodes.append(node)
        return node.outputs[0]

    def _makers(self, value: ir.Value) -> list[ir.Node]:
        found: dict[ir.Node, None] = {}
        stack = [value.producer()]
        while stack:
            node = stack.pop()
            if node is not None and node in self.inner and node not in found:
                found[node] = None
                stack += [x.producer() for x in reads(node)]
        return list(found)

    def fixed(self, start: ir.Node | None) -> bool:
        """Whether what a node gives is the same in every iteration: it depends on nothing of the body's inputs."""
        if start is None:
            return False
        stack = [start]
        while stack:
            node = stack[-1]
            if node in self._constant_in_time:
                stack.pop()
                continue
            read = reads(node)
            makers = [p for x in read if (p := x.producer()) is not None and p in self.inner]
            waiting = [p for p in makers if p not in self._constant_in_time]
            if waiting:
                stack += waiting
                continue
            moving = any(x in self._input_set for x in read) or node.op_type.startswith(("Random", "Bernoulli"))
            self._constant_in_time[node] = not moving and all(self._constant_in_time[p] for p in makers)
            stack.pop()
        return self._constant_in_time[start]

    def _emit(self, op_type: str, inputs: Sequence[Any], attributes: dict[str, Any]) -> Any:
        """Record sizes, not values, where a rule asks for sizes."""
        x = inputs[0] if inputs else None
        if op_type == "Shape" and not attributes and isinstance(x, Val) and self.has(x.value):
            if x.value not in self._sizes:
                node = ir.node("Shape", [x.value], name=self.fresh(f"{x.name}/Shape"))
                size = node.outputs[0]
                size.name, size.type = self.fresh(f"{x.name}/sizes"), ir.TensorType(INT64)
                self.inner[node] = None
                self._sizes[x.value] = size
            return Val(self, self.resolve(self._sizes[x.value]))
        return super()._emit(op_type, inputs, attributes)


class Backwards:
    """One derivative of a Loop or Scan, while it is built."""

    def __init__(self, op: Emitter, node: ir.Node, gs: list[Val | None], path: Path) -> None:
        self.op, self.node, self.gs, self.path = op, node, gs, path
        [(self.region, self.inner)] = path.inside[node]
        self.body = self.region.body
        self.last = ir.Value(name=op.fresh(f"{op.scope}/last"), type=ir.TensorType(INT64))
        self.counter = self._input("i", INT64, [])
        self.condition = self._input("on", BOOL, [])
        at = ir.Value(name=op.fresh(f"{op.scope}/at"), type=ir.TensorType(INT64))
        self.replay = Replay(op, self.body, at)
        minus = ir.node("Sub", [self.last, self.counter], name=op.fresh(f"{op.scope}/Sub"))
        minus.outputs[0].name, minus.outputs[0].type = at.name, at.type
        self.replay.at = minus.outputs[0]
        self.replay.nodes.append(minus)
        self.results: list[Val] = []  # of the loop that is emitted

    def _input(self, name: str, dtype: ir.DataType, shape: list[int] | None = None) -> ir.Value:
        value = ir.Value(name=self.op.fresh(f"{self.op.scope}/{name}"), type=ir.TensorType(dtype))
        if shape is not None:
            value.shape = ir.Shape(shape)
        return value

    def emit(self, walk: Walk, table: Table, slices: Mapping[ir.Value, Callable[[], Val]], count: Any) -> Pairs:
        """Emit everything and return the cotangents.

        `slices`: for an output of the body that leaves by slices, its cotangent in the iteration. `count`: given the
        records, the number of iterations.
        """
        op, region, replay = self.op, self.region, self.replay
        inputs, initial, back, seeds = [self.counter, self.condition], [], [], {}
        carried = {o: x for o, x in region.carried.items() if x in self.inner.values or o in self.inner.values}
        index = {o: i for i, o in region.leaving.items()}
        for output, state in carried.items():
            dtype = cotangent_type(state.dtype)
            g = self.gs[index[output]] if index[output] < len(self.gs) else None
            initial.append(g if g is not None else zeros_of(op, self._outside(index[output], state)))
            inputs.append(self._input("carried", dtype or ir.DataType.FLOAT))
            seeds[output] = unsure(replay, inputs[-1])
        sources = list(dict.fromkeys(x for x in ordered(self.inner) if not self._own(x)))
        captured = [x for x in sources if x in self.path.values]
        sums = []
        for x in captured:
            initial.append(zeros_of(op, x))
            inputs.append(self._input("sum", cotangent_type(x.dtype) or ir.DataType.FLOAT))
            sums.append(unsure(replay, inputs[-1]))
        for output, piece in slices.items():
            if output in self.inner.values:
                seeds[output] = piece() if output not in seeds else seeds[output] + piece()
        entering = [x for x in self.body.inputs if x in self.inner.values and x not in carried.values()]
        found = walk(replay, self.inner, seeds, [*carried.values(), *captured, *entering], table)
        for state, val in zip(carried.values(), list(seeds.values()), strict=False):
            back.append(found[state] if state in found else self._zeros_like(val))
        back += [total + found[x] if x in found else total for x, total in zip(captured, sums, strict=True)]
        pieces = [x for x in entering if x in found]
        back += [found[x] for x in pieces]
        on = replay.Identity(Val(replay, self.condition))
        graph = closed(replay, inputs, [on, *back], f"{op.scope}/body")
        types = [val.dtype for val in initial] + [cotangent_type(x.dtype) for x in pieces]
        n = count(self)
        minus = n - op.constant(np.array(1, np.int64))
        named = ir.node("Identity", [minus.value], name=op.fresh(f"{op.scope}/Identity"))
        named.outputs[0].name, named.outputs[0].type = self.last.name, self.last.type
        op.nodes.append(named)
        results = attach(op, "Loop", [n, op.constant(np.array(True)), *initial], {"body": graph}, types)
        values = [region.entering.get(x) for x in carried.values()] + captured + [region.entering[x] for x in pieces]
        self.pieces = dict(zip(pieces, results[len(initial) :], strict=True))
        pairs = list(zip(values[: len(initial)], results, strict=False))
        return [(x, val) for x, val in pairs if x is not None]

    def _own(self, value: ir.Value) -> bool:
        return value in self.body.inputs or value.producer() in self.replay_nodes

    @property
    def replay_nodes(self) -> set[ir.Node]:
        if not hasattr(self, "_nodes"):
            self._nodes = set(self.inner.again)
        return self._nodes

    def _outside(self, index: int, state: ir.Value) -> ir.Value:
        """Return a value of the shape that a state has behind the loop."""
        y = self.node.outputs[index] if index < len(self.node.outputs) else None
        return y if y is not None and y.name else self.region.entering[state]

    def _zeros_like(self, val: Val) -> Val:
        return self.replay.Expand(self.replay.constant(0.0, val.dtype), self.replay.Shape(val))

    def record(
        self, states: Sequence[ir.Value], extra: Sequence[ir.Value]
    ) -> tuple[ir.GraphView, list[ir.Value]] | None:
        """Return the body that computes what was read, with the states that it needs, or None if nothing was.

        `extra`: outputs that it has in front (a Loop's condition).
        """
        op, records = self.op, self.replay.records
        if not records:
            return None
        again = Emitter(op.opset, within=op)
        fixed = [node for node in self.replay.inner if self.replay.fixed(node)]
        op.adopt(fixed, {})
        again.adopt([node for node in self.replay.inner if node not in set(fixed)], self.replay._other)
        ends = {x: o for o, x in self.region.carried.items()}
        kept: list[ir.Value] = []
        for value in (*extra, *records):
            self._again(again, value)
        while True:
            read = {x for node in again.nodes for x in reads(node)} | set(records) | set(extra)
            more = [x for x in states if x in read and x not in kept]
            if not more:
                break
            kept += more
            for x in more:
                self._again(again, ends[x])
        kept = [x for x in states if x in kept]
        outputs = [*extra, *(ends[x] for x in kept), *records]
        graph = closed(again, [], [Val(again, y) for y in outputs], f"{op.scope}/again")
        return graph, kept

    def _again(self, op: Emitter, value: ir.Value) -> None:
        if value not in self.body.inputs:
            op.resolve(value, named=True)
