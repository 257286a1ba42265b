"""What an operator computes inside: the body of a function, or the subgraphs of If, Loop and Scan, written out.

The user's node stays. A copy of its body, under names of its own and typed where the node stands, is what the walk
goes through; what the derivative reads of it is emitted, and so recomputed once. Nothing here recurses over calls:
the walk meets a call inside a body as it meets any other node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx
import onnx_ir as ir

from cam_onnx.autodiff import spelling
from cam_onnx.autodiff.body_types import (
    entering,
    is_sequence,
    put_behind,
    ranked,
    ranks,
    tells,
    type_of,
    widened,
    without_symbols,
)
from cam_onnx.autodiff.functions import domain_of, key, with_attributes
from cam_onnx.autodiff.raising import Unraisable, respelled
from cam_onnx.autodiff.subgraphs import reads
from cam_onnx.autodiff.writing import Body, Infer, Writer
from cam_onnx.errors import shown

__all__ = ["Bodies", "Body"]


DEEP = 6  # Loops within Loops: further in, shapes that inference leaves open stay open


class Bodies(Writer):
    """The bodies of one model's nodes; each is written out once.

    Attributes
    ----------
    faults : dict
        Node to the reason why its body cannot be written out.
    taken_branch : dict
        An If whose condition is known to the name of the branch that it takes: it stands for that one's nodes.
    """

    def __init__(self, proto: onnx.ModelProto, opset: int, taken: set[str], infer: Infer) -> None:
        super().__init__(proto, opset, taken, infer)
        self.faults: dict[ir.Node, str] = {}
        self.taken_branch: dict[ir.Node, str] = {}
        self._done: dict[ir.Node, Body | None] = {}
        self._subgraphs: dict[ir.Node, list[Body]] = {}
        self._tried: set[str] = set()
        self._depth = 0

    def function(self, node: ir.Node) -> Body | None:
        """Return the body of a call: of a function of the model, or the standard's own definition of an operator."""
        if node not in self._done:
            self._done[node] = self._function(node)
        return self._done[node]

    def branch(self, node: ir.Node) -> Body:
        """Return the body of the branch that an If always takes."""
        if node not in self._done:
            self._done[node] = self._branch(node)
        body = self._done[node]
        assert body is not None
        return body

    def lowered(
        self,
        node: ir.Node,
        nodes: Sequence[onnx.NodeProto],
        outputs: Sequence[str],
        tensors: Any,
        read: Sequence[ir.Value],
    ) -> Body:
        """Return a body that a rule gives in terms of other operators, which read values of the graph."""
        names = {x.name: x.name for x in read if x.name}
        body = self.write("lowered", node, nodes, names, [], outputs, tensors, read)
        self._done[node] = body
        self._tie(node, body)
        return body

    def known(self, node: ir.Node) -> Body | None:
        """Return what was written out for a node before."""
        return self._done.get(node)

    def subgraphs(self, node: ir.Node, tie: bool = False) -> list[Body]:
        """Return the bodies of the node's graphs, in the order of the attributes' names.

        `tie`: their outputs are the node's outputs (If).
        """
        if node not in self._subgraphs:
            found = []
            for name in sorted(node.attributes):
                attribute = node.attributes[name]
                if attribute.type == ir.AttributeType.GRAPH:
                    body = self._subgraph(node, name, attribute.value)
                    if tie:
                        self._tie(node, body)
                    found.append(body)
            self._subgraphs[node] = found
        return self._subgraphs[node]

    def _function(self, node: ir.Node) -> Body | None:
        proto = self.functions.get(key(node.domain, node.op_type, node.overload or ""))
        where = "body"
        attributes: dict[str, onnx.AttributeProto] = {}
        if proto is None:
            proto, attributes = self._standard(node)
            if proto is None:
                return None
        else:
            where = f"function {shown(proto.name)}"
        call = ir.serde.serialize_node(node)
        bound = dict(zip(proto.input, call.input, strict=False))
        names = {formal: bound.get(formal, "") for formal in proto.input}
        attributes |= {a.name: a for a in proto.attribute_proto}
        attributes |= {a.name: a for a in call.attribute}
        nodes = [with_attributes(n, attributes) for n in proto.node]
        outputs = list(proto.output)[: len(call.output)]
        own = {domain_of(o.domain): o.version for o in proto.opset_import}
        try:
            nodes = respelled(nodes, own.get("", self.opset), self.opset, self.fresh)
        except Unraisable as error:
            self.faults[node] = str(error)
            return None
        self.imports = own | self.imports
        body = self.write(where, node, nodes, names, [], outputs, ())
        self._tie(node, body)
        return body

    def _standard(self, node: ir.Node) -> tuple[onnx.FunctionProto | None, dict[str, onnx.AttributeProto]]:
        """Return the definition that the standard itself gives of an operator, and the defaults of its attributes.

        At the model's opset, or the newest below at which the standard gives one.
        """
        if node.domain not in ("", "ai.onnx"):
            return None, {}
        schema: Any = spelling.schema(node.op_type, self.opset)  # the stubs lack its functions
        if schema is None:
            return None, {}
        if schema.has_function:
            known = [v for v in schema.function_opset_versions if v <= self.opset]
            data = schema.get_function_with_opset_version(max(known)) if known else None
        elif schema.has_context_dependent_function:
            known = [v for v in schema.context_dependent_function_opset_versions if v <= self.opset]
            types = [type_of(x).SerializeToString() if x is not None else b"" for x in node.inputs]
            call = ir.serde.serialize_node(node).SerializeToString()
            data = schema.get_context_dependent_function_with_opset_version(max(known), call, types) if known else None
        else:
            return None, {}
        if not data:
            return None, {}
        proto = onnx.FunctionProto()
        proto.ParseFromString(data)
        given = {name: a.default_value for name, a in schema.attributes.items()}
        return proto, {name: a for name, a in given.items() if a.type != onnx.AttributeProto.UNDEFINED}

    def told(self, graph: ir.Graph) -> dict[str, onnx.TypeProto]:
        """Return the types of what Loops, calls, Split and reductions give, where inference leaves their shapes open.

        A Loop's iterations may change them; sizes and axes may be computed.
        """
        found: dict[str, onnx.TypeProto] = {}
        if self._depth >= DEEP:
            return found
        self._depth += 1
        for node in graph:
            if key(node.domain, node.op_type, node.overload or "") in self.functions:
                found |= self._told_by(self._function, node)
                continue
            if node in self.taken_branch:
                found |= self._told_by(self._branch, node)
            if node.domain not in ("", "ai.onnx"):
                continue
            found |= {name: type_ for name, type_ in ranks(node).items() if name not in self._tried}
            self._tried.update(found)
            if node.op_type != "Loop":
                continue
            open_ = [i for i, y in enumerate(node.outputs) if y.name and (y.shape is None or is_sequence(y))]
            known = [node.outputs[i].name for i in open_ if node.outputs[i].name in self._tried]
            states = [x for x in node.inputs[2:] if x is not None and not is_sequence(x)]
            if not open_ or known or any(x.shape is None for x in states):
                continue
            [body] = self.subgraphs(node)
            del self._subgraphs[node]
            count = len(node.inputs) - 2
            for i in open_:
                y, inner = node.outputs[i], body.outputs[1 + i] if i >= count else body.inputs[2 + i]
                self._tried.add(y.name or "")
                put = put_behind(inner, body.outputs[1 + i]) if i < count else None
                if put is not None and put.shape is not None and put.dtype is not None:
                    y.meta["put"] = [d if isinstance(d, int) else None for d in put.shape]
                    if y.shape is None:
                        tensor = onnx.helper.make_tensor_type_proto(int(put.dtype), y.meta["put"])
                        found[y.name or ""] = onnx.helper.make_sequence_type_proto(tensor)
                    continue
                if inner.shape is not None and inner.dtype is not None:
                    dims = [d if isinstance(d, int) else d.value for d in inner.shape]
                    shape = dims if i < count else [None, *dims]
                    found[y.name or ""] = onnx.helper.make_tensor_type_proto(int(inner.dtype), shape)
        self._depth -= 1
        return found

    def _told_by(self, write: Callable[[ir.Node], Body | None], node: ir.Node) -> dict[str, onnx.TypeProto]:
        """Return the types of what a body gives where inference leaves them open: there may be a Loop in it."""
        open_ = [y for y in node.outputs if y.name and y.shape is None and y.name not in self._tried]
        if not open_ or any(x.shape is None for x in reads(node)):
            return {}
        self._tried.update(y.name for y in open_ if y.name)
        try:
            write(node)  # ties its outputs; what is written out for good comes later, with these types
        except spelling.NeedsOpset:  # it may not be on the way
            return {}
        return {y.name or "": type_of(y) for y in open_ if y.shape is not None}

    def _branch(self, node: ir.Node) -> Body:
        name = self.taken_branch[node]
        body = self._subgraph(node, name, node.attributes[name].as_graph())
        self._tie(node, body)
        return body

    def _subgraph(self, node: ir.Node, name: str, graph: ir.Graph) -> Body:
        proto = ir.serde.serialize_graph(graph)
        names = {x.name: x.name for x in reads(node) if x.name}
        outputs = [o.name for o in proto.output]
        inputs = [onnx.ValueInfoProto(name=i.name, type=without_symbols(i.type)) for i in proto.input]
        for info, type_ in zip(inputs, entering(node, len(inputs)), strict=True):
            if type_ is not None and (ranked(type_) or not ranked(info.type)):
                info.type.CopyFrom(type_)
        while True:
            body = self.write(name, node, proto.node, dict(names), inputs, outputs, proto.initializer)
            if node.op_type != "Loop" or not widened(inputs[2:], body.inputs[2:], body.outputs[1:]):
                return body

    def _tie(self, node: ir.Node, body: Body) -> None:
        """Let what is emitted read the node's outputs, not the body's, where their shapes tell as much."""
        for inner, outer in zip(list(body.outputs), node.outputs, strict=False):
            if not outer.name:
                continue
            if outer.dtype is None:
                outer.type = inner.type
            if outer.shape is None and (node in self.taken_branch or "then_branch" not in node.attributes):
                outer.shape = inner.shape
            if outer.dtype == inner.dtype and tells(outer.shape, inner.shape):
                body.same[inner] = outer
