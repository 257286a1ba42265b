"""A layer whose rank shape inference does not find (behind a Loop) converts and runs all the same."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h

import cam_onnx

BODY = h.make_graph(
    [h.make_node("Identity", ["c"], ["again"]), h.make_node("Add", ["s", "s"], ["out"])],
    "body",
    [
        h.make_tensor_value_info("i", T.INT64, []),
        h.make_tensor_value_info("c", T.BOOL, []),
        h.make_tensor_value_info("s", T.FLOAT, None),
    ],
    [h.make_tensor_value_info("again", T.BOOL, []), h.make_tensor_value_info("out", T.FLOAT, None)],
)
GRAPH = h.make_graph(
    [
        h.make_node("Loop", ["trips", "go", "x"], ["looped"], body=BODY),
        h.make_node("Relu", ["looped"], ["layer"]),
        h.make_node("GlobalAveragePool", ["layer"], ["pooled"]),
        h.make_node("Flatten", ["pooled"], ["y"]),
    ],
    "loop",
    [h.make_tensor_value_info("x", T.FLOAT, ["n", 3, 4, 4])],
    [h.make_tensor_value_info("y", T.FLOAT, ["n", 3])],
    [h.make_tensor("trips", T.INT64, [], [2]), h.make_tensor("go", T.BOOL, [], [1])],
)
MODEL = h.make_model(GRAPH, opset_imports=[h.make_opsetid("", 18)], ir_version=8)


def test_a_layer_of_unknown_rank_converts_with_the_rank_that_its_axes_have():
    converted = cam_onnx.convert(MODEL, layers="layer")
    onnx.checker.check_model(converted.model, full_check=True)
    e = cam_onnx.Explainer(converted.to_bytes()).explain(inputs={"x": np.ones((2, 3, 4, 4), np.float32)}, target=1)
    assert e.activations.shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(e.gradients[0, :, 0, 0], [0, 1 / 16, 0])
