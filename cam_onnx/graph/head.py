"""The head: the part of a model from its target layers to the score, cut out as a model of its own.

Several targets of one picture cost one pass of the trunk and one of the head each; methods that change
activations run the head alone. What crosses the cut beside the layers (residual branches, shapes that depend on
the picture's size) becomes an input of the head and an output of the trunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import onnx
import onnx_ir as ir

from cam_onnx.autodiff.append import info
from cam_onnx.autodiff.gradient import at_lowest_opset
from cam_onnx.autodiff.model import Model
from cam_onnx.autodiff.quantised import scale_of
from cam_onnx.autodiff.subgraphs import reads
from cam_onnx.contract import Contract
from cam_onnx.errors import LayerNotFound
from cam_onnx.graph.candidates import Place
from cam_onnx.graph.held import ancestors, held_nodes
from cam_onnx.graph.locate import Score, fed
from cam_onnx.graph.rewrite import rewrite

__all__ = [
    "Head",
    "between",
    "constant_nodes",
    "cut_head",
    "extract",
    "is_constant",
    "with_real_layers",
]


@dataclass(frozen=True)
class Head:
    """A model cut in two at its target layers.

    Attributes
    ----------
    trunk : onnx.ModelProto
        From the inputs to every value in `crossing`.
    head : onnx.ModelProto
        From `crossing` to the contract's outputs.
    contract : Contract
        Of the head.
    crossing : tuple of str
    repeats : bool
        Whether a sample's crossing values may be repeated along the batch: all have the batch axis, symbolic. If
        not, the head runs once per target.
    folder : str or None
        Where external data lies.
    """

    trunk: onnx.ModelProto
    head: onnx.ModelProto
    contract: Contract
    crossing: tuple[str, ...]
    repeats: bool
    folder: str | None


def cut_head(data: bytes, folder: str | None, contract: Contract) -> Head:
    """Cut a plain or converted model at its contract's layers. External data was checked before.

    Raises
    ------
    LayerNotFound
        The model does not have what its contract names.
    """
    model = Model(onnx.ModelProto.FromString(data), folder)
    return at_lowest_opset(model, lambda prepared: _cut(prepared, contract))


def _halves(
    model: Model, contract: Contract
) -> tuple[onnx.ModelProto, onnx.ModelProto, list[ir.Value], dict[str, str]]:
    """Return trunk, head, the values that cross the cut, and under which names quantised layers do."""
    names = [layer.name for layer in contract.layers]
    for name in (*names, contract.score):
        if name not in model.values:
            raise LayerNotFound(f"{model.name}: the contract names {name!r}, which the model does not have")
    model, real = with_real_layers(model, names)
    layers = [model.values[real.get(name, name)] for name in names]
    score = model.values[contract.score]
    nodes = list(model.graph)
    inside = between(nodes, layers, score)
    given = {y for node in inside for y in node.outputs}
    constants = constant_nodes(nodes)
    crossing: list[ir.Value] = [layer for layer in layers if layer not in given]
    for node in inside:
        for x in reads(node):
            if x not in given and x not in crossing and not is_constant(x, constants):
                crossing.append(x)
    head = extract(model, inside, crossing, [score], constants)
    given_by_caller = [value for value in fed(model) if value.name != contract.roles["target"]]
    trunk = extract(model, ancestors(nodes, crossing), given_by_caller, crossing, constants)
    return trunk, head, crossing, real


def _cut(model: Model, contract: Contract) -> Head:
    trunk, head, crossing, real = _halves(model, contract)
    names = [layer.name for layer in contract.layers]
    score = model.values[contract.score]
    places = [Place(real.get(layer.name, layer.name), layer.axes) for layer in contract.layers]
    classes = Score(contract.score, contract.single, _classes(score, contract.single))

    part = Model(head, model.folder, model.name)
    converted, own = rewrite(part, classes, places, "required")
    own = own.with_(layers=tuple(replace(layer, name=name) for layer, name in zip(own.layers, names, strict=True)))
    if "image" in contract.roles:  # of the whole model, whose grids of tokens follow from its size
        own.roles["image"] = contract.roles["image"]
    batches = [None if v.shape is None or len(v.shape) == 0 else v.shape[0] for v in (*crossing, score)]
    symbol = None if contract.single else batches[-1]
    repeats = symbol is not None and not isinstance(symbol, int) and all(batch == symbol for batch in batches)
    return Head(trunk, converted, own, tuple(v.name or "" for v in crossing), repeats, model.folder)


def with_real_layers(model: Model, names: Sequence[str]) -> tuple[Model, dict[str, str]]:
    """Cut quantised layers at the real numbers that they stand for: a head is fed activations, not integers.

    What reads such a layer then reads it dequantised and quantised again, which changes no integer.
    """
    real: dict[str, str] = {}
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    nodes, taken = proto.graph.node, model.names()
    for name in names:
        value = model.values[name]
        scale = scale_of(value)
        if scale is None or scale.scale is None:
            continue
        real[name], again = (f"{name}/{what}" for what in ("real", "again"))
        if {real[name], again} & taken:
            raise LayerNotFound(
                f"{model.name}: the layer {name!r} cannot be cut off: {real[name]!r} is a value already"
            )
        for node in nodes:
            node.input[:] = [again if x == name else x for x in node.input]
        given = [v.name or "" for v in (scale.scale, scale.zero_point) if v is not None]
        early = value.dtype in (ir.DataType.INT16, ir.DataType.UINT16) and model.opset < 21
        options: dict[str, Any] = {"axis": scale.axis, "domain": "com.microsoft" if early else ""}
        place = next(i for i, node in enumerate(nodes) if name in node.output) + 1
        for x, op_type, y in ((real[name], "QuantizeLinear", again), (name, "DequantizeLinear", real[name])):
            nodes.insert(place, onnx.helper.make_node(op_type, [x, *given], [y], **options))
    if not real:
        return model, real
    return model.of(proto), real


def between(nodes: Sequence[ir.Node], layers: Sequence[ir.Value], score: ir.Value) -> list[ir.Node]:
    """Nodes that depend on a layer and that the score depends on, but for those that are held."""
    behind, reached, apart = set(layers), [], held_nodes(nodes, score)
    for node in nodes:
        if node not in apart and any(x in behind for x in reads(node)):
            reached.append(node)
            behind.update(node.outputs)
    return ancestors(reached, [score])


def constant_nodes(nodes: Sequence[ir.Node]) -> dict[ir.Value, ir.Node]:
    """Values that depend on no input, and the node that gives each."""
    found: dict[ir.Value, ir.Node] = {}
    for node in nodes:
        if not node.op_type.startswith("Random") and all(is_constant(x, found) for x in reads(node)):
            found.update((y, node) for y in node.outputs)
    return found


def is_constant(value: ir.Value, constants: dict[ir.Value, ir.Node]) -> bool:
    return value in constants or value.is_initializer()


def extract(
    model: Model,
    nodes: Sequence[ir.Node],
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    constants: dict[ir.Value, ir.Node],
) -> onnx.ModelProto:
    """Return a model of `nodes`, with the constants that they read."""
    needed = set(nodes)
    stack = list(nodes)
    while stack:
        for x in reads(stack.pop()):
            if x in constants and constants[x] not in needed:
                needed.add(constants[x])
                stack.append(constants[x])
    names = {x.name for node in needed for x in reads(node)}
    original = {tuple(node.output): node for node in model.proto.graph.node}
    part = onnx.ModelProto(ir_version=model.proto.ir_version)
    part.opset_import.extend(model.proto.opset_import)
    part.functions.extend(model.proto.functions)
    graph = part.graph
    graph.name = model.proto.graph.name or "part"
    # outputs identify a node in SSA form
    graph.node.extend(original[tuple(y.name or "" for y in node.outputs)] for node in model.graph if node in needed)
    graph.initializer.extend(t for t in model.proto.graph.initializer if t.name in names)
    graph.sparse_initializer.extend(t for t in model.proto.graph.sparse_initializer if t.values.name in names)
    given = {y for node in graph.node for y in node.output}
    initial = {t.name for t in graph.initializer}
    graph.input.extend(_typed(v) for v in inputs if v.name not in initial and v.name not in given)
    graph.output.extend(_typed(v) for v in outputs)
    return part


def _typed(value: ir.Value) -> onnx.ValueInfoProto:
    dims = None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]
    return info(value.name or "", value.dtype or ir.DataType.FLOAT, dims)


def _classes(score: ir.Value, single: bool) -> int | None:
    if score.shape is None:
        return None
    total = 1
    for d in list(score.shape)[0 if single else 1 :]:
        if not isinstance(d, int):
            return None
        total *= d
    return total
