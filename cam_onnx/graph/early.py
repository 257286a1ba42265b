"""Scores read early: what the network would say if it ended behind an inner layer of attention.

What lies between the last block of a transformer and the score is copied behind every other block. Blocks are found by
what every path passes through: their outputs, while all inside of a block is bypassed by its residual connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import onnx
import onnx_ir as ir

from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.path import Path
from cam_onnx.autodiff.subgraphs import reads
from cam_onnx.errors import LayerNotFound
from cam_onnx.graph.head import between
from cam_onnx.graph.inside import find
from cam_onnx.graph.locate import picture_input
from cam_onnx.graph.seeds import Seeded

__all__ = ["read_early"]


def read_early(seeded: Seeded) -> tuple[Seeded, list[str]]:
    """Return the model with a score for every layer of attention, and the scores' names.

    What a choice of class alone depends on stays the whole network's. The last layer's score is the score itself.

    Raises
    ------
    LayerNotFound
        There is no attention, or its layers are not blocks of one form, one behind the other.
    """
    model, values = seeded.model, seeded.model.values[seeded.values.name]
    score = values if seeded.chosen is None else model.values[seeded.chosen.score]
    inside = find(model, picture_input(model), score, ["attention"])
    name, way = score.name or "", inside.way
    if len(inside.values) == 1:
        return seeded, [name]
    ends = _ends(model, way, [way.nodes.index(value.producer()) for value in inside.values])  # type: ignore[arg-type]
    nodes = list(model.graph)
    copied = between(nodes, ends[-1:], values)
    copied += [
        node for node in between(nodes, [values], score)
        if any(each in way.values for y in node.outputs for each in way.chain(y))
    ]  # fmt: skip
    original = {tuple(node.output): node for node in model.proto.graph.node}
    proto, taken = onnx.ModelProto(), model.names()
    proto.CopyFrom(model.proto)
    names = []
    for i, end in enumerate(ends[:-1]):
        to = {ends[-1].name or "": end.name or ""}
        for node in copied:
            made = onnx.NodeProto()
            made.CopyFrom(original[tuple(y.name or "" for y in node.outputs)])
            for y in filter(None, made.output):
                to[y] = _fresh(f"cam/early_{i}/{y}", taken)
            made.name = to[next(filter(None, made.output))]
            made.output[:] = [to.get(y, "") for y in made.output]
            _read(made, to)
            proto.graph.node.append(made)
        names.append(to[name])
    return replace(seeded, model=model.of(proto)), [*names, name]


def _ends(model: Model, way: Path, places: Sequence[int]) -> list[ir.Value]:
    """Return the value that every path passes through behind each place: of the last one the counterpart of these."""
    own = set(model.graph)
    passed = [(at, value) for at, value in _passed(way) if value.producer() in own]
    bounds = pairwise([*places, len(way.nodes)])
    groups = [[value for at, value in passed if low < at < high] for low, high in bounds]
    groups[-1] = groups[-1][: len(groups[-2])]
    forms = {(str(group[-1].shape), *(value.producer().op_type for value in group)) for group in groups if group}  # type: ignore[union-attr]
    if not all(groups) or len(forms) > 1:
        raise LayerNotFound(
            f"{model.name}: the score cannot be read behind every layer of attention: they are not blocks of one form, "
            "one behind the other, over one list of tokens. grad-rollout needs no such score"
        )
    return [group[-1] for group in groups]


def _passed(way: Path) -> Iterator[tuple[int, ir.Value]]:
    """Yield the values that every path passes through, with the index of the node that gives each."""
    last: dict[ir.Value, int] = {}
    for i, node in enumerate(way.nodes):
        last.update((x, i) for x in reads(node) if x in way.values)
    open_until = max((at for x, at in last.items() if x.producer() is None), default=-1)
    for i, node in enumerate(way.nodes):
        given = [y for y in node.outputs if any(each in way.values for each in way.chain(y))]
        if open_until <= i and len(given) == 1:
            yield i, way.chain(given[0])[-1]
        ends = [last[each] for y in given for each in way.chain(y) if each in last]
        open_until = max([open_until, *ends])


def _read(node: onnx.NodeProto, to: dict[str, str]) -> None:
    """Let a node read other names, in its subgraphs as well."""
    stack: list[Any] = [node]
    while stack:
        each = stack.pop()
        each.input[:] = [to.get(x, x) for x in each.input]
        for attribute in each.attribute:
            for graph in (attribute.g, *attribute.graphs):
                for output in graph.output:
                    output.name = to.get(output.name, output.name)
                stack += graph.node


def _fresh(name: str, taken: set[str]) -> str:
    found = name
    while found in taken:
        found += "_"
    taken.add(found)
    return found
