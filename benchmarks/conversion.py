"""How conversion grows with the graph. Imports are paid before: the first call is not measured."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from benchmarks.harness import Pair, benchmark

__all__ = ["chain"]


def chain(count: int) -> onnx.ModelProto:
    """Return `count` nodes in a row, Conv, Relu and a residual Add in turn, then pooling: few weights, many nodes."""
    weights = {
        "weight": np.random.default_rng(0).standard_normal((8, 8, 3, 3)) / 9,
        "bias": np.full(8, 0.1),
    }
    nodes, x, shortcut = [], "image", "image"
    for i in range(count):
        y, op_type = f"value_{i}", ("Conv", "Relu", "Add")[i % 3]
        if op_type == "Conv":
            nodes.append(helper.make_node("Conv", [x, "weight", "bias"], [y], name=f"Conv_{i}", pads=[1, 1, 1, 1]))
        elif op_type == "Relu":
            nodes.append(helper.make_node("Relu", [x], [y], name=f"Relu_{i}"))
        else:
            nodes.append(helper.make_node("Add", [x, shortcut], [y], name=f"Add_{i}"))
            shortcut = y
        x = y
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["logits"], name="flatten"))
    graph = helper.make_graph(
        nodes,
        f"chain_{count}",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 8, 16, 16])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 8])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def conversion(count: int) -> Pair:
    """Convert with the input as target layer, so that every node is on the path: the most there is to do."""
    import cam_onnx

    model = chain(count)
    return Pair(ours=lambda: cam_onnx.convert(model, layers=["image"]), per=count / 1000)


@benchmark("conversion-100", kind="seconds", goal=1.0, rounds=15)
def conversion_100() -> Pair:
    """Seconds per 1,000 nodes beside import: a chain of 100 (Conv, Relu, residual Add), down to its input."""
    return conversion(100)


@benchmark("conversion-1000", kind="seconds", goal=1.0, rounds=7)
def conversion_1000() -> Pair:
    """The same for a chain of 1,000."""
    return conversion(1000)


@benchmark("conversion-10000", kind="seconds", goal=1.0, rounds=3)
def conversion_10000() -> Pair:
    """The same for a chain of 10,000."""
    return conversion(10_000)


@benchmark("conversion-linear", kind="ratio", goal=1.25, rounds=3)
def conversion_linear() -> Pair:
    """One chain of 10,000 nodes over ten chains of 1,000: 1 is linear, 10 is quadratic."""
    long, short = conversion(10_000).ours, conversion(1000).ours
    return Pair(ours=long, baseline=lambda: [short() for _ in range(10)])
