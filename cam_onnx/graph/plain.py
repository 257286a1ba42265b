"""The plain model beside a converted one, and how far their outputs may lie apart where a runtime fuses differently."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx
from onnx import TensorProto

from cam_onnx.contract import Contract
from cam_onnx.graph.original import original

__all__ = ["Plain", "is_quantised", "plain"]

HALF = {TensorProto.FLOAT16: 2.0**-10, TensorProto.BFLOAT16: 2.0**-7}  # one unit in the last place
ROUNDING = {"QuantizeLinear", "DynamicQuantizeLinear", "QGemm", "QAttention"}


@dataclass(frozen=True)
class Plain:
    """A plain model.

    Attributes
    ----------
    model : bytes
    half : float or None
        The relative step of its 16-bit type, if it computes in one.
    quantised : bool
        Whether activations are rounded to integers on the way; weights alone may be.
    steps : dict of float
        Outputs that are dequantised as the last thing, and their quantisation steps.
    """

    model: bytes
    half: float | None = None
    quantised: bool = False
    steps: dict[str, float] = field(default_factory=dict)


def is_quantised(model: onnx.ModelProto) -> bool:
    """Whether activations are rounded to integers: such a model is a staircase."""
    nodes = (*model.graph.node, *(node for function in model.functions for node in function.node))
    return any(node.op_type in ROUNDING or node.op_type.startswith("QLinear") for node in nodes)


def plain(data: bytes, contract: Contract, name: str = "the model") -> Plain:
    """Return the plain model in a converted file: its raised form where it had to be raised.

    Raises
    ------
    ContractError
        See `cam_onnx.graph.original.original`.
    """
    proto = original(onnx.ModelProto.FromString(data), contract, name)
    graph = proto.graph
    types = {t.data_type for t in graph.initializer} | {v.type.tensor_type.elem_type for v in graph.input}
    types |= {a.i for node in graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to"}
    types |= {a.t.data_type for node in graph.node if node.op_type == "Constant" for a in node.attribute}
    scales = {t.name: t for t in graph.initializer if not t.dims and t.data_location != TensorProto.EXTERNAL}
    outputs = {output.name for output in graph.output}
    steps = {
        node.output[0]: float(onnx.numpy_helper.to_array(scales[node.input[1]]))
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.output[0] in outputs and node.input[1] in scales
    }
    return Plain(
        proto.SerializeToString(),
        max((HALF[t] for t in types if t in HALF), default=None),
        is_quantised(proto),
        steps,
    )
