"""The default layer where attention lies behind the last value with spatial axes: found, or asked about."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

import cam_onnx
from cam_onnx.autodiff.model import load
from cam_onnx.graph.inspect import inspect
from cam_onnx.graph.layers import find_layers
from cam_onnx.graph.locate import find_score
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
    weights = dict(quarter=np.full((1, 4), 0.25, "f4"), third=np.array([[0, 0, 1, 0]], "f4"))
    for name, weight in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
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
    "the mean, by constant weights": (
        ["m = MatMul(quarter, mixed)", "mean = Squeeze(m, axis)"], "mixed", "the last tokens before the pooling",
    ),
    "one token, by constant weights": (
        ["m = MatMul(third, mixed)", "mean = Squeeze(m, axis)"], "flat", "enters the last attention",
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


def test_what_is_not_known_to_be_read_is_asked_about():
    model = with_end("k = Gather<axis=1>(mixed, all)", "mean = ReduceSum<keepdims=0>(k, axis)")
    with pytest.raises(cam_onnx.LayerNotFound, match=r"ends at .*reads 'k', .*not known which.*candidates: mixed"):
        cam_onnx.convert(model)


def network(nodes: str, signature: str = "float[n,3,8,8] x", **weights: np.ndarray) -> onnx.ModelProto:
    """A network whose score is (n, 5)."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g ({signature}) => (float[n,5] y) {{{nodes}}}'
    )
    numbers = dict(axis=[1], space=[2, 3], listed=[0, 6, -1], one=[1], zero=[0], first=0, end=[2**63 - 1])
    given = {name: np.array(value) for name, value in numbers.items()} | weights
    rng = np.random.default_rng(0)
    given |= dict(
        w=rng.normal(size=(6, 3, 4, 4)), w1=rng.normal(size=(6, 6, 1, 1)), v=rng.normal(size=(6, 5)),
        v2=rng.normal(size=(12, 5)), w2=rng.normal(size=(6, 6)), rowed=np.array([-1, 6]), back=np.array([2, 5, 6]),
        finer=np.array([[0, 0, 1], [0, 1, 1]]), two=np.array(2.0), w3=rng.normal(size=(6, 6, 3, 2)),
        shuffled=np.array([3, 1, 0, 2]), columns=np.array([0, 0, 12]), wl=rng.normal(size=(1, 20, 12)),
        rl=rng.normal(size=(1, 20, 5)), groups=np.array([0, 1, -1]), triples=np.array([0, 2, -1]),
        gridded=np.array([-1, 6, 2, 2]), unit=np.ones(1), nought=np.zeros(1), units=np.ones(2), noughts=np.zeros(2),
    )  # fmt: skip
    for name, value in given.items():
        if any(name in node.input for node in model.graph.node):
            array = value if value.dtype == np.int64 else value.astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


CONV = "a = Conv<kernel_shape=[4,4], strides=[4,4]>(x, w) r = Relu(a) "
LIST = CONV + "f = Reshape(r, listed) t = Transpose<perm=[0,2,1]>(f) "

# where extent ends -> the layer, None: asked
ENDINGS = {
    "a gate before the pooling": (
        CONV + "p = GlobalAveragePool(r) q = Sigmoid(p) g = Mul(r, q) m = ReduceMean<keepdims=0>(g, space) "
        "y = MatMul(m, v)", "g",
    ),
    "two stages, each pooled": (
        CONV + "b = Conv<kernel_shape=[1,1]>(r, w1) m1 = ReduceMean<keepdims=0>(r, space) "
        "m2 = ReduceMean<keepdims=0>(b, space) m = Concat<axis=1>(m1, m2) y = MatMul(m, v2)", "r",
    ),
    "the mean and the maximum": (
        CONV + "m1 = ReduceMean<keepdims=0>(r, space) m2 = ReduceMax<keepdims=0>(r, space) "
        "m = Concat<axis=1>(m1, m2) y = MatMul(m, v2)", "r",
    ),
    "two pictures": (
        CONV + "b = Conv<kernel_shape=[4,4], strides=[4,4]>(x, w) s = Tanh(b) m1 = ReduceMean<keepdims=0>(r, space) "
        "m2 = ReduceMean<keepdims=0>(s, space) m = Concat<axis=1>(m1, m2) y = MatMul(m, v2)", None,
    ),
    "tokens without the class token": (
        LIST + "c = Concat<axis=1>(class, t) e = Tanh(c) s = Slice(e, one, end, axis) "
        "m = ReduceMean<keepdims=0>(s, axis) y = MatMul(m, v)", "s",
    ),
    "two attentions of one token to the same list": (
        LIST + """c1 = Concat<axis=1>(class, t) q1 = Gather<axis=1>(c1, zero) k1 = Transpose<perm=[0,2,1]>(c1)
        d1 = MatMul(q1, k1) p1 = Softmax(d1) z1 = MatMul(p1, c1) c2 = Concat<axis=1>(z1, t)
        q2 = Gather<axis=1>(c2, zero) k2 = Transpose<perm=[0,2,1]>(c2) d2 = MatMul(q2, k2) p2 = Softmax(d2)
        z2 = MatMul(p2, c2) m = Squeeze(z2, axis) y = MatMul(m, v)""", "t",
    ),
    "a class token behind a product of rows of tokens and samples": (
        LIST + """c = Concat<axis=1>(class, t) k = Transpose<perm=[0,2,1]>(c) d = MatMul(c, k) p = Softmax(d)
        z = MatMul(p, c) rows = Reshape(z, rowed) e = Gemm(rows, w2) u = Reshape(e, back)
        o = Gather<axis=1>(u, zero) m = Squeeze(o, axis) y = MatMul(m, v)""", "c",
    ),
    "an adaptive pooling to more places, written out": (
        CONV + "t = Transpose<perm=[2,3,0,1]>(r) rows = Gather<axis=0>(t, finer) s = ReduceSum<keepdims=0>(rows, zero) "
        "d = Div(s, two) q = Transpose<perm=[2,3,0,1]>(d) b = Conv<kernel_shape=[3,2]>(q, w3) "
        "m = ReduceMean<keepdims=0>(b, space) y = MatMul(m, v)", "r",
    ),
    "a recurrent layer over columns": (
        CONV + "c = Transpose<perm=[3,0,1,2]>(r) f = Reshape(c, columns) "
        "all, last, cell = LSTM<hidden_size=5>(f, wl, rl) y = Squeeze(last, zero)", "r",
    ),
    "a learned layer between what is not known and what is": (
        LIST + "k = Gather<axis=1>(t, shuffled) e = MatMul(k, w2) m = ReduceSum<keepdims=0>(e, axis) y = MatMul(m, v)",
        None,
    ),
    "normalised as one group: PoolFormer": (
        CONV + "b = Reshape(r, groups) i = InstanceNormalization(b, unit, nought) n = Reshape(i, gridded) "
        "m = ReduceMean<keepdims=0>(n, space) y = MatMul(m, v)", "n",
    ),
    "normalised in groups": (
        CONV + "b = Reshape(r, triples) i = InstanceNormalization(b, units, noughts) n = Reshape(i, gridded) "
        "m = ReduceMean<keepdims=0>(n, space) y = MatMul(m, v)", "n",
    ),
    "one position": (LIST + "m = Gather<axis=1>(t, first) y = MatMul(m, v)", "r"),
}  # fmt: skip


@pytest.mark.parametrize("row", ENDINGS)
def test_where_extent_ends_on_all_ways(row):
    nodes, layer = ENDINGS[row]
    model = network(nodes, **{"class": np.ones((2, 1, 6))} if "class" in nodes else {})
    if "class" in nodes:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    if layer is None:
        with pytest.raises(cam_onnx.LayerNotFound, match=r"candidates: |no value with spatial extent"):
            cam_onnx.convert(model)
    else:
        assert default(model)[0] == layer


def test_inspect_says_why():
    assert inspect(BUILDERS["gap_linear"]()).why == "the last value with spatial axes"
    model = BUILDERS["vit_class"]()
    [attention] = [node.name for node in model.graph.node if "mixed_1" in node.output]
    report = inspect(model)
    assert report.layer == "features"
    assert report.why == f"enters the last attention ({attention}), behind which one token is read"


def test_the_layer_can_still_be_named():
    assert cam_onnx.convert(ATTENTION, layers="patches").contract.layers[0].name == "patches"
