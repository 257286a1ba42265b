"""Linear models of ai.onnx.ml in standard operators: what skl2onnx puts behind a network, with its logits in reach.

LinearClassifier has its Softmax inside, so that no value of the file is what explains a class. Trees and support
vectors stay as they are: they have no gradient here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from cam_onnx.autodiff.functions import all_names
from cam_onnx.autodiff.typed import inferred

__all__ = ["DOMAIN", "written_out"]

DOMAIN = "ai.onnx.ml"
AFTER = {"SOFTMAX": ("Softmax", {"axis": 1}), "LOGISTIC": ("Sigmoid", {}), "NONE": ("Identity", {})}
NORMS = {"L1": 1, "L2": 2}


class _Writer:
    """Standard nodes and weights, whose values have names of their own."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.graph, self.taken, self.nodes = proto.graph, all_names(proto), list[onnx.NodeProto]()

    def fresh(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def weight(self, name: str, values: Any) -> str:
        tensor = onnx.numpy_helper.from_array(np.asarray(values), self.fresh(name))
        self.graph.initializer.append(tensor)
        return tensor.name

    def add(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        name = self.fresh(f"{output}/{op_type}")
        self.nodes.append(onnx.helper.make_node(op_type, inputs, [output], name, **attributes))
        return output


def written_out(proto: onnx.ModelProto, name: str) -> int:
    """Replace, in place, nodes of known operators that read a matrix of float32; return how many."""
    if not any(node.domain == DOMAIN and node.op_type in _WRITTEN for node in proto.graph.node):
        return 0
    types, writer, count = inferred(proto, name), _Writer(proto), 0
    for node in proto.graph.node:
        write = _WRITTEN.get(node.op_type) if node.domain == DOMAIN and _matrix(types.get(node.input[0])) else None
        known = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if write is not None and write(writer, node, known):
            count += 1
        else:
            writer.nodes.append(node)
    if count:
        del proto.graph.node[:]
        proto.graph.node.extend(writer.nodes)
    return count


def _matrix(kind: onnx.TypeProto | None) -> bool:
    """Whether this may be float32 of rank 2: behind another operator of the domain nothing is known."""
    if kind is None:
        return True
    tensor = kind.tensor_type
    rank = len(tensor.shape.dim) if tensor.HasField("shape") else 2
    return tensor.elem_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.FLOAT) and rank == 2


def _linear(writer: _Writer, node: onnx.NodeProto, known: dict[str, Any], output: str, rows: int) -> str:
    coefficients = np.array(known["coefficients"], np.float32).reshape(rows, -1)
    intercepts = np.array(known.get("intercepts") or [0] * rows, np.float32)
    weights = [writer.weight(f"{output}/coefficients", coefficients), writer.weight(f"{output}/intercepts", intercepts)]
    return writer.add("Gemm", [node.input[0], *weights], output, transB=1)


def _classifier(writer: _Writer, node: onnx.NodeProto, known: dict[str, Any]) -> bool:
    labels = known.get("classlabels_ints") or known.get("classlabels_strings") or []
    after = AFTER.get(known.get("post_transform", b"NONE").decode())
    if after is None or len(known.get("intercepts") or ()) != len(labels) or len(labels) < 2:
        return False  # with one row for two classes the runtime makes the other up
    label, scores = [*node.output, ""][:2]
    scores = scores or writer.fresh(f"{label}/scores")
    raw = _linear(writer, node, known, writer.fresh(f"{scores}/raw"), len(labels))
    writer.add(after[0], [raw], scores, **after[1])
    if label:
        strings = isinstance(labels[0], bytes)
        names = np.array([name.decode() for name in labels], object) if strings else np.array(labels, np.int64)
        best = writer.add("ArgMax", [raw], writer.fresh(f"{label}/best"), axis=1, keepdims=0)
        writer.add("Gather", [writer.weight(f"{label}/classes", names), best], label)
    return True


def _regressor(writer: _Writer, node: onnx.NodeProto, known: dict[str, Any]) -> bool:
    if known.get("post_transform", b"NONE") != b"NONE":
        return False
    _linear(writer, node, known, node.output[0], known.get("targets", 1))
    return True


def _scaler(writer: _Writer, node: onnx.NodeProto, known: dict[str, Any]) -> bool:
    name = node.output[0]
    offset, scale = (writer.weight(f"{name}/{key}", np.array(known[key], np.float32)) for key in ("offset", "scale"))
    writer.add("Mul", [writer.add("Sub", [node.input[0], offset], writer.fresh(f"{name}/centred")), scale], name)
    return True


def _normalizer(writer: _Writer, node: onnx.NodeProto, known: dict[str, Any]) -> bool:
    norm = NORMS.get(known.get("norm", b"MAX").decode())
    if norm is None:
        return False
    from_softmax = any(n.op_type == "Softmax" and n.output[0] == node.input[0] for n in writer.nodes)
    if from_softmax and norm == 1:  # which adds up to 1 already
        writer.add("Identity", [node.input[0]], node.output[0])
    else:
        writer.add("LpNormalization", [node.input[0]], node.output[0], axis=1, p=norm)
    return True


_WRITTEN: dict[str, Callable[[_Writer, onnx.NodeProto, dict[str, Any]], bool]] = {
    "LinearClassifier": _classifier,
    "LinearRegressor": _regressor,
    "Normalizer": _normalizer,
    "Scaler": _scaler,
}
