"""Which value an emitted node may read: one of the graph, or one of a body, which is then computed again.

A body (of a function, of a subgraph) cannot be read from outside. Its nodes are copied into what is emitted, in their
order and once, as far as something reads them. In a subgraph, values of the graphs around are read by their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from cam_onnx.autodiff.subgraphs import reads
from cam_onnx.autodiff.val import Refused, Val

if TYPE_CHECKING:
    from cam_onnx.autodiff.emit import Emitter

__all__ = ["Again"]

_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


class Again:
    """The part of an `Emitter` that knows bodies.

    Attributes
    ----------
    within : Emitter or None
        The emitter of the graph around, if nodes are for a subgraph.
    nodes : list of onnx_ir.Node
        What was emitted.
    constants : dict
        Initializers to be added, shared with the graphs around.
    """

    def __init__(self, within: Emitter | None) -> None:
        self.within = within
        self.nodes: list[ir.Node] = []
        self.constants: dict[Any, Val] = {} if within is None else within.constants
        self._again: set[ir.Node] = set()
        self._emitted: set[ir.Node] = set()
        self._same: dict[ir.Value, ir.Value] = {}
        self._aliased: set[ir.Value] = set()
        self._constant: set[ir.Value] = set() if within is None else within._constant

    def fresh(self, name: str) -> str:
        """Return a name that is not taken."""
        raise NotImplementedError

    def adopt(self, nodes: Iterable[ir.Node], same: Mapping[ir.Value, ir.Value]) -> None:
        """Take nodes that may be computed again here: those of which a rule reads an output are emitted.

        Values in `same` are known by another name, and are not computed again.
        """
        self._again.update(node for node in nodes if node not in self._emitted)
        self._same.update(same)

    def resolve(self, value: ir.Value, named: bool = False) -> ir.Value:
        """Return the value that a node emitted here may read for `value`, computed again if it is of a body.

        `named`: it must have the very name, as nodes of a body read it by that.
        """
        while value in self._same and not named:
            value = self._same[value]
        if not named:
            value = _stored(value)
        if value in self._same and self._wholly_same(value):
            self._alias(value)
            return value
        producer = value.producer()
        if producer is not None and producer in self._again:
            self._compute_again(producer)
            return value
        if self.within is not None:
            return self.within.resolve(value, named)
        if producer is None and value.const_value is not None and value.graph is None and value not in self._constant:
            self._constant.add(value)  # of a body: an initializer now
            self.constants[value.name] = Val(self, value, primal=True)  # type: ignore[arg-type]
        return value

    def _wholly_same(self, value: ir.Value) -> bool:
        producer = value.producer()
        return producer is None or all(y in self._same for y in producer.outputs if y.name and y.uses())

    def _alias(self, value: ir.Value) -> None:
        """Give what is the same as a body's value the name of that one too."""
        if value in self._aliased:
            return
        self._aliased.add(value)
        copy = ir.node("Identity", [self.resolve(self._same[value])], name=self.fresh(f"{value.name}/Identity"))
        copy.outputs[0].name = value.name
        self.nodes.append(copy)

    def _compute_again(self, node: ir.Node) -> None:
        stack = [node]
        while stack:
            top = stack[-1]
            if top not in self._again:
                stack.pop()
                continue
            read = reads(top)
            waiting = [
                p
                for x in read
                if (p := x.producer()) is not None
                and p in self._again
                and not (x in self._same and self._wholly_same(x))
            ]
            if waiting:
                stack += waiting
                continue
            if top.op_type in _RANDOM and top.domain in ("", "ai.onnx"):
                raise Refused(f"{top.op_type} in a body would give other numbers when it is computed again")
            for x in read:
                self.resolve(x, named=True)
            self._again.discard(top)
            self._emitted.add(top)
            self.nodes.append(top)
            stack.pop()


def _stored(value: ir.Value) -> ir.Value:
    """Return the initializer that a value is another name of, else the value.

    PyTorch's older exporter writes equal weights once, and Identity for the others. ONNX Runtime (1.31) removes such a
    node although folding is about to read it once more, and then refuses the file.
    """
    node = value.producer()
    source = node.inputs[0] if node is not None and node.op_type == "Identity" and node.domain == "" else None
    return source if source is not None and source.is_initializer() else value
