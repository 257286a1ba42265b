"""If, Loop and Scan: the derivative is a subgraph again.

If: an If of the same condition, whose branches give the cotangents of what the branches read from outside.

Loop and Scan: a Loop that goes through the iterations backwards. What the rules read of an iteration is recorded by
running the body once more, forwards, and only as far as it is needed for that; what is the same in every iteration is
computed once outside; what is linear records nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx_ir as ir

from cam_onnx.autodiff.bodies import Bodies, Body
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.nested import attach, bound, closed, ordered, zeros_of
from cam_onnx.autodiff.path import Path, Region
from cam_onnx.autodiff.replay import Backwards, Pairs, Walk
from cam_onnx.autodiff.table import Table, defflow
from cam_onnx.autodiff.val import Val, cotangent_type

__all__: list[str] = []


# -- If ---------------------------------------------------------------------------------------------------------------


def if_regions(bodies: Bodies, node: ir.Node) -> list[Region]:
    return [Region(body, leaving=dict(enumerate(body.outputs))) for body in bodies.subgraphs(node, tie=True)]


def if_vjp(op: Emitter, node: ir.Node, gs: list[Val | None], path: Path, table: Table, walk: Walk) -> Pairs:
    branches = path.inside[node]
    wanted = list(dict.fromkeys(x for _, inner in branches for x in ordered(inner) if x in path.values))
    graphs = {}
    for name, (region, inner) in zip(sorted(node.attributes), branches, strict=True):
        sub = Emitter(op.opset, within=op)
        seeds = {y: bound(sub, g) for i, y in region.leaving.items() if (g := gs[i]) is not None}
        found = walk(sub, inner, seeds, wanted, table)
        results = [found[x] if x in found else zeros_of(sub, x) for x in wanted]
        graphs[name] = closed(sub, [], results, f"{op.scope}/{name}")
    condition = node.inputs[0]
    assert condition is not None
    if not wanted:
        return []
    parts = attach(op, "If", [op.primal(condition)], graphs, [cotangent_type(x.dtype) for x in wanted])
    return list(zip(wanted, parts, strict=True))


defflow("If", if_regions, if_vjp)


# -- Loop and Scan ----------------------------------------------------------------------------------------------------


def record_names(results: Sequence[Val], records: Iterable[ir.Value]) -> None:
    """Give recorded values the names by which the backward loop reads them."""
    for val, record in zip(results, records, strict=True):
        val.value.name = record.name


# Loop


def loop_regions(bodies: Bodies, node: ir.Node) -> list[Region]:
    [body] = bodies.subgraphs(node)
    states = list(node.inputs[2:])
    region = Region(body, leaving=dict(enumerate(body.outputs[1:])))
    for x, inner, output in zip(states, body.inputs[2:], body.outputs[1:], strict=False):
        region.carried[output] = inner
        if x is not None:
            region.entering[inner] = x
    return [region]


def loop_vjp(op: Emitter, node: ir.Node, gs: list[Val | None], path: Path, table: Table, walk: Walk) -> Pairs:
    build = Backwards(op, node, gs, path)
    body, replay = build.body, build.replay
    replay.slices[body.inputs[0]] = lambda: Val(replay, replay.at)
    replay.slices[body.inputs[1]] = lambda: replay.constant(np.array(True))
    states = len(node.inputs) - 2

    def piece(g: Val) -> Callable[[], Val]:
        return lambda: replay.Gather(bound(replay, g), Val(replay, replay.at), axis=0)

    slices = {
        output: piece(g) for output, g in zip(body.outputs[1 + states :], gs[states:], strict=False) if g is not None
    }

    def count(build: Backwards) -> Val:
        trips = node.inputs[0]
        if not replay.records:
            if trips is not None and goes_on(node, body):
                return op.Max(op.Reshape(op.primal(trips), np.zeros(0, np.int64)), np.array(0, np.int64))
            replay.records[body.inputs[0]] = ir.Value(name=op.fresh(f"{op.scope}/counted"))
        recorded = build.record(body.inputs[2:], body.outputs[:1])
        assert recorded is not None
        graph, kept = recorded
        graph.inputs = (*body.inputs[:2], *kept)
        given = [None if x is None else op.primal(x) for x in node.inputs[:2]]
        if given[1] is None:
            given[1] = op.constant(np.array(True))
        initial = [op.primal(build.region.entering[x]) for x in kept]
        types = [x.dtype for x in (*kept, *replay.records)]
        results = attach(op, "Loop", [*given, *initial], {"body": graph}, types)
        record_names(results[len(kept) :], replay.records.values())
        return op.Gather(op.Shape(results[-1]), np.array(0, np.int64), axis=0)

    return build.emit(walk, table, slices, count)


def goes_on(node: ir.Node, body: Body) -> bool:
    """Whether a Loop's condition is always true, so that it makes as many iterations as it is told to."""
    first, value = node.inputs[1], body.outputs[0]
    if first is not None and (first.const_value is None or not first.const_value.numpy().all()):
        return False
    while (maker := value.producer()) is not None and maker.op_type in ("Identity", "Cast") and maker.inputs[0]:
        value = maker.inputs[0]
    if value is body.inputs[1]:
        return True
    return value.const_value is not None and bool(value.const_value.numpy().all())


defflow("Loop", loop_regions, loop_vjp)


# Scan


def integers(node: ir.Node, name: str, count: int) -> list[int]:
    attribute = node.attributes.get(name)
    return [0] * count if attribute is None else list(attribute.as_ints())


def scan_regions(bodies: Bodies, node: ir.Node) -> list[Region]:
    [body] = bodies.subgraphs(node)
    states = len(node.inputs) - node.attributes["num_scan_inputs"].as_int()
    region = Region(body, leaving=dict(enumerate(body.outputs)))
    region.carried = dict(zip(body.outputs[:states], body.inputs[:states], strict=True))
    region.entering = {inner: x for inner, x in zip(body.inputs, node.inputs, strict=True) if x is not None}
    return [region]


def scan_vjp(op: Emitter, node: ir.Node, gs: list[Val | None], path: Path, table: Table, walk: Walk) -> Pairs:
    build = Backwards(op, node, gs, path)
    body, replay = build.body, build.replay
    sequences = node.attributes["num_scan_inputs"].as_int()
    states = len(node.inputs) - sequences
    axes = integers(node, "scan_input_axes", sequences)
    turned = integers(node, "scan_input_directions", sequences)
    outputs = len(body.outputs) - states
    out_axes = integers(node, "scan_output_axes", outputs)
    out_turned = integers(node, "scan_output_directions", outputs)

    def look_up(val: Val, axis: int, direction: int) -> Callable[[], Val]:
        """Return the slice of an iteration: a sequence that is read backwards is at the counter itself."""
        return lambda: replay.Gather(
            bound(replay, val), Val(replay, build.counter if direction else replay.at), axis=axis
        )

    ranks = {}
    for inner, x, axis, direction in zip(body.inputs[states:], node.inputs[states:], axes, turned, strict=True):
        assert x is not None
        ranks[inner] = op.primal(x).rank
        replay.slices[inner] = look_up(Val(op, x), axis % ranks[inner], direction)
    slices = {}
    for inner, g, axis, direction in zip(body.outputs[states:], gs[states:], out_axes, out_turned, strict=False):
        if g is not None:
            rank = 1 + (Val(op, inner).rank if axis < 0 else 0)
            slices[inner] = look_up(g, axis % rank if axis < 0 else axis, direction)

    def count(build: Backwards) -> Val:
        recorded = build.record(body.inputs[:states], ())
        if recorded is not None:
            graph, kept = recorded
            graph.inputs = (*kept, *body.inputs[states:])
            initial = [op.primal(build.region.entering[x]) for x in (*kept, *body.inputs[states:])]
            types = [x.dtype for x in (*kept, *replay.records)]
            results = attach(
                op,
                "Scan",
                initial,
                {"body": graph},
                types,
                num_scan_inputs=sequences,
                scan_input_axes=axes,
                scan_input_directions=turned,
            )
            record_names(results[len(kept) :], replay.records.values())
        first = op.primal(build.region.entering[body.inputs[states]])
        axis = axes[0] % first.rank
        return op.Squeeze(op.shape(first, axis, axis + 1), [0])

    pairs = build.emit(walk, table, slices, count)
    for inner, found in build.pieces.items():
        at = body.inputs.index(inner) - states
        # the last iteration's comes first
        ordered_ = found if turned[at] else op.Slice(found, [-1], [np.iinfo(np.int64).min], [0], [-1])
        axis = axes[at] % ranks[inner]
        if axis:
            order = list(range(1, ranks[inner]))
            ordered_ = op.Transpose(ordered_, perm=[*order[:axis], 0, *order[axis:]])
        pairs.append((build.region.entering[inner], ordered_))
    return pairs


defflow("Scan", scan_regions, scan_vjp)
