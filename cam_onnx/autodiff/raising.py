"""What onnx's version converter leaves out when a file is raised: bodies of functions, and old meanings.

The standard lets a function import another version than the model, as long as every operator in it is the same in
both. Where one is not, it is converted here, node by node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir

from cam_onnx.autodiff import spelling

__all__ = [
    "Unraisable",
    "declare_ranks",
    "each_channel",
    "keep_old_meanings",
    "keep_types",
    "respelled",
    "same_meaning",
]


class Unraisable(Exception):
    """A node cannot be written at the opset; the message says which and why."""


def respelled(
    nodes: Iterable[onnx.NodeProto], own: int, opset: int, fresh: Callable[[str], str]
) -> list[onnx.NodeProto]:
    """Return `nodes` of opset `own` as they are written at `opset`.

    Raises
    ------
    NeedsOpset
        `own` is the newer one, and an operator changed between them: the model has to be raised.
    Unraisable
        The version converter cannot, or an attribute refers to the function's.
    """
    result: list[onnx.NodeProto] = []
    for node in nodes:
        if same_meaning(node, own, opset):
            result.append(node)
        elif own > opset:
            raise spelling.NeedsOpset(own, f"{node.op_type} inside a function of opset {own}")
        else:
            result += _converted(node, own, opset, fresh)
    return result


def same_meaning(node: onnx.NodeProto, own: int, opset: int) -> bool:
    """Whether a node, subgraphs included, means the same at both opsets."""
    if own == opset:
        return True
    stack = [node]
    while stack:
        each = stack.pop()
        if each.domain in ("", "ai.onnx"):
            here, there = (spelling.schema(each.op_type, version) for version in (own, opset))
            changed = here is not None and (there is None or here.since_version != there.since_version)
            if changed and not _only_wider(each, own, opset):
                return False
        for attribute in each.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                stack.extend(graph.node)
    return True


def _only_wider(node: onnx.NodeProto, own: int, opset: int) -> bool:
    """Whether the operator only takes more types at the newer version: same inputs, same attributes and defaults."""
    here, there = spelling.schema(node.op_type, own), spelling.schema(node.op_type, opset)
    assert here is not None
    if there is None or node.op_type in _CHANGED:
        return False
    inputs = [[i.name for i in schema.inputs] for schema in (here, there)]
    return inputs[0] == inputs[1] and spelling.defaults(node.op_type, own) == spelling.defaults(node.op_type, opset)


# Same inputs, attributes and defaults, and yet another meaning.
_CHANGED = {"Softmax", "LogSoftmax", "Hardmax", "BatchNormalization", "GroupNormalization", "Resize", "Upsample"}


def _converted(node: onnx.NodeProto, own: int, opset: int, fresh: Callable[[str], str]) -> list[onnx.NodeProto]:
    if any(attribute.ref_attr_name for attribute in node.attribute):
        raise Unraisable(f"{node.op_type} of opset {own} with an attribute of the function must be raised to {opset}")
    model = onnx.ModelProto(ir_version=8)
    model.opset_import.add(domain="", version=own)
    graph = model.graph
    graph.name = "alone"
    graph.node.append(node)
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(node.input) if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    try:
        raised = onnx.version_converter.convert_version(model, opset)
    except Exception as error:  # RuntimeError, ConvertError, ...
        reason = str(error).strip().splitlines()[-1]
        raise Unraisable(f"{node.op_type} cannot be raised from opset {own} to {opset} ({reason})") from error
    names = {name: name for name in (*node.input, *node.output)}
    found = []
    for tensor in raised.graph.initializer:
        constant = onnx.helper.make_node("Constant", [], [names.setdefault(tensor.name, fresh(tensor.name))])
        constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)
        found.append(constant)
    for each in raised.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(each)
        copy.input[:] = [names.get(x, x) for x in each.input]
        copy.output[:] = [names.setdefault(y, fresh(y)) if y else "" for y in each.output]
        found.append(copy)
    return found


def each_channel(proto: onnx.ModelProto, values: Mapping[str | None, ir.Value]) -> None:
    """Say ``spatial=1`` where BatchNormalization has one number for a channel: MXNet's exporter wrote 0 and meant that.

    The standard has 0 for a number of each place, which have more axes. ONNX Runtime takes 0 as 1 where it folds the
    node into a convolution, and refuses it elsewhere.
    """
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            shapes = [values[name].shape if name in values else None for name in node.input[1:]]
            for attribute in node.attribute:
                if attribute.name == "spatial" and all(shape is not None and len(shape) == 1 for shape in shapes):
                    attribute.i = 1


_OF_RANK = {"LogSoftmax", "Softmax"}  # below opset 13 they flatten, which on the last axis is the same


def declare_ranks(proto: onnx.ModelProto, values: Mapping[str | None, ir.Value]) -> None:
    """Declare what a Softmax reads: of a rank that it does not know the converter flattens, and reshapes back."""
    told = {value.name for part in (proto.graph.value_info, proto.graph.input) for value in part}
    for node in proto.graph.node:
        x = values.get(node.input[0]) if node.op_type in _OF_RANK and node.input else None
        if x is not None and x.name and x.name not in told and x.shape is not None and x.dtype is not None:
            dims = [d if isinstance(d, int) else d.value for d in x.shape]
            proto.graph.value_info.append(onnx.helper.make_tensor_value_info(x.name, int(x.dtype), dims))
            told.add(x.name)


_BOUNDS = {"Clip": (1, 2), "Pad": (2,)}  # inputs of the type of what is read, which were attributes below opset 11


def keep_types(raised: onnx.ModelProto, values: Mapping[str | None, ir.Value]) -> None:
    """Give what the converter made of attributes the type that it has to have: it writes float32 for all."""
    made = {t.name: t for t in raised.graph.initializer if t.name not in values}
    made |= {n.output[0]: n.attribute[0].t for n in raised.graph.node
             if n.op_type == "Constant" and n.output[0] not in values}  # fmt: skip
    for node in raised.graph.node:
        x = values.get(node.input[0]) if node.op_type in _BOUNDS else None
        for i in _BOUNDS.get(node.op_type, ()):
            tensor = made.get(node.input[i]) if i < len(node.input) else None
            if x is not None and x.dtype is not None and tensor is not None and tensor.data_type != x.dtype:
                with np.errstate(over="ignore"):  # no bound at all is the largest number, then infinity
                    number = onnx.numpy_helper.to_array(tensor).astype(x.dtype.numpy())
                tensor.CopyFrom(onnx.numpy_helper.from_array(number, tensor.name))


def keep_old_meanings(original: onnx.ModelProto, raised: onnx.ModelProto) -> None:
    """Give Resize what Upsample and Resize meant below opset 11, Hardmax below 13, RoiAlign below 16, and Scan below 9.

    The converter leaves new defaults, takes the batch off Scan, and forgets Hardmax where it flattens for Softmax.
    Of nearest, which the standard left open, what ONNX Runtime does: up by the floor, down by the ceiling.
    """
    opset, now = (
        next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0) for model in (original, raised)
    )
    if opset < 16 <= now:
        _keep_old_roi_align(raised)
    if opset < 13 <= now:
        _keep_old_hardmax(raised)
    if opset < 9 <= now and any(node.op_type == "Scan" for node in raised.graph.node):
        _keep_old_scan(original, raised)
    if opset >= 11:
        return
    old = {y for node in original.graph.node if node.op_type in ("Upsample", "Resize") for y in node.output}
    constants = {t.name: t for t in raised.graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in raised.graph.node if n.op_type == "Constant"}
    for node in raised.graph.node:
        if node.op_type == "Resize" and old & set(node.output):
            scales = constants.get(node.input[2]) if len(node.input) > 2 else None
            down = scales is not None and (onnx.numpy_helper.to_array(scales) < 1).any()
            meaning = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil" if down else "floor"}
            kept = [a for a in node.attribute if a.name not in meaning]
            del node.attribute[:]
            node.attribute.extend([*kept, *(onnx.helper.make_attribute(k, v) for k, v in meaning.items())])


def _keep_old_scan(original: onnx.ModelProto, raised: onnx.ModelProto) -> None:
    """Give Scan its batch back, which the converter leaves out, also of the types of what it reads and gives."""
    graph = raised.graph
    for part, given in ((graph.input, original.graph.input), (graph.output, original.graph.output)):
        types = {value.name: value.type for value in given}
        for value in part:
            value.type.CopyFrom(types.get(value.name, value.type))
    del graph.value_info[:]
    for i, node in enumerate(graph.node):
        if node.op_type == "Scan":
            graph.node[i].CopyFrom(_batched(node))


def _batched(node: onnx.NodeProto) -> onnx.NodeProto:
    """Return the Scan of opset 8, whose first axis was a batch: a Scan over the batch of a Scan over the sequence."""
    own = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    body, label = own["body"], node.name or node.output[0]
    graph = onnx.GraphProto(name=f"{body.name}/batch")
    for names, part, formals in (
        (node.input, graph.input, body.input),
        (node.output, graph.output, body.output),
    ):
        for i, (name, formal) in enumerate(zip(names, formals, strict=True)):
            kind = formal.type.tensor_type.elem_type
            part.append(onnx.helper.make_tensor_value_info(f"{label}/{i}/{name}", kind, None))
    turned = {name: value for name, value in own.items() if name == "scan_input_directions"}
    count = own["num_scan_inputs"]
    inner, outer = (
        onnx.helper.make_node("Scan", names, given, name=node.name, body=each, num_scan_inputs=scanned, **more)
        for names, given, each, scanned, more in (
            ([i.name for i in graph.input], [o.name for o in graph.output], body, count, turned),
            (node.input, node.output, graph, len(node.input), {}),
        )
    )
    graph.node.append(inner)
    next(a for a in outer.attribute if a.name == "body").g.CopyFrom(graph)
    return outer


def _keep_old_hardmax(raised: onnx.ModelProto) -> None:
    """Give Hardmax its meaning below opset 13: of all axes from one on together."""
    graph = raised.graph
    for at in reversed([i for i, node in enumerate(graph.node) if node.op_type == "Hardmax"]):
        node = graph.node[at]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        x, y = node.input[0], node.output[0]
        sizes, flat, found = (f"{y}/old/{what}" for what in ("sizes", "flat", "found"))
        make = onnx.helper.make_node
        given = [make("Shape", [x], [sizes]), make("Flatten", [x], [flat], axis=axis)]
        behind = [make("Hardmax", [flat], [found], name=node.name, axis=-1), make("Reshape", [found, sizes], [y])]
        graph.node.pop(at)
        for each in reversed([*given, *behind]):
            graph.node.insert(at, each)


def _keep_old_roi_align(raised: onnx.ModelProto) -> None:
    """Give RoiAlign what it meant below opset 16, where it had no choice; the converter leaves the new default."""
    name = "coordinate_transformation_mode"
    for node in raised.graph.node:
        if node.op_type == "RoiAlign" and all(a.name != name for a in node.attribute):
            node.attribute.append(onnx.helper.make_attribute(name, "output_half_pixel"))
