"""The search for the path: forwards from the wanted values, then backwards from the seeded ones.

Only nodes between the two are visited; an operator without a rule anywhere else does not matter. All missing rules are
reported at once. Calls are written out where they stand, so their depth is the graph's affair; only subgraphs within
subgraphs recurse, and a file cannot nest these deeply.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import onnx_ir as ir

from cam_onnx.autodiff.bodies import Bodies, Body
from cam_onnx.autodiff.call import lower
from cam_onnx.autodiff.path import Path, Region, label
from cam_onnx.autodiff.subgraphs import graphs, reads
from cam_onnx.autodiff.table import Rule, Table, Vjp, missing, zero
from cam_onnx.autodiff.val import cotangent_of

__all__ = ["mark"]


def mark(
    graph: Iterable[ir.Node],
    wrt: Iterable[ir.Value],
    of: Iterable[ir.Value],
    opset: int,
    table: Table,
    held: Collection[ir.Value] = (),
) -> Path:
    """Find the nodes through which a derivative of `of` with respect to `wrt` passes, where `held` are constants."""
    meta = getattr(graph, "meta", {})
    bodies: Bodies | None = meta.get("bodies")
    return _Marker(opset, table, bodies, held).mark(graph, wrt, of)


class _Marker:
    """One search. `regions` and their dependences are found once a node."""

    def __init__(self, opset: int, table: Table, bodies: Bodies | None, held: Collection[ir.Value]) -> None:
        self.opset, self.table, self.bodies, self.held = opset, table, bodies, held
        self.regions: dict[ir.Node, list[Region]] = {}

    def mark(self, nodes: Iterable[ir.Node], wrt: Iterable[ir.Value], of: Iterable[ir.Value]) -> Path:
        path = Path()
        active = {value: 1 for value in wrt if cotangent_of(value)}
        lost: dict[ir.Node, str] = {}
        reached = self.forward(nodes, active, path, lost)
        path.values = {value for value in of if active.get(value)}
        for node in reversed(reached):
            if not any(y in path.values for y in path.outputs(node)):
                continue
            path.nodes.append(node)
            rule = self.find(node)
            if rule is not None and rule.flow is not None:
                self._enter(path, node, active)
                continue
            for i, x in enumerate(node.inputs):
                if x is not None and active.get(x) and not (rule is not None and isinstance(rule.entry(i), zero)):
                    path.values.add(x)
                    self._judge(path, node, rule, i)
            if rule is None and not any(active.get(x) for x in node.inputs if x is not None):
                self._judge(path, node, rule, 0)
        path.nodes.reverse()
        path.lost = list(lost.values())
        return path

    def find(self, node: ir.Node) -> Rule | None:
        return self.table.find(node.op_type, self.opset, node.domain)

    # -- forwards ---------------------------------------------------------------------------------------------------

    def forward(
        self, nodes: Iterable[ir.Node], bits: dict[ir.Value, int], path: Path, lost: dict[ir.Node, str]
    ) -> list[ir.Node]:
        """Spread `bits` (one a source) from inputs to outputs; return the nodes that any reached, calls written out."""
        reached: list[ir.Node] = []
        stack: list[Iterator[ir.Node]] = [iter(nodes)]
        while stack:
            node = next(stack[-1], None)
            if node is None:
                stack.pop()
                continue
            rule = self.find(node)
            if self._flows(node, rule):
                self._through(node, bits, path, reached)
                continue
            read = reads(node) if graphs(node) else [x for x in node.inputs if x is not None]
            touched = any(bits.get(x) for x in read)
            if not touched and not _holding(read):
                continue
            body = self._written(node, rule)
            if body is not None:
                path.stands |= {
                    inner: outer for inner, outer in zip(body.outputs, node.outputs, strict=False) if outer.name
                }
                path.same |= body.same
                path.again += body.nodes
                stack.append(iter(body.nodes))
                continue
            if touched:
                self._across(node, rule, read, bits, path, reached, lost)
        return reached

    def _across(
        self,
        node: ir.Node,
        rule: Rule | None,
        read: Sequence[ir.Value],
        bits: dict[ir.Value, int],
        path: Path,
        reached: list[ir.Node],
        lost: dict[ir.Node, str],
    ) -> None:
        inside = [i for i, x in enumerate(node.inputs) if x is not None and bits.get(x)]
        if rule is not None and inside and all(isinstance(rule.entry(i), zero) for i in inside):
            lost[node] = f"{node.op_type} {label(node)!r} has derivative zero"
            return
        total = _any(bits.get(x, 0) for x in read[sum(x is not None for x in node.inputs) :])  # read by subgraphs
        for i in inside:
            if rule is None or not isinstance(rule.entry(i), zero):
                total |= bits.get(node.inputs[i], 0)  # type: ignore[arg-type]
        floats = [y for y in node.outputs if cotangent_of(y)]
        if not floats:
            lost[node] = f"{node.op_type} {label(node)!r} gives a type without derivative"
        for y in floats:
            self._spread(bits, path, y, total)
        reached.append(node)

    def _through(self, node: ir.Node, bits: dict[ir.Value, int], path: Path, reached: list[ir.Node]) -> None:
        """Spread bits through subgraphs: each output depends on what its body says."""
        read = reads(node)
        if not any(bits.get(x) for x in read) and not _holding(read):
            return
        found = False
        for region in self._regions(node):
            for index, output in region.leaving.items():
                if index >= len(node.outputs):
                    continue
                y = node.outputs[index]
                sources = region.closure([output])[1]
                values = [v for s in sources if (v := region.outside(s)) is not None]
                total = _any(bits.get(v, 0) for v in values)
                if total and cotangent_of(y):
                    found = True
                    self._spread(bits, path, y, total)
        if found:
            reached.append(node)

    def _spread(self, bits: dict[ir.Value, int], path: Path, y: ir.Value, total: int) -> None:
        for each in path.chain(y):
            if each not in self.held:
                bits[each] = bits.get(each, 0) | total

    def _flows(self, node: ir.Node, rule: Rule | None) -> bool:
        """Whether a node is gone through by its subgraphs: not an If that always takes one branch, but all others."""
        flow = rule is not None and rule.flow is not None
        return flow and self.bodies is not None and node not in self.bodies.taken_branch

    def _written(self, node: ir.Node, rule: Rule | None) -> Body | None:
        if self.bodies is not None and node in self.bodies.taken_branch:
            return self.bodies.branch(node)
        if self.bodies is None or (rule is not None and rule.lowering is None):
            return None
        if rule is not None and rule.lowering is not None:
            return lower(self.bodies, node, rule.lowering)
        return self.bodies.function(node)

    def _regions(self, node: ir.Node) -> list[Region]:
        if node not in self.regions:
            rule = self.find(node)
            assert rule is not None
            assert rule.flow is not None
            self.regions[node] = rule.flow.regions(self.bodies, node)
            for region in self.regions[node]:
                sources = [x for x in [*region.body.inputs, *self._taken(region.body)] if cotangent_of(x)]
                bits = {x: 1 << i for i, x in enumerate(sources)}
                self.forward(region.body.nodes, bits, Path(), {})
                region.depends = {
                    y: {x for i, x in enumerate(sources) if bits.get(y, 0) >> i & 1} for y in region.body.outputs
                }
        return self.regions[node]

    def _taken(self, body: Body) -> list[ir.Value]:
        """Return the values of outside that a body reads: of a sequence also the tensors that were put in."""
        own: set[ir.Value] = set(body.inputs)
        found: dict[ir.Value, None] = {}
        nodes = list(body.nodes)
        for node in nodes:  # grows
            own.update(node.outputs)
            read = reads(node)
            found.update(dict.fromkeys(read))
            if not _holding(read):
                continue
            rule = self.find(node)
            if self._flows(node, rule):
                for region in self._regions(node):
                    inner = {s for sources in region.depends.values() for s in sources}
                    found.update(dict.fromkeys(s for s in inner if s not in region.body.inputs))
            elif (written := self._written(node, rule)) is not None:
                nodes += written.nodes
        return [x for x in found if x not in own]

    # -- backwards --------------------------------------------------------------------------------------------------

    def _enter(self, path: Path, node: ir.Node, active: dict[ir.Value, int]) -> None:
        """Mark the path inside the subgraphs of a node of which some outputs are wanted."""
        path.inside[node] = []
        for region in self._regions(node):
            wanted = [
                region.leaving[i]
                for i, y in enumerate(node.outputs)
                if i in region.leaving and any(each in path.values for each in path.chain(y))
            ]
            alive = self._alive(region, active)
            of, sources = region.closure(wanted)
            wrt = [s for s in sources if s in alive]
            inner = self.mark(region.body.nodes, wrt, [o for o in region.body.outputs if o in of])
            inner.again = [*region.body.nodes, *inner.again]
            inner.same |= region.body.same
            for name, nodes in inner.refused.items():
                path.refused.setdefault(name, []).extend(nodes)
            path.inside[node].append((region, inner))
            for source in wrt:
                value = region.outside(source)
                if value is not None and active.get(value):
                    path.values.add(value)

    def _alive(self, region: Region, active: dict[ir.Value, int]) -> set[ir.Value]:
        """Return the sources of a body through which a derivative comes: from outside, or from an iteration before."""
        sources = {s for found in region.depends.values() for s in found} | set(region.carried.values())
        alive = {s for s in sources if (v := region.outside(s)) is not None and active.get(v)}
        while True:
            more = {x for o, x in region.carried.items() if x not in alive and region.depends.get(o, set()) & alive}
            if not more:
                return alive
            alive |= more

    def _judge(self, path: Path, node: ir.Node, rule: Rule | None, index: int) -> None:
        name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        fault = self.bodies.faults.get(node) if self.bodies is not None else None
        if fault is not None:
            name += f" ({fault})"
        elif rule is not None:
            entry = rule.entry(index)
            if isinstance(entry, Vjp):
                return
            name += f" ({entry.reason})" if isinstance(entry, missing) else f" (input {index} has no derivative)"
        nodes = path.refused.setdefault(name, [])
        if node not in nodes:
            nodes.append(node)


def _holding(values: Iterable[ir.Value]) -> bool:
    """Whether one of the values holds tensors, whose derivatives are known by their own names."""
    return any(isinstance(x.type, (ir.SequenceType, ir.OptionalType)) for x in values)


def _any(values: Iterable[int]) -> int:
    total = 0
    for value in values:
        total |= value
    return total
