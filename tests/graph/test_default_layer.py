"""The default layer where attention lies behind the last value with spatial axes: found, or asked about."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

import cam_onnx
from cam_onnx.autodiff.model import load
from cam_onnx.graph.inspect import inspect
from cam_onnx.graph.locate import find_layers, find_score
from models.builders import BUILDERS

ATTENTION = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["": 18]>'
    """ g (float[n,3,8,8] x) => (float[n,2] y) {
      patches = Conv<kernel_shape=[4,4], strides=[4,4]>(x, w)
      flat = Reshape(patches, tokens)
      t = Transpose<perm=[0,2,1]>(flat)
      scores = MatMul(t, flat)
      p = Softmax(scores)
      mixed = MatMul(p, t)
      mean = ReduceMean<keepdims=0>(mixed, axis)
      y = MatMul(mean, v)
    }"""
)
ATTENTION.graph.initializer.extend(
    [
        onnx.helper.make_tensor("w", 1, [6, 3, 4, 4], [0.01 * i for i in range(288)]),
        onnx.helper.make_tensor("v", 1, [6, 2], [0.1 * i for i in range(12)]),
        onnx.helper.make_tensor("tokens", 7, [3], [0, 6, -1]),
        onnx.helper.make_tensor("axis", 7, [1], [1]),
    ]
)


def with_end(*nodes: str) -> onnx.ModelProto:
    """The network with another end than the mean of its tokens; its last node stays."""
    model = onnx.ModelProto()
    model.CopyFrom(ATTENTION)
    old = [node for node in model.graph.node if node.op_type == "ReduceMean"]
    assert [node.output[0] for node in old] == ["mean"]
    model.graph.node.remove(old[0])
    for node in nodes:
        model.graph.node.insert(len(model.graph.node) - 1, onnx.parser.parse_node(node))
    numbers = dict(zero=[0], first=0, all=list(range(4)), start=[0], stop=[1])
    for name, value in numbers.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full((1, 4), 0.25, "f4"), "quarter"))
    return model


def default(model: onnx.ModelProto) -> tuple[str, str]:
    loaded = load(model)
    [place] = find_layers(loaded, None, find_score(loaded, None))
    return place.name, place.why


ENDS = {
    "the mean": (["mean = ReduceMean<keepdims=0>(mixed, axis)"], "mixed", "the last tokens before the pooling"),
    "the mean, by a global pooling": (
        ["u = Transpose<perm=[0,2,1]>(mixed)", "pooled = GlobalAveragePool(u)", "mean = Flatten(pooled)"],
        "u", "the last tokens before the pooling",
    ),
    "one token, by Gather": (["mean = Gather<axis=1>(mixed, first)"], "flat", "enters the last attention"),
    "one token, by Slice": (
        ["s = Slice(mixed, start, stop, axis)", "mean = Squeeze(s, axis)"], "flat", "enters the last attention",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ENDS)
def test_how_tokens_are_read_decides(row):
    nodes, layer, why = ENDS[row]
    found = default(with_end(*nodes))
    assert found[0] == layer
    assert why in found[1]


@pytest.mark.parametrize(
    "nodes",
    [
        ["m = MatMul(quarter, mixed)", "mean = Squeeze(m, axis)"],  # weights that nobody can tell from a choice
        ["k = Gather<axis=1>(mixed, all)", "mean = ReduceSum<keepdims=0>(k, axis)"],
    ],
)
def test_what_is_not_known_to_be_read_is_asked_about(nodes):
    with pytest.raises(
        cam_onnx.LayerNotFound, match=r"behind 'patches'.*list of tokens \(at .*not known; name .*candidates: mixed"
    ):
        cam_onnx.convert(with_end(*nodes))


def test_inspect_says_why():
    assert inspect(BUILDERS["gap_linear"]()).why == "the last value with spatial axes"
    model = BUILDERS["vit_class"]()
    [attention] = [node.name for node in model.graph.node if "mixed_1" in node.output]
    report = inspect(model)
    assert report.layer == "features"
    assert report.why == f"enters the last attention ({attention}), behind which one token is read"


def test_the_layer_can_still_be_named():
    assert cam_onnx.convert(ATTENTION, layers="patches").contract.layers[0].name == "patches"
