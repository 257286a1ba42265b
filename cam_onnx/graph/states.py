"""Recurrent networks: what they are handed of their own past, which is no signal to explain, and where they recur.

Such a state has as many axes as a signal, (layers, N, C) beside a wave (N, T). What tells them apart is where it goes,
into the initial state of a recurrent operator; or where it comes from, an output that is called after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx_ir as ir

from cam_onnx.graph.upstream import upstream

__all__ = ["is_next", "is_state", "recurrence"]

_INITIAL = {"DynamicQuantizeLSTM": (5, 6), "GRU": (5,), "LSTM": (5, 6), "RNN": (5,)}
_VIEWS = {
    "Cast", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
_SUFFIXES = {"n", "_n", "_new", "_next", "_out", "new", "next", "out"}  # state, stateN; h, hn; cell, cell_out


def is_state(graph: ir.Graph, value: ir.Value) -> bool:
    """Whether an input is a recurrent network's state. A picture is none, whatever comes out of it."""
    return _starts(value) or any(_follows(value, output) for output in graph.outputs)


def is_next(graph: ir.Graph, output: ir.Value) -> bool:
    """Whether an output is what a state becomes."""
    return len(graph.inputs) > 1 and any(_follows(value, output) for value in graph.inputs)


def recurrence(score: ir.Value, layers: Collection[str]) -> str:
    """Return the type of a recurrent operator between layers and a score, "" without one."""

    def makes_one(node: ir.Node) -> bool:
        return any(y.name in layers for y in node.outputs)

    for node in upstream(score, makes_one):
        if node.op_type in _INITIAL and not makes_one(node):
            return node.op_type
    return ""


def _starts(value: ir.Value) -> bool:
    """Whether it is the initial state of a recurrent operator, and nothing else."""
    ends = list(_ends(value))
    return bool(ends) and all(index in _INITIAL.get(node.op_type, ()) for node, index in ends)


def _ends(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Yield where a value is read, behind all that only shows it in another form; asking for a shape reads nothing."""
    todo = [value]
    while todo:
        for node, index in [(use.node, use.idx) for use in todo.pop().uses()]:
            if node.op_type in _VIEWS and index == 0:
                todo += node.outputs
            elif node.op_type != "Shape":
                yield node, index


def _follows(value: ir.Value, output: ir.Value) -> bool:
    """Whether an output is called like an input, with a word behind it that says that it is the next one."""
    name, made = (value.name or "").casefold(), (output.name or "").casefold()
    for start in ("in_", "in", "prev_", "past_"):
        name = name.removeprefix(start) if len(name) > len(start) else name
    same = value.shape is not None and output.shape is not None and len(value.shape) == len(output.shape) <= 3
    stems = {name, name.removesuffix("_in"), name.removesuffix("0").removesuffix("_")} - {""}
    return same and any(made == stem + suffix for stem in stems for suffix in _SUFFIXES)
