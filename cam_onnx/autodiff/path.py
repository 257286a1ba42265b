"""What lies between: the nodes through which a derivative passes, and how subgraphs are tied to their nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from cam_onnx.autodiff.quantised import COPIES
from cam_onnx.autodiff.writing import Body
from cam_onnx.errors import UnsupportedOperators, shown

__all__ = ["Path", "Region", "givers", "label", "refuse"]


@dataclass
class Path:
    """What lies between `wrt` and `of`.

    Attributes
    ----------
    nodes : list of onnx_ir.Node
        In the order of the graph; instead of a call, the nodes of its body.
    values : set of onnx_ir.Value
        Which carry a derivative, `wrt` and `of` included.
    refused : dict
        Operator (with the reason) to the nodes on the path that have no rule.
    lost : list of str
        Where a derivative ends on the way: zero by definition, or a type without derivative.
    stands : dict
        Output of a body to the output of the call that it stands for: it takes that one's cotangent.
    same : dict
        Values of bodies that are known by another name.
    again : list of onnx_ir.Node
        Nodes of bodies: what is read of them is computed again.
    inside : dict
        If, Loop or Scan to the path through each of its subgraphs.
    open : set of onnx_ir.Node
        Whose range is not asked for: their cotangent passes also where the output is cut off. For the caller to fill.
    """

    nodes: list[ir.Node] = field(default_factory=list)
    values: set[ir.Value] = field(default_factory=set)
    refused: dict[str, list[ir.Node]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    stands: dict[ir.Value, ir.Value] = field(default_factory=dict)
    same: dict[ir.Value, ir.Value] = field(default_factory=dict)
    again: list[ir.Node] = field(default_factory=list)
    inside: dict[ir.Node, list[tuple[Region, Path]]] = field(default_factory=dict)
    open: set[ir.Node] = field(default_factory=set)

    def chain(self, y: ir.Value) -> list[ir.Value]:
        """Return an output of a node, the output of the call that it stands for, of the call around, and so on."""
        found = [y]
        while (y := self.stands.get(y)) is not None:  # type: ignore[assignment]
            found.append(y)
        return found

    def outputs(self, node: ir.Node) -> list[ir.Value]:
        """Return a node's outputs, and the calls' that they stand for."""
        return [each for y in node.outputs for each in self.chain(y)]


@dataclass
class Region:
    """How one subgraph is tied to its node.

    Attributes
    ----------
    body : Body
    entering : dict
        Input of the body to the value that enters there.
    leaving : dict
        Index of the node's output to the output of the body.
    carried : dict
        Output of the body to the input that it is in the next iteration.
    depends : dict
        Output of the body to what it depends on: inputs of the body, and values of outside.
    """

    body: Body
    entering: dict[ir.Value, ir.Value] = field(default_factory=dict)
    leaving: dict[int, ir.Value] = field(default_factory=dict)
    carried: dict[ir.Value, ir.Value] = field(default_factory=dict)
    depends: dict[ir.Value, set[ir.Value]] = field(default_factory=dict)

    def closure(self, outputs: Iterable[ir.Value]) -> tuple[set[ir.Value], set[ir.Value]]:
        """Return all outputs and sources on which `outputs` depend, over any number of iterations."""
        seen: set[ir.Value] = set()
        sources: set[ir.Value] = set()
        stack = list(outputs)
        while stack:
            output = stack.pop()
            if output in seen:
                continue
            seen.add(output)
            found = self.depends.get(output, set())
            if output in self.carried:  # after no iteration at all it is what entered
                found = found | {self.carried[output]}
            sources |= found
            stack += [o for o, x in self.carried.items() if x in found]
        return seen, sources

    def outside(self, source: ir.Value) -> ir.Value | None:
        """Return the value outside that a source is at first; None for the counter and the condition."""
        return self.entering.get(source) if source in self.body.inputs else source


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
    order = {outermost(node): i for i, node in enumerate(path.nodes)}
    last = max((outermost(node) for found in path.refused.values() for node in found), key=lambda n: order.get(n, -1))
    raise UnsupportedOperators(
        f"{where}: {len(nodes)} operator{'s'[: len(nodes) > 1]} {between} without a gradient rule:\n"
        + "\n".join(rows)
        + f"\nChoose a target layer after {shown(label(last))!r}, or register a rule (cam_onnx.autodiff.table).",
        nodes,
    )


_ADDED = {"Add": (0, 1), "QLinearAdd": (0, 3)}  # where the summands stand among the inputs
_PASSED = COPIES | {"Cast", "DequantizeLinear", "QuantizeLinear"}


def givers(value: ir.Value) -> Iterator[ir.Node]:
    """Yield the nodes from the value back to the one that computed it, a bias left aside.

    In front of that one, entries are only moved, read, and added a constant to.
    """
    node = value.producer()
    while node is not None:
        yield node
        places = _ADDED.get(node.op_type, (0,) if node.op_type in _PASSED and node.inputs else ())
        moving = [x for i in places if (x := node.inputs[i]) is not None and not _constant(x)]
        node = moving[0].producer() if len(moving) == 1 else None


def _constant(value: ir.Value) -> bool:
    """Whether a value is a weight, as it is, quantised or dequantised."""
    node = value.producer()
    if node is None:
        return value.const_value is not None or value.is_initializer()
    return node.op_type in ("Constant", "QuantizeLinear", "DequantizeLinear") and all(
        x is None or _constant(x) for x in node.inputs
    )


def label(node: ir.Node) -> str:
    """Return the node's name, or its first output's where it has none; in a body, behind that of the node around."""
    inside: str | None = node.meta.get("label")
    return inside or node.name or node.outputs[0].name or node.op_type


def outermost(node: ir.Node) -> ir.Node:
    """Return the node of the model itself in whose body a node stands."""
    found: ir.Node = node.meta.get("outermost", node)
    return found
