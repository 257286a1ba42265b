"""Which newly read values lay inside a likely fusion of the runtime: said in the contract, statically.

Reading the inside of a fusion from outside makes the runtime keep it apart, and the original outputs may then
differ by float rounding (about one quantisation step in QDQ models).
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

__all__ = ["cut_fusions"]

_ACTIVATIONS = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Gelu"}
# producer -> consumers that runtimes merge with it
_FUSED = {
    "Conv": _ACTIVATIONS | {"Add", "Sum", "Mul", "BatchNormalization", "QuantizeLinear"},
    "ConvTranspose": {"Add", "BatchNormalization"},
    "BatchNormalization": _ACTIVATIONS | {"Add", "Sum"},
    "Gemm": _ACTIVATIONS | {"QuantizeLinear"},
    "MatMul": {"Add", "Mul", "Div", "QuantizeLinear", "Transpose"},
    "Add": {"LayerNormalization", "Erf", "Gelu", "Softmax", "QuantizeLinear"},
    "Pad": {"Conv", "MaxPool", "AveragePool"},
    "Transpose": {"MatMul"},
    "GlobalAveragePool": {"QuantizeLinear"},
    "AveragePool": {"QuantizeLinear"},
    "Mul": {"QuantizeLinear"},
    "Softmax": {"QuantizeLinear"},
    "Sigmoid": {"QuantizeLinear"},
    "LeakyRelu": {"QuantizeLinear"},
    "Concat": {"QuantizeLinear"},
    "QuantizeLinear": {"DequantizeLinear"},
    "DequantizeLinear": {"Conv", "MatMul", "Gemm", "Add", "Mul", "AveragePool", "GlobalAveragePool", "Concat"},
}


def cut_fusions(values: Iterable[ir.Value]) -> tuple[str, ...]:
    """Return the names of `values` that a fusion of producer and only consumer would have swallowed."""
    cut = []
    for value in values:
        node = value.producer()
        uses = [use for use in value.uses() if use.node.graph is not None]  # what we emit stands in no graph
        if node is None or value.is_graph_output() or len(uses) != 1 or not value.name:
            continue
        if uses[0].node.op_type in _FUSED.get(node.op_type, ()):
            cut.append(value.name)
    return tuple(sorted(set(cut)))
