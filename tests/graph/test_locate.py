"""Where the score and the target layers are found, and what is said where they are not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from cam_onnx import Disconnected, Explainer, InputError, LayerNotFound, ScoreNotFound, convert
from cam_onnx.autodiff.model import load
from cam_onnx.contract import Axes, Tokens
from cam_onnx.graph.candidates import candidates
from cam_onnx.graph.layers import find_layers
from cam_onnx.graph.locate import find_score, picture_input
from models.builders import BUILDERS


def model_of(signature: str, nodes: str, opset: int = 18, **weights):
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\ng {signature} {{{nodes}}}')
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return model


def tail(output: str, nodes: str, **weights):
    """A convolution, a global pooling and `logits` (N, 5), with something behind; `output` is the signature's end."""
    weights["w"] = np.ones((4, 3, 3, 3), np.float32)
    weights["m"] = np.ones((4, 5), np.float32)
    body = "a = Conv(image, w) p = GlobalAveragePool(a) f = Flatten(p) logits = MatMul(f, m) "
    return load(model_of(f"(float[N,3,8,8] image) => ({output})", body + nodes, **weights))


# what lies behind the logits -> (score, single, classes, activation)
SCORES = {
    "nothing": (("float[N,5] logits", ""), ("logits", False, 5, "")),
    "Softmax": (("float[N,5] y", "y = Softmax(logits)"), ("logits", False, 5, "softmax")),
    "LogSoftmax": (("float[N,5] y", "y = LogSoftmax<axis=1>(logits)"), ("logits", False, 5, "softmax")),
    "Sigmoid": (("float[N,5] y", "y = Sigmoid(logits)"), ("logits", False, 5, "sigmoid")),
    "ArgMax": (("int64[N] y", "y = ArgMax<axis=1, keepdims=0>(logits)"), ("logits", False, 5, "")),
    "ArgMax of a Softmax, both outputs": (
        ("int64[N,1] y, float[N,5] s", "s = Softmax(logits) y = ArgMax<axis=1>(s)"),
        ("logits", False, 5, "softmax"),
    ),
    "Cast and Identity behind": (
        ("double[N,5] y", "s = Softmax(logits) i = Identity(s) y = Cast<to=11>(i)"),
        ("logits", False, 5, "softmax"),
    ),
    "Reshape behind": (
        ("float[N,5,1] y", "s = Softmax(logits) y = Reshape(s, shape)"),
        ("logits", False, 5, "softmax"),
    ),
    "Flatten of what is flat before": (
        ("float[N,5] y", "i = Flatten(logits) y = Softmax(i)"),
        ("logits", False, 5, "softmax"),
    ),
    "a map first": (
        ("float[N,4,6,6] r, float[N,5] y", "r = Relu(a) y = Softmax(logits)"),
        ("logits", False, 5, "softmax"),
    ),
    "(N, C, 1, 1)": (("float[N,4,1,1] y", "y = Sigmoid(p)"), ("p", False, 4, "sigmoid")),
    "(N,)": (("float[N] y", "t = MatMul(f, m1) y = Squeeze(t, one)"), ("y", False, 1, "")),
    "(C,)": (("float[5] y", "y = ReduceSum<keepdims=0>(logits, zero)"), ("y", True, 5, "")),
}


@pytest.mark.parametrize("row", SCORES)
def test_the_score_is_found_before_its_activation(row):
    (output, nodes), (name, single, classes, activation) = SCORES[row]
    constants = dict(shape=np.array([-1, 5, 1]), one=np.array([1]), zero=np.array([0]), m1=np.ones((4, 1), np.float32))
    found = find_score(tail(output, nodes, **constants), None)
    assert (found.name, found.single, found.classes, found.activation) == (name, single, classes, activation)


def test_a_named_score_is_taken_as_it_is():
    model = tail("float[N,5] y", "y = Softmax(logits) z = Relu(a)")
    assert find_score(model, "y").name == "y"
    assert find_score(model, "y").activation == ""
    assert find_score(model, "z").classes == 4 * 36
    assert find_score(load(BUILDERS["multi_head"]()), "colour_logits").classes == 3


def test_rows_of_one_picture_are_no_samples():
    """As many rows as cells, of Yolo-FastestV2: (605, 95) of a picture (1, 3, 352, 352)."""
    nodes = "a = Conv(image, w) t = Transpose<perm=[0,2,3,1]>(a) y = Reshape(t, rows)"
    weights = dict(w=np.ones((4, 3, 3, 3), np.float32), rows=np.array([-1, 4]))
    with pytest.raises(ScoreNotFound, match="no output looks like class scores"):
        find_score(load(model_of("(float[1,3,8,8] image) => (float[36,4] y)", nodes, **weights)), None)
    of_eight = "p = GlobalAveragePool(image) y = Flatten(p)"
    assert find_score(load(model_of("(float[8,3,8,8] image) => (float[8,3] y)", of_eight)), None).name == "y"


def test_an_open_number_of_classes_stays_open():
    model = load(model_of("(float[N,3,8,8] image) => (float[N,C] y)", "y = Flatten(image)"))
    assert find_score(model, None).classes == 192
    model = load(model_of("(float[N,3,H,W] image) => (float[N,C] y)", "y = Flatten(image)"))
    assert find_score(model, None).classes is None


NO_SCORE = {
    "unknown": (
        ("float[N,5] y", "y = Relu(logits)"),
        "logitz",
        "no value 'logitz' to take as the score; did you mean 'logits'",
    ),
    "integer": (
        ("int64[N] y", "y = ArgMax<axis=1, keepdims=0>(logits)"),
        "y",
        "score 'y' is INT64: it has no derivative",
    ),
    "a scalar": (("float y", "y = ReduceSum<keepdims=0>(logits)"), "y", "no known rank of at least 1"),
    "as many as there are in the picture: SuperPoint": (
        (
            "float[N,k] y",
            "i = NonZero(logits) t = Transpose<perm=[1,0]>(i) g = GatherND(logits, t) y = Unsqueeze(g, zero)",
        ),
        None,
        "no output looks like class scores",
    ),
    "the best of a map: M-LSD": (
        ("float[N,20] y", "e = Flatten(a) v, i = TopK(e, twenty) y = Sigmoid(v)"),
        None,
        "no output looks like class scores",
    ),
    "a map only": (("float[N,4,6,6] y", "y = Relu(a)"), None, "no output looks like class scores"),
    "a map only, listed": (("float[N,4,6,6] y", "y = Relu(a)"), None, "its outputs: y float Nx4x6x6. Name the value"),
    "integers only": (
        ("int64[4] y", "y = Shape(a)"),
        None,
        "no output looks like class scores",
    ),
}


@pytest.mark.parametrize("row", NO_SCORE)
def test_no_score(row):
    (output, nodes), name, words = NO_SCORE[row]
    with pytest.raises(ScoreNotFound) as caught:
        find_score(tail(output, nodes, zero=np.array([0]), twenty=np.array([20])), name)
    assert words in str(caught.value)


# -- layers ----------------------------------------------------------------------------------------------------------


def place(model, names=None):
    loaded = load(model)
    [found] = find_layers(loaded, names, find_score(loaded, None))
    return found.name, found.axes


AXES = {
    "signal_1d": Axes(0, 1, (2,)),
    "volume_3d": Axes(0, 1, (2, 3, 4)),
    "nhwc_tail": Axes(0, 3, (1, 2)),
    "vit_class": Axes(0, 2, (1,), Tokens(1, (4, 4))),
    "vit_registers": Axes(0, 2, (1,), Tokens(3, (4, 6))),
    "vit_mean": Axes(0, 2, (1,), Tokens(0, (4, 4))),
    "vit_any_size": Axes(0, 2, (1,), Tokens(1, (None, None))),
}


def raised(name):
    """`convert` raises what is older than opset 13 before it looks for anything."""
    model = load(BUILDERS[name]())
    return model.raise_to(13) if model.opset < 13 else model


@pytest.mark.parametrize("name", BUILDERS)
def test_the_default_is_the_last_value_with_extent(name):
    assert place(raised(name).whole()) == ("features", AXES.get(name, Axes()))


@pytest.mark.parametrize("name", BUILDERS)
def test_candidates_lie_on_the_way_and_have_extent(name):
    model = raised(name)
    score = find_score(model, None)
    found = candidates(model, score)
    last = "normed" if "normed" in model.values else "features"  # behind what a class token leaves of it
    assert found[-1].name == last
    for one in found:
        dims = model.values[one.name].shape
        assert sorted(one.axes.order()) == list(range(len(dims)))
        assert any(dims[axis] != 1 for axis in one.axes.spatial)
    assert score.name not in {one.name for one in found}
    assert {"pooled", "flat"} & {one.name for one in found} == set()


def test_the_bundled_network_s_default_is_the_last_activation(demo_candidates, demo):
    [layer] = demo.contract.layers
    assert layer.name == demo_candidates[-1]
    assert (layer.axes, layer.head) == (Axes(), "average-pooling + linear")


def test_a_node_name_is_its_first_output_and_a_value_name_wins():
    model = BUILDERS["gap_linear"]()
    assert place(model, "Conv_0")[0] == "a"
    model.graph.node[1].name = "c"  # the Relu is called like the second convolution's output
    assert place(model, "c")[0] == "c"
    assert place(BUILDERS["split_slice_pad"](), "Split_2")[0] == "left"


@pytest.mark.parametrize(
    ("name", "layer", "axes"),
    [("nhwc", "image", Axes(0, 3, (1, 2))), ("nhwc", "x", Axes()), ("nhwc_tail", "b", Axes()),
     ("gap_linear", "image", Axes()), ("signal_1d", "signal", Axes(0, 1, (2,)))],
)  # fmt: skip
def test_axes_are_followed_through_transpositions_and_an_input_is_legal(name, layer, axes):
    assert place(BUILDERS[name](), layer) == (layer, axes)


def test_channels_last_inputs_are_recognised_by_their_last_dimension():
    rows = {
        "N,224,224,3": (0, 3, (1, 2)),
        "N,H,W,3": (0, 3, (1, 2)),
        "N,3,224,224": (0, 1, (2, 3)),
        "N,3,3,3": (0, 1, (2, 3)),
        "N,C,H,W": (0, 1, (2, 3)),
        "N,8,8,8,1": (0, 4, (1, 2, 3)),
    }
    for dims, expected in rows.items():
        model = model_of(f"(float[{dims}] image) => (float[N,K] y)", "r = Relu(image) y = Flatten(r)")
        assert place(model)[1] == Axes(*expected), dims


NO_LAYER = {
    "unknown": ("featurs", LayerNotFound, "no value or node 'featurs'; did you mean 'features'?"),
    "unknown and far": ("qqqqqqqqq", LayerNotFound, "no value or node 'qqqqqqqqq'; candidates: features, c, b, a"),
    "empty name": ("", LayerNotFound, "no value or node ''"),
    "no extent": ("pooled", LayerNotFound, "layer 'pooled' float Nx8x1x1 has no spatial extent"),
    "no extent, candidates": ("flat", LayerNotFound, "candidates: features, c, b, a"),
    "the score": ("logits", LayerNotFound, "layer 'logits' float Nx5 has no spatial extent"),
    "a weight": ("w1", LayerNotFound, "is not known to have spatial axes"),
    "twice": (["c", "Conv_2"], InputError, "name one value twice"),
    "none": ([], InputError, "an empty list"),
}


@pytest.mark.parametrize("row", NO_LAYER)
def test_no_layer(row):
    names, error, words = NO_LAYER[row]
    with pytest.raises(error) as caught:
        convert(BUILDERS["gap_linear"](), layers=names)
    assert words in str(caught.value)


def test_no_default_layer_lists_what_there_is():
    model = model_of("(float[N,8] x) => (float[N,5] y)", "h = MatMul(x, m) y = Relu(h)", m=np.ones((8, 5), np.float32))
    with pytest.raises(LayerNotFound, match="no value with spatial extent lies between the input and 'y'") as caught:
        convert(model)
    assert "values on the way: h" in str(caught.value)


BEHIND = """
    w0 = Relu(image)
    p = GlobalAveragePool(w0)
    logits = Flatten(p)
    back = Unsqueeze(logits, axes)
    tall = Expand(back, size)
    wide = Conv(tall, w)
    side = Relu(image)
    rounded = Floor(image)
    lost = Relu(rounded)
    r = GlobalMaxPool(lost)
    s = Flatten(r)
    both = Add(logits, s)
"""


@pytest.mark.parametrize(
    ("layer", "score", "words"),
    [
        ("wide", "logits", "no path leads from one to the other"),
        ("side", "logits", "no path leads from one to the other"),
        ("rounded", "side", "no path leads from one to the other"),
        ("w0", "w0", "it is the score itself"),
    ],
)
def test_a_layer_that_the_score_does_not_depend_on(layer, score, words):
    signature = "(float[N,3,8,8] image) => (float[N,3] both, float[N,3,8,8] wide, float[N,3,8,8] side)"
    model = model_of(
        signature, BEHIND, axes=np.array([2, 3]), size=np.array([1, 3, 8, 8]), w=np.ones((3, 3, 1, 1), "f4")
    )
    with pytest.raises(Disconnected) as caught:
        convert(model, layers=layer, score=score)
    assert f"score {score!r} does not depend on layer {layer!r}: {words}" in str(caught.value)


def test_a_derivative_that_is_lost_on_the_way_says_where():
    nodes = "a = Relu(image) q = Round(a) p = GlobalAveragePool(q) y = Flatten(p)"
    model = model_of("(float[N,3,8,8] image) => (float[N,3] y)", nodes)
    model.graph.node[1].name = "quantise"
    with pytest.raises(Disconnected, match="the derivative is lost: Round 'quantise' has derivative zero"):
        convert(model, layers="a")
    assert convert(model).contract.layers[0].name == "q"


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("float[N,3,8,8] image, float[N,4] more", "image"),
        ("float[N,4] more, float[N,3,8,8] image", "image"),
        ("float[N,3,9] signal, float[N,3,8,8,8] volume", "volume"),
        ("float[N,4] only", "only"),
        ("float[N,4] one, float[N,4] two", None),
    ],
)
def test_the_picture_s_input(signature, expected):
    first = signature.split()[1].rstrip(",")
    model = load(model_of(f"({signature}) => (float[N] y)", f"y = Relu({first})"))
    found = picture_input(model)
    assert (found and found.name) == expected


def test_axes_that_nothing_fixes_are_not_guessed():
    nodes = "s = Reshape(x, four) r = Relu(s) p = ReduceMean<keepdims=0>(r, axes) y = Relu(p)"
    model = model_of("(float[N,48] x) => (float[N,3] y)", nodes, four=np.array([-1, 3, 4, 4]), axes=np.array([2, 3]))
    with pytest.raises(LayerNotFound, match="layer 'r' .* is not known to have spatial axes"):
        convert(model, layers="r")


def test_logits_behind_a_view_that_shape_inference_does_not_follow():
    """What torch exports for ``x.view(x.size(0), -1)``; the rank of `flat` is not inferred before opset 14."""
    nodes = """
        p = GlobalAveragePool(image)  s = Shape(p)  n = Gather<axis=0>(s, zero)  u = Unsqueeze(n, axes)
        to = Concat<axis=0>(u, rest)  flat = Reshape(p, to)  logits = Gemm<transB=1>(flat, w)
        y = Softmax<axis=1>(logits)
    """
    constants = dict(zero=np.array(0), axes=np.array([0]), rest=np.array([-1]), w=np.ones((5, 3), np.float32))
    model = model_of("(float[N,3,8,8] image) => (float[N,5] y)", nodes, opset=13, **constants)
    found = convert(model, layers="image").contract
    assert (found.score, found.activation) == ("logits", "softmax")


def test_the_users_value_is_the_score_before_an_old_softmax_of_classes_at_one_place():
    """SqueezeNet, opset 7: what the version converter flattens for the Softmax has a name that nobody gave."""
    model = model_of("(float[1,3,8,8] image) => (float[1,4,1,1] y)",
                     "a = Conv(image, w) pool = GlobalAveragePool(a) y = Softmax(pool)", opset=7,
                     w=np.ones((4, 3, 3, 3), np.float32))  # fmt: skip
    converted = convert(model)
    assert (converted.contract.score, converted.contract.layers[0].name) == ("pool", "a")
    found = Explainer(model).explain(inputs={"image": np.ones((1, 3, 8, 8), np.float32)}, target=1)
    assert found.logits.shape == (1, 4)
