"""The walk: visit the path in reverse, accumulate. It knows no operator, and depth is the graph's affair: no recursion.

What a body computes (of a function, of a subgraph) is emitted a second time only where a rule reads it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import onnx_ir as ir

from cam_onnx.autodiff import spelling
from cam_onnx.autodiff.broadcasting import sum_to
from cam_onnx.autodiff.call import arguments
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.mark import mark
from cam_onnx.autodiff.path import Path, givers, label, refuse
from cam_onnx.autodiff.table import RULES, Table, Vjp
from cam_onnx.autodiff.tiles import total
from cam_onnx.autodiff.val import Refused, Val, cotangent_of
from cam_onnx.errors import UnsupportedOperators

__all__ = ["Path", "backward", "givers", "label", "mark", "refuse"]


def backward(
    op: Emitter, path: Path, seeds: dict[ir.Value, Val], wrt: Sequence[ir.Value], table: Table = RULES
) -> dict[ir.Value, Val]:
    """Emit the reverse pass.

    Parameters
    ----------
    op : Emitter
    path : Path
        From `mark`, with nothing refused.
    seeds : dict
        Cotangents of the values that the derivative is of.
    wrt : sequence of onnx_ir.Value
    table : Table

    Returns
    -------
    dict
        The cotangent of every member of `wrt` that lies on the path.
    """
    pending: defaultdict[ir.Value, list[Val]] = defaultdict(list)
    op.adopt(path.again, path.same)
    for value, seed in seeds.items():
        if value in path.values:
            pending[value].append(seed)

    def settle(value: ir.Value) -> Val | None:
        parts = pending[value]
        if not parts:
            return None
        op.scope = f"grad/{value.name}"
        whole = total(op, parts, value)
        if len(parts) > 1 or whole.name.startswith(op.scope + "/"):
            op.rename(whole, op.scope if op.within is None else f"{op.scope}/part")
        op.shaped_as(whole, value)
        pending[value] = [whole]
        return whole

    for node in reversed(path.nodes):
        for y in node.outputs:
            chain = path.chain(y)[::-1]
            for outer, inner in pairwise(chain):
                if (whole := settle(outer)) is not None:
                    pending[inner].append(whole)
        gs = [settle(y) for y in node.outputs]
        gs[0] = _masked(op, path, table, node, gs[0])
        if node in path.inside:
            if any(g is not None for g in gs):
                for x, part in _flow(op, table, node, gs, path):
                    pending[x].append(part)
        elif any(g is not None for g in gs):
            read: dict[tuple[str, ...], Any] = {}
            for index, source in enumerate(node.inputs):
                if source is not None and source in path.values:
                    cotangent = _apply(op, table, node, index, gs, read)
                    if cotangent is not None:
                        pending[source].append(cotangent)
    return {value: whole for value in wrt if (whole := settle(value)) is not None}


def _masked(op: Emitter, path: Path, table: Table, node: ir.Node, g: Val | None) -> Val | None:
    """Return the cotangent where the node's output is within its range, else zero."""
    rule = table.find(node.op_type, op.opset, node.domain)
    if g is None or rule is None or rule.inside is None or node in path.open:
        return g
    op.scope = f"grad/{node.outputs[0].name}"
    x = node.inputs[0]
    inside = rule.inside(op, op.primal(node.outputs[0]), None if x is None else op.primal(x))
    masked: Val = op.Where(inside, g, 0.0)
    return masked


def _flow(op: Emitter, table: Table, node: ir.Node, gs: list[Val | None], path: Path) -> list[tuple[ir.Value, Val]]:
    """Call the derivative of an operator with subgraphs."""
    rule = table.find(node.op_type, op.opset, node.domain)
    assert rule is not None
    assert rule.flow is not None
    op.scope = f"grad/{label(node)}"
    try:
        found: list[tuple[ir.Value, Val]] = rule.flow.vjp(op, node, gs, path, table, backward)
    except Refused as error:
        raise UnsupportedOperators(
            f"{node.op_type} {label(node)!r} has no gradient rule for this case: {error}", {node.op_type: [label(node)]}
        ) from error
    return [(x, part) for x, part in found if x in path.values]


def _apply(
    op: Emitter,
    table: Table,
    node: ir.Node,
    index: int,
    gs: list[Val | None],
    read: dict[tuple[str, ...], Any],
) -> Val | None:
    """Call one vjp; type and shape of the result are made the input's. `read`: what other inputs' vjps were given."""
    rule = table.find(node.op_type, op.opset, node.domain)
    assert rule is not None
    entry, x = rule.entry(index), node.inputs[index]
    if not isinstance(entry, Vjp) or x is None:
        return None
    op.scope = f"grad/{x.name}"
    if entry.parameters not in read:
        read[entry.parameters] = (*arguments(op, node, entry.parameters), [op.primal(y) for y in node.outputs])
    primals, attributes, ys = read[entry.parameters]
    g: Any = gs[0]
    y: Any = ys[0]
    if rule.several:
        g, y = tuple(gs), tuple(ys)
    elif any(late is not None for late in gs[1:]):
        raise UnsupportedOperators(
            f"{node.op_type} {label(node)!r}: no gradient rule with respect to its further outputs",
            {node.op_type: [label(node)]},
        )
    elif g is None:
        return None
    try:
        first = (op, index) if entry.each else (op,)
        result: Val = entry.function(*first, g, y, *primals, **attributes)
        if entry.broadcast:
            result = sum_to(op, result, ys[0].dims, op.primal(x))
    except spelling.NeedsOpset:
        raise
    except Refused as error:
        raise UnsupportedOperators(
            f"{node.op_type} {label(node)!r} has no gradient rule for this case: {error}", {node.op_type: [label(node)]}
        ) from error
    except Exception as error:
        error.add_note(f"in the gradient of {node.op_type} {label(node)!r} with respect to input {index} ({x.name!r})")
        raise
    wanted = cotangent_of(x)
    if wanted is not None and result.dtype not in (wanted, None):
        result = op.Cast(result, to=wanted)
    return result
