"""The default layer is refused where attention lies behind the last value with spatial axes."""

from __future__ import annotations

import onnx.parser
import pytest

import cam_onnx

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


def test_attention_behind_the_last_spatial_value_is_asked_about():
    with pytest.raises(cam_onnx.LayerNotFound, match=r"behind 'patches'.*list of tokens \(at .*candidates: patches"):
        cam_onnx.convert(ATTENTION)


def test_the_layer_can_still_be_named():
    assert cam_onnx.convert(ATTENTION, layers="patches").contract.layers[0].name == "patches"
