"""The walk: mark the path, visit it in reverse, accumulate. It knows no operator.

Only nodes between the wanted values and the seeded ones are visited; an operator without a rule anywhere else
does not matter. All missing rules are reported at once. Loops, no recursion: depth is the graph's affair.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from cam_onnx.autodiff import spelling
from cam_onnx.autodiff.broadcasting import sum_to
from cam_onnx.autodiff.emit import Emitter
from cam_onnx.autodiff.table import RULES, Rule, Table, Vjp, missing, zero
from cam_onnx.autodiff.val import Refused, Val, cotangent_type
from cam_onnx.errors import UnsupportedOperators, shown

__all__ = ["Path", "backward", "mark"]


@dataclass
class Path:
    """What lies between `wrt` and `of`.

    Attributes
    ----------
    nodes : list of onnx_ir.Node
        In the order of the graph.
    values : set of onnx_ir.Value
        Which carry a derivative, `wrt` and `of` included.
    refused : dict
        Operator (with the reason) to the nodes on the path that have no rule.
    lost : list of str
        Where a derivative ends on the way: zero by definition, or a type without derivative.
    """

    nodes: list[ir.Node] = field(default_factory=list)
    values: set[ir.Value] = field(default_factory=set)
    refused: dict[str, list[ir.Node]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def mark(graph: Iterable[ir.Node], wrt: Iterable[ir.Value], of: Iterable[ir.Value], opset: int, table: Table) -> Path:
    """Find the nodes through which a derivative of `of` with respect to `wrt` passes."""
    active = {value for value in wrt if cotangent_type(value.dtype)}
    lost: dict[ir.Node, str] = {}
    reached: list[ir.Node] = []
    for node in graph:
        rule = table.find(node.op_type, opset, node.domain)
        inside = [i for i, x in enumerate(node.inputs) if x in active]
        if not inside and not _captures(node, active):
            continue
        if rule is not None and all(isinstance(rule.entry(i), zero) for i in inside):
            lost[node] = f"{node.op_type} {label(node)!r} has derivative zero"
            continue
        floats = [y for y in node.outputs if cotangent_type(y.dtype)]
        if not floats:
            lost[node] = f"{node.op_type} {label(node)!r} gives a type without derivative"
        active.update(floats)
        reached.append(node)

    path = Path(values={value for value in of if value in active})
    for node in reversed(reached):
        if not any(y in path.values for y in node.outputs):
            continue
        path.nodes.append(node)
        rule = table.find(node.op_type, opset, node.domain)
        for i, x in enumerate(node.inputs):
            if x in active and not (rule is not None and isinstance(rule.entry(i), zero)):
                path.values.add(x)
                _judge(path, node, rule, i)
        if rule is None and not any(x in active for x in node.inputs):
            _judge(path, node, rule, 0)
    path.nodes.reverse()
    path.lost = list(lost.values())
    return path


def _captures(node: ir.Node, active: set[ir.Value]) -> bool:
    """Whether a subgraph of the node (If, Loop, Scan) reads an active value."""
    graphs: list[Any] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graphs.append(attribute.value)
        elif attribute.type == ir.AttributeType.GRAPHS:
            graphs.extend(attribute.value)
    return any(x in active for graph in graphs for inner in graph.all_nodes() for x in inner.inputs)


def _judge(path: Path, node: ir.Node, rule: Rule | None, index: int) -> None:
    name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
    if rule is not None:
        entry = rule.entry(index)
        if isinstance(entry, Vjp):
            return
        name += f" ({entry.reason})" if isinstance(entry, missing) else f" (input {index} has no derivative)"
    nodes = path.refused.setdefault(name, [])
    if node not in nodes:
        nodes.append(node)


def refuse(path: Path, where: str, between: str) -> None:
    """Raise with the whole list if any operator on the path lacks a rule."""
    if not path.refused:
        return
    nodes = {shown(name): [shown(label(node)) for node in reversed(found)] for name, found in path.refused.items()}
    width = max(map(len, nodes))
    rows = [
        f"  {name:{width}}  {len(found)} node{'s'[: len(found) > 1]}, first {found[0]!r}"
        for name, found in sorted(nodes.items())
    ]
    last = shown(label(max((node for found in path.refused.values() for node in found), key=path.nodes.index)))
    raise UnsupportedOperators(
        f"{where}: {len(nodes)} operator{'s'[: len(nodes) > 1]} {between} without a gradient rule:\n"
        + "\n".join(rows)
        + f"\nChoose a target layer after {last!r}, or register a rule (cam_onnx.autodiff.table).",
        nodes,
    )


def label(node: ir.Node) -> str:
    """Return the node's name, or its first output's where it has none."""
    return node.name or node.outputs[0].name or node.op_type


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
    for value, seed in seeds.items():
        if value in path.values:
            pending[value].append(seed)

    def settle(value: ir.Value) -> Val | None:
        parts = pending[value]
        if not parts:
            return None
        op.scope = f"grad/{value.name}"
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        if len(parts) > 1 or total.name.startswith(op.scope + "/"):
            op.rename(total, f"grad/{value.name}")
        op.shaped_as(total, value)
        pending[value] = [total]
        return total

    for node in reversed(path.nodes):
        gs = [settle(y) for y in node.outputs]
        if any(g is not None for g in gs):
            for index, x in enumerate(node.inputs):
                if x is not None and x in path.values:
                    part = _apply(op, table, node, index, gs)
                    if part is not None:
                        pending[x].append(part)
    return {value: total for value in wrt if (total := settle(value)) is not None}


def _apply(op: Emitter, table: Table, node: ir.Node, index: int, gs: list[Val | None]) -> Val | None:
    """Call one vjp; type and shape of the result are made the input's."""
    rule = table.find(node.op_type, op.opset, node.domain)
    assert rule is not None
    entry, x = rule.entry(index), node.inputs[index]
    if not isinstance(entry, Vjp) or x is None:
        return None
    op.scope = f"grad/{x.name}"
    primals, attributes = _arguments(op, node, entry)
    ys = [op.primal(y) for y in node.outputs]
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
    wanted = cotangent_type(x.dtype)
    if wanted is not None and result.dtype not in (wanted, None):
        result = op.Cast(result, to=wanted)
    return result


def _arguments(op: Emitter, node: ir.Node, entry: Vjp) -> tuple[list[Val | None], dict[str, Any]]:
    """Return inputs and attributes in the newest spelling: defaults filled in, absent inputs as None."""
    primals = [None if x is None else op.primal(x) for x in node.inputs]
    attributes = dict(spelling.defaults(node.op_type, op.opset, node.domain))
    for name, attribute in node.attributes.items():
        attributes[name] = attribute.as_string() if attribute.type == ir.AttributeType.STRING else attribute.value
    was = spelling.moved(node.op_type, op.opset)
    if was is not None:
        axes = attributes.pop(was[0], None)
        if axes is not None:
            primals.append(op.constant(np.array(axes, np.int64)))
    later = spelling.defaults(node.op_type, spelling.newest(node.domain), node.domain)
    names = [name for name in entry.parameters if name not in attributes]
    attributes |= {name: later[name] for name in names if name in later}
    inputs = sum(name not in later for name in names)
    return primals + [None] * max(0, inputs - len(primals)), attributes
