"""A body, written out: a copy of its nodes under names of its own, typed where the node stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnx_ir as ir

from cam_onnx.autodiff.body_types import ranked
from cam_onnx.autodiff.functions import domain_of, key, reachable
from cam_onnx.autodiff.subgraphs import reads
from cam_onnx.errors import InvalidModel

__all__ = ["Body", "Writer", "constant_of", "label_of"]

AGAIN = "again/"  # in front of what is computed again
Infer = Callable[[onnx.ModelProto, str], dict[str, onnx.TypeProto]]


@dataclass
class Body:
    """A body, written out.

    Attributes
    ----------
    where : str
        For messages: "block_3 (function Block) / ".
    inputs : list of onnx_ir.Value
        Of a Loop's or Scan's body; a function's inputs are the values that the call reads.
    outputs : list of onnx_ir.Value
        Each given by a node of its own.
    nodes : list of onnx_ir.Node
    same : dict
        Inner values that are known by a name outside: outputs of the node, which need not be computed again.
    """

    where: str
    inputs: list[ir.Value] = field(default_factory=list)
    outputs: list[ir.Value] = field(default_factory=list)
    nodes: list[ir.Node] = field(default_factory=list)
    same: dict[ir.Value, ir.Value] = field(default_factory=dict)


class Writer:
    """Copies nodes under new names, types them, and ties them to the values that they read.

    Parameters
    ----------
    proto : onnx.ModelProto
    opset : int
        Of ai.onnx.
    taken : set of str
        Every name in the model, functions and subgraphs included; new ones are added.
    infer : callable
        Shape inference.
    """

    def __init__(self, proto: onnx.ModelProto, opset: int, taken: set[str], infer: Infer) -> None:
        self.opset, self.taken = opset, taken
        self.functions = {key(f.domain, f.name, f.overload): f for f in proto.functions}
        self.imports = {domain_of(o.domain): o.version for o in proto.opset_import} | {"": opset}
        self._infer = infer
        self._ir_version = proto.ir_version
        self._shared: dict[Any, ir.Value] = {}
        self._last: dict[str, int] = {}
        self._written = 0

    def write(
        self,
        where: str,
        node: ir.Node,
        nodes: Iterable[onnx.NodeProto],
        names: dict[str, str],
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[str],
        tensors: Iterable[onnx.TensorProto],
        more: Iterable[ir.Value] = (),
    ) -> Body:
        """Copy nodes under new names, infer their types, and tie what they read to the values outside.

        That is what the node reads, and `more`.
        """
        names = {"": "", **names}
        outside = {x.name: x for x in (*reads(node), *more) if x.name}
        model = onnx.ModelProto(ir_version=max(self._ir_version, 8))
        graph = model.graph
        graph.name = "body"
        for info in inputs:
            own = graph.input.add()
            own.CopyFrom(info)
            own.name = names[info.name] = self.fresh(info.name)
        for tensor in tensors:
            names[tensor.name] = self.fresh(tensor.name)
            own_tensor = graph.initializer.add()
            own_tensor.CopyFrom(tensor)
            own_tensor.name = names[tensor.name]
        labels = {}
        around = f"{label_of(node)} ({where}) / "
        for each in nodes:
            graph.node.append(self._renamed(each, names))
            name = around + (each.name or next(filter(None, each.output), each.op_type))
            labels[graph.node[-1].output[0] or graph.node[-1].name] = (
                name if len(name) < 240 else f"{name[:100]}...{name[-100:]}"
            )
        given = {y for n in graph.node for y in n.output}
        for i, name in enumerate(outputs):  # each output by a node of its own
            inner = names.get(name, name)
            if inner not in given or names.get(name, name) in [names.get(o, o) for o in outputs[:i]]:
                copy = onnx.helper.make_node("Identity", [inner], [self.fresh(name)])
                graph.node.append(copy)
                inner = copy.output[0]
            graph.output.add(name=inner)
        for name, value in outside.items():
            const = value.const_value
            if const is not None and const.size <= 64 and value.dtype is not None:
                graph.initializer.append(ir.serde.serialize_tensor(const))
                graph.initializer[-1].name = name
            else:
                graph.input.append(ir.serde.serialize_value(value))
        model.functions.extend(reachable(graph.node, self.functions))
        for domain, version in self.imports.items():
            model.opset_import.add(domain=domain, version=version)
        body = self._read(around, model, outside, len(inputs))
        for inside in body.nodes:
            inside.meta["label"] = labels.get(inside.outputs[0].name or "", around)
            inside.meta["outermost"] = node.meta.get("outermost", node)
        return body

    def _read(self, where: str, model: onnx.ModelProto, outside: Mapping[str, ir.Value], count: int) -> Body:
        names = [o.name for o in model.graph.output]
        graph = self._typed(where, model)
        while told := self.told(graph):
            model.graph.value_info.extend(onnx.ValueInfoProto(name=name, type=t) for name, t in told.items())
            graph = self._typed(where, model)
        inputs = list(graph.inputs)[:count]
        by_name = {v.name: v for v in (*inputs, *graph.inputs, *graph.initializers.values(), *_given(graph))}
        for name, value in outside.items():
            if name in by_name:
                by_name[name].replace_all_uses_with(value)
        for value in list(graph.initializers.values()):
            if value.name not in outside and value.const_value is not None:
                value.replace_all_uses_with(self._constant(value.const_value))
        body = Body(where, inputs)
        constants = []
        for node in list(graph):
            tensor = constant_of(node)
            if tensor is not None and node.outputs[0].name not in names:
                node.outputs[0].replace_all_uses_with(self._constant(tensor))
                constants.append(node)
            else:
                body.nodes.append(node)
        graph.remove(list(graph))
        body.outputs = [by_name[name] for name in names]
        return body

    def told(self, graph: ir.Graph) -> dict[str, onnx.TypeProto]:
        """Return types that the bodies of a graph's nodes tell, where inference left them open."""
        return {}

    def _typed(self, where: str, model: onnx.ModelProto) -> ir.Graph:
        try:
            types = self._infer(model, where)
        except InvalidModel:  # a body that does not fit its call still runs where it is not on the way
            types = {}
        self._own_symbols(model.graph, types)
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        del bare.graph.output[:]
        graph = ir.from_proto(bare).graph
        for value in (*graph.inputs, *graph.initializers.values(), *_given(graph)):
            found = types.get(value.name or "")
            if found is not None and found.WhichOneof("value"):
                value.type = ir.serde.deserialize_type_proto_for_type(found) or value.type
                shape = ir.serde.deserialize_type_proto_for_shape(found)
                value.shape = shape if shape is not None else value.shape
        return graph

    def _own_symbols(self, graph: onnx.GraphProto, types: Mapping[str, onnx.TypeProto]) -> None:
        """Make the names of sizes that inference invented here different from those that it invented elsewhere."""
        known = {d.dim_param for i in graph.input for d in i.type.tensor_type.shape.dim}
        self._written += 1
        for type_ in types.values():
            for dim in type_.tensor_type.shape.dim if ranked(type_) else ():
                if dim.dim_param and dim.dim_param not in known and "/" not in dim.dim_param:
                    dim.dim_param = f"{dim.dim_param}/{self._written}"

    def _constant(self, tensor: ir.TensorProtocol) -> ir.Value:
        """Return one value for all constants of that content: a body that is called often brings its weights once."""
        array = tensor.numpy()
        key = (str(tensor.dtype), array.shape, array.tobytes())
        if key not in self._shared:
            value = ir.Value(name=self.fresh(f"constant/{tensor.name or 'body'}"), const_value=tensor)
            value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(array.shape)
            self._shared[key] = value
        return self._shared[key]

    def fresh(self, name: str) -> str:
        """Return a name that the model does not have, for what is computed again."""
        base = name if name.startswith(AGAIN) else AGAIN + name
        unique, count = base, self._last.get(base, 1)
        while unique in self.taken:
            count += 1
            unique = f"{base}_{count}"
        self.taken.add(unique)
        self._last[base] = count
        return unique

    def _renamed(self, node: onnx.NodeProto, names: dict[str, str]) -> onnx.NodeProto:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [names.get(x, x) for x in node.input]
        for i, y in enumerate(node.output):
            if y:
                copy.output[i] = names[y] = self.fresh(y)
        if node.name:
            copy.name = self.fresh(node.name)
        for attribute in copy.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                self._rename_graph(graph, dict(names))
        return copy

    def _rename_graph(self, graph: onnx.GraphProto, names: dict[str, str]) -> None:
        for part in (*graph.input, *graph.initializer):
            names[part.name] = self.fresh(part.name)
            part.name = names[part.name]
        del graph.value_info[:]
        nodes = [self._renamed(node, names) for node in graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        for output in graph.output:
            output.name = names.get(output.name, output.name)


def _given(graph: ir.Graph) -> list[ir.Value]:
    return [y for node in graph for y in node.outputs]


def constant_of(node: ir.Node) -> ir.TensorProtocol | None:
    """Return the content of a Constant node that an initializer can hold."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    for name, attribute in node.attributes.items():
        if name == "value":
            return None if attribute.value.dtype == ir.DataType.STRING else attribute.value
        if name in ("value_float", "value_floats"):
            return ir.tensor(attribute.value, dtype=ir.DataType.FLOAT)
        if name in ("value_int", "value_ints"):
            return ir.tensor(attribute.value, dtype=ir.DataType.INT64)
    return None


def label_of(node: ir.Node) -> str:
    return node.meta.get("label") or node.name or node.outputs[0].name or node.op_type
