"""What is held on the way from a layer to the score: the regions that a second stage reads in.

As PyTorch's detectors have it: what is explained is what is seen in a region, not where the region lies or that it is
the one in that row. The derivative with respect to the corners is there (`cam_onnx.autodiff`), but it belongs to the
first stage, whose cells lie around the region, and outweighs the other one; and with the corners the regions' order
and number change, so that differences of a row's score are those of another region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import onnx_ir as ir

from cam_onnx.autodiff import rules as _rules  # noqa: F401  (fills the table)
from cam_onnx.autodiff.subgraphs import reads
from cam_onnx.autodiff.table import RULES, Table, zero
from cam_onnx.autodiff.val import cotangent_of

__all__ = ["DERIVATIVE", "ancestors", "held", "held_nodes"]

CORNERS = {"RoiAlign": 1}  # which input; bins of MaxRoiPool are whole pixels and have no slope


def held(table: Table) -> Table:
    """Return a table that takes no derivative with respect to where regions lie."""
    found = Table(table, table.arriving)
    for op_type, index in CORNERS.items():
        for rule in table.of(op_type):
            entries = [rule.entry(i) for i in range(max(len(rule.entries), index + 1))]
            entries[index] = zero("the regions are held where they are")
            found.defvjp(op_type, *entries, before=rule.before, several=rule.several, inside=rule.inside)
    return found


DERIVATIVE = held(RULES)


def held_nodes(nodes: Sequence[ir.Node], score: ir.Value) -> set[ir.Node]:
    """Return the nodes that decide which regions there are, and nothing else of a score."""
    cut = [node for node in ancestors(nodes, [score]) if node.op_type in CORNERS]
    if not cut:
        return set()
    regions = [x for node in cut for x in node.inputs[1:] if x is not None]

    def moving(node: ir.Node) -> list[ir.Value]:
        corners = CORNERS.get(node.op_type)
        fixed = None if corners is None else node.inputs[corners]
        return [x for x in reads(node) if x is not fixed and cotangent_of(x) is not None]

    return set(ancestors(nodes, regions)) - set(ancestors(nodes, [score], moving))


def ancestors(
    nodes: Sequence[ir.Node], values: Iterable[ir.Value], read: Callable[[ir.Node], Iterable[ir.Value]] = reads
) -> list[ir.Node]:
    """Return the nodes that values are made by, of those that `read` is followed through."""
    wanted, found = set(values), []
    for node in reversed(nodes):
        if any(y in wanted for y in node.outputs):
            found.append(node)
            wanted.update(read(node))
    return found[::-1]
