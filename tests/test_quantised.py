"""Quantised networks: what is explained, and that it is right.

The demo model in the forms of ONNX Runtime's quantiser, calibrated on one picture and explained on another; and small
networks, whose whole gradient is the one of the network without rounding.
"""

from __future__ import annotations

import functools
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import quantize_dynamic

from cam_onnx import Explainer, autodiff, convert
from cam_onnx.autodiff.model import load
from cam_onnx.graph.inspect import inspect
from cam_onnx.graph.locate import find_score
from cam_onnx.options import read_preprocess
from models.builders import BUILDERS, inputs
from tests.derounded import derounded
from tests.running import CAT, COFFEE, MODEL, SETTINGS, evaluate, run
from tools.production.forms import QUANTISED, calibration, make


def cosine(a, b) -> float:
    a, b = a.ravel().astype(float), b.ravel().astype(float)
    return a @ b / np.sqrt((a @ a) * (b @ b))


@pytest.fixture(scope="module")
def demo_in(tmp_path_factory):
    """The demo model in a quantised form, calibrated on the cup of coffee."""
    folder = tmp_path_factory.mktemp("quantised")
    preprocess = read_preprocess(SETTINGS["preprocess"])
    assert preprocess is not None
    feeds = calibration(COFFEE, onnx.load(MODEL), preprocess)

    @functools.cache
    def made(form: str) -> Path:
        return make(form, MODEL, folder / f"{form}.onnx", feeds)

    return made


@pytest.mark.parametrize("form", QUANTISED)
def test_the_demo_model_looks_where_its_float_form_does(form, demo_in, cat):
    e = Explainer(demo_in(form), **SETTINGS, providers="cpu").explain(CAT)
    assert e.target == cat.target
    assert e.activations.dtype == e.gradients.dtype == e.logits.dtype == np.float32
    assert e.activations.shape == cat.activations.shape
    assert cosine(e.gradients, cat.gradients) > 0.98
    assert cosine(e.saliency, cat.saliency) > 0.98
    assert e.reasons == [None]


@pytest.mark.parametrize("form", ["QDQ int8", "QOperator uint8 per channel"])
def test_several_targets_of_a_quantised_network(form, demo_in):
    explainer = Explainer(demo_in(form), **SETTINGS, providers="cpu")
    one, both = explainer.explain(CAT, target=281), explainer.explain(CAT, target=[[285, 281]])
    np.testing.assert_array_equal(both.gradients[1:], one.gradients)
    np.testing.assert_allclose(both.saliency_map[1:], one.saliency_map, atol=1e-6)


def scaled(path: Path, name: str, factor: float) -> onnx.ModelProto:
    """Return a model with another calibrated range: one scale times a factor."""
    model = onnx.load(path)
    [scale] = [t for t in model.graph.initializer if t.name == name]
    scale.CopyFrom(numpy_helper.from_array(np.asarray(numpy_helper.to_array(scale) * np.float32(factor)), name))
    return model


@pytest.mark.parametrize("form", ["QDQ int8", "QOperator int8"])
def test_a_logit_beyond_the_calibrated_range_is_still_explained(form, demo_in, cat):
    model = scaled(demo_in(form), "logits_scale", 0.6)
    e = Explainer(model, **SETTINGS, providers="cpu").explain(CAT)
    assert e.score[0] == e.logits.max()
    assert e.score[0] < 0.8 * cat.score[0], "cut off"
    e = Explainer(model, **SETTINGS, providers="cpu").explain(CAT, target=cat.target)
    assert e.score[0] == e.logits.max(), "as the largest one"
    assert e.reasons == [None]
    assert cosine(e.gradients, cat.gradients) > 0.98


QLINEAR = """q = QuantizeLinear(flat, s, z) product = QLinearMatMul(q, s, z, w, ws, wz, narrow, z)
    bias = QuantizeLinear(b, wide, z) sum = com.microsoft.QLinearAdd(product, narrow, z, bias, wide, z, wide, z)"""
QDQ = """v = DequantizeLinear(w, ws, wz) f = MatMul(flat, v) product = QuantizeLinear(f, narrow, z)
    p = DequantizeLinear(product, narrow, z) total = Add(p, b) sum = QuantizeLinear(total, wide, z)"""


@pytest.mark.parametrize("head", [QLINEAR, QDQ], ids=["QOperator", "QDQ"])
def test_a_product_cut_off_in_front_of_the_scores_own_bias_is_still_explained(head):
    """Paddle's linear layer is a MatMul and an Add, which a quantiser gives a range each."""
    rng = np.random.default_rng(0)
    weights = {
        "s": np.float32(0.02), "z": np.uint8(128), "w": rng.integers(-99, 99, (3, 5), np.int8), "ws": np.float32(0.01),
        "wz": np.int8(0), "b": rng.standard_normal(5).astype(np.float32), "narrow": np.float32(1e-4),
        "wide": np.float32(0.01), "axes": np.array([2, 3]),
    }  # fmt: skip
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 8, opset_import: ["": 18, "com.microsoft": 1]>
        two_ranges (float[N,3,4,4] image) => (float[N,5] logits) {{
        features = Relu(image)
        flat = ReduceMean<keepdims=0>(features, axes)
        {head}
        logits = DequantizeLinear(sum, wide, z) }}
        """
    )
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items())
    image = rng.standard_normal((1, 3, 4, 4)).astype(np.float32)
    e = Explainer(model, layers="features", providers="cpu").explain(inputs={"image": image}, target=1)
    np.testing.assert_allclose(e.gradients[0, :, 0, 0], weights["w"][:, 1] * 0.01 / 16, rtol=1e-5)
    assert e.reasons == [None]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["int8", "int4", "uint4", "float8_e4m3fn", "float8_e5m2"])
def test_a_class_s_weights_of_a_few_bits(kind, axis):
    """Gather takes no 4 bits and no float8: there the row is taken of the real numbers."""
    rng, dtype = np.random.default_rng(0), np.dtype(getattr(ml_dtypes, kind, kind))
    w, scales = rng.integers(1, 8, (3, 5)).astype(dtype), np.linspace(0.01, 0.05, (3, 5)[axis], dtype=np.float32)
    model = onnx.parser.parse_model(
        f"""
        <ir_version: 10, opset_import: ["": 21]>
        few_bits (float[N,3,4,4] image) => (float[N,5] logits) {{
        features = Relu(image)
        pooled = GlobalAveragePool(features)
        flat = Flatten(pooled)
        v = DequantizeLinear<axis={axis}>(w, scales)
        logits = MatMul(flat, v) }}
        """
    )
    model.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in (("w", w), ("scales", scales)))
    image = rng.standard_normal((1, 3, 4, 4)).astype(np.float32)
    e = Explainer(model, layers="features", providers="cpu").explain(inputs={"image": image}, target=1)
    expected = w.astype(np.float32) * np.expand_dims(scales, 1 - axis)
    np.testing.assert_allclose(e.gradients[0, :, 0, 0], expected[:, 1] / 16, rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "scale", "words"),
    [
        ("QDQ int8", "getitem_141_scale", "the gradient ends at QuantizeLinear"),
        ("QOperator int8", "getitem_141_scale", "the gradient ends at QLinearConv"),
    ],
)
def test_a_blank_map_names_the_place_where_the_gradient_was_lost(form, scale, words, demo_in):
    layer = "hardtanh_30_DequantizeLinear_Output" if form.startswith("QDQ") else "getitem_138_quantized"
    model = scaled(demo_in(form), scale, 1e-7)
    e = Explainer(model, layers=layer, **SETTINGS, providers="cpu").explain(CAT, target=285)
    assert not e.gradients.any()
    [reason] = e.reasons
    assert reason is not None
    assert reason.startswith(f"all zero: {words}")
    assert "cut off at the end of its quantised range" in reason


def test_a_quantised_layer_is_shown_as_the_numbers_it_stands_for(demo_in):
    names = ["hardtanh_30_QuantizeLinear_Output", "hardtanh_30_DequantizeLinear_Output"]
    found = Explainer(demo_in("QDQ int8"), layers=names, **SETTINGS, providers="cpu").explain(CAT, target=[[285, 281]])
    integers, reals = (found.layers[name] for name in names)
    np.testing.assert_array_equal(integers.activations, reals.activations)
    np.testing.assert_array_equal(integers.gradients, reals.gradients)
    assert reals.gradients.any()
    assert len(np.unique(reals.activations)) <= 256


def test_the_runtime_keeps_its_integers(demo_in):
    """At the default layer nothing that the runtime computes in integers becomes floating-point."""
    path = demo_in("QDQ uint8 per channel")
    feeds = {"image": np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)}
    [plain] = run(path, feeds, ["logits"])
    [converted] = run(convert(path).to_bytes(), feeds, ["logits"])
    np.testing.assert_array_equal(converted, plain)


@pytest.mark.parametrize("per_channel", [False, True], ids=["a scale", "scales"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_text_recogniser_quantised_dynamically_has_the_gradient_of_its_weights(direction, per_channel, tmp_path):
    """The LSTM of ONNX Runtime: the plain network with the weights that the integers stand for is the same one."""
    count = 2 if direction == "bidirectional" else 1
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]> crnn (float[N,3,16,24] image) => (float[T,N,7] y)
        <int64[1] rows = {{2}}, int64[3] wide = {{0, 0, -1}}> {{
        c = Conv<strides=[2,2], pads=[1,1,1,1]>(image, w) f = Relu(c) p = MaxPool<kernel_shape=[8,1]>(f)
        s = Squeeze(p, rows) t = Transpose<perm=[2,0,1]>(s)
        l = LSTM<hidden_size=6, direction="{direction}">(t, W, R, B)
        b = Transpose<perm=[0,2,1,3]>(l) r = Reshape(b, wide) y = MatMul(r, v) }}"""
    )
    rng = np.random.default_rng(0)
    drawn = {"w": (8, 3, 3, 3), "W": (count, 24, 8), "R": (count, 24, 6), "B": (count, 48), "v": (6 * count, 7)}
    weights = {k: (rng.standard_normal(shape) * 0.5).astype("f4") for k, shape in drawn.items()}
    model.graph.initializer.extend(numpy_helper.from_array(a, k) for k, a in weights.items())
    onnx.save(model, tmp_path / "plain.onnx")
    quantize_dynamic(
        tmp_path / "plain.onnx", tmp_path / "q.onnx", op_types_to_quantize=["LSTM"], per_channel=per_channel
    )
    quantised = onnx.load(tmp_path / "q.onnx")
    assert [node.op_type for node in quantised.graph.node if node.domain] == ["DynamicQuantizeLSTM"]
    held = {t.name: numpy_helper.to_array(t) for t in quantised.graph.initializer}
    for tensor in model.graph.initializer:
        if tensor.name in ("W", "R"):
            q, step, zero = (held[f"{tensor.name}_{part}"] for part in ("quantized", "scale", "zero_point"))
            real = (q.astype("f4") - zero.reshape(count, 1, -1)) * step.reshape(count, 1, -1)
            assert 0 < np.abs(real.transpose(0, 2, 1) - weights[tensor.name]).max() < 0.02
            tensor.CopyFrom(numpy_helper.from_array(real.transpose(0, 2, 1), tensor.name))
    feeds = {"image": rng.standard_normal((2, 3, 16, 24)).astype("f4")}
    feeds["cotangent/y"] = rng.standard_normal((12, 2, 7)).astype("f4")
    ours, exact = (run(autodiff.gradient(m, ["image"], ["y"]), feeds, ["grad/image"])[0] for m in (quantised, model))
    assert exact.any()
    np.testing.assert_allclose(ours, exact, atol=1e-5 * np.abs(exact).max())


# -- ranges, to the edge -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scales", ["one", "per axis", "in blocks"])
@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int4", "uint4", "float8_e4m3fn", "float8_e5m2"])
def test_what_rounds_into_the_range_passes_edges_included(kind, scales):
    """x / scale + zero point within [qmin - 1/2, qmax + 1/2]; of floats within [qmin, qmax]."""
    dtype = np.dtype(getattr(ml_dtypes, kind, kind))
    whole = not kind.startswith("float")
    info = (ml_dtypes.iinfo if whole else ml_dtypes.finfo)(dtype)
    low, high, zero = float(info.min) - 0.5 * whole, float(info.max) + 0.5 * whole, 3.0 * whole
    at = np.array([low - 0.25, low, low + 0.25, zero, high - 0.25, high, high + 0.25, 4 * high], np.float32)
    shape, attributes = {
        "one": ((), ""),
        "per axis": ((2,), "<axis=0>"),
        "in blocks": ((2, 4), "<axis=1, block_size=2>"),
    }[scales]
    steps = np.resize(np.array([0.25, 2.0, 0.5, 1.0], np.float32), shape)
    laid = np.broadcast_to(
        steps.reshape(-1, 1) if scales == "per axis" else np.repeat(steps, 2, -1) if shape else steps, (2, 8)
    )
    x = ((np.stack([at, at]) - np.float32(zero)) * laid).astype(np.float32)
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 21]> g (float[2,8] x) => (float[2,8] y)
        {{ q = QuantizeLinear{attributes}(x, s, z) y = DequantizeLinear{attributes}(q, s, z) }}"""
    )
    given = {"s": steps, "z": np.full(shape, zero).astype(dtype)}
    model.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in given.items())
    feeds = {"x": x, "cotangent/y": np.ones_like(x)}
    [grad] = run(autodiff.gradient(model, ["x"], ["y"]), feeds, ["grad/x"], optimised=False)
    np.testing.assert_array_equal(grad, np.float32([(low <= at) & (at <= high)] * 2))


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize(
    ("operator", "cuts"),
    [
        ("QLinearMatMul(q, s, z, w, s, z, s, z)", True),
        ("com.microsoft.QGemm<alpha=1.0>(q, s, z, w, s, z, , s, z)", True),
        ("com.microsoft.QLinearAdd(q, s, z, o, s, z, s, z)", True),
        ("com.microsoft.QLinearMul(q, s, z, w, s, z, s, z)", True),
        ("com.microsoft.QLinearLeakyRelu<alpha=1.0>(q, s, z, s, z)", False),
        ("com.microsoft.QLinearConcat<axis=1>(s, z, q, s, z)", False),
    ],
)
def test_an_operator_that_can_cut_off_passes_between_the_ends(operator, cuts, kind):
    """The first and the last integer may have been cut off; averages and copies never are."""
    info = np.iinfo(kind)
    at = np.array([info.min, info.min + 1, 5, info.max - 1, info.max], np.float32).reshape(-1, 1)
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 18, "com.microsoft": 1]> g (float[5,1] x) => (float[5,1] y)
        {{ q = QuantizeLinear(x, s, z) c = {operator} y = DequantizeLinear(c, s, z) }}"""
    )
    given = {"s": np.float32(1), "z": np.array(0, kind), "w": np.array([[1]], kind), "o": np.array([[0]], kind)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for name, a in given.items())
    feeds = {"x": at, "cotangent/y": np.ones_like(at)}
    grad = run(autodiff.gradient(model, ["x"], ["y"]), feeds, ["grad/x"], optimised=False)[0].ravel()
    np.testing.assert_array_equal(grad, [not cuts, True, True, True, not cuts])


# -- small networks, whole -------------------------------------------------------------------------------------------

# not vgg_like: maxima of integers tie, and differences then depend on the side
SMALL = ["gap_linear", "residual", "silu_se", "densenet_like", "depthwise_asymmetric"]


@pytest.fixture(scope="module")
def small_in(tmp_path_factory):
    """A small network in a quantised form, calibrated on weaker inputs than it is given later."""
    folder = tmp_path_factory.mktemp("small")

    @functools.cache
    def made(name: str, form: str) -> Path:
        model = BUILDERS[name]()
        for node in model.graph.node:  # the quantiser wants names
            node.name = node.name or node.output[0]
        onnx.save(model, folder / f"{name}.onnx")
        feeds = [{k: v * np.float32(0.6) for k, v in inputs(model, batch=1, seed=i).items()} for i in range(4)]
        return make(form, folder / f"{name}.onnx", folder / f"{name} {form}.onnx", feeds)

    return made


@pytest.mark.parametrize("form", QUANTISED)
@pytest.mark.parametrize("name", SMALL)
def test_the_gradient_at_the_input_is_that_of_the_network_without_rounding(name, form, small_in):
    model = onnx.load(small_in(name, form))
    feeds = inputs(BUILDERS[name](), batch=1)
    [picture] = feeds
    score = find_score(load(model), None).name
    if score not in {o.name for o in model.graph.output}:  # before its softmax
        model.graph.output[0].CopyFrom(onnx.ValueInfoProto(name=score))
    graded = autodiff.gradient(model, [picture], [score])
    logits, *_ = run(model, feeds, [score], optimised=False)
    g = np.asarray(np.random.default_rng(1).standard_normal(logits.shape), np.float32)
    [grad] = run(graded, {**feeds, f"cotangent/{score}": g}, [f"grad/{picture}"], optimised=False)
    assert grad.any()

    smooth = derounded(model, feeds)
    exact = {k: np.asarray(v, np.float64) for k, v in feeds.items()}
    [at] = evaluate(smooth, exact, [score])
    if logits.dtype.kind == "f":
        np.testing.assert_allclose(at, logits, rtol=1e-4, atol=1e-4 * np.abs(logits).max(), err_msg="another network")
    rng = np.random.default_rng(2)
    for direction in [grad, *(grad * (rng.random(grad.shape) < 0.5) for _ in range(2))]:
        h = 1e-7 / np.abs(direction).max()
        ends = [evaluate(smooth, {picture: exact[picture] + s * h * direction}, [score])[0] for s in (1, -1)]
        measured = np.vdot(g, ends[0] - ends[1]) / (2 * h)
        assert np.vdot(grad, direction) == pytest.approx(measured, rel=1e-3)


@pytest.mark.parametrize("form", QUANTISED)
@pytest.mark.parametrize("name", SMALL)
def test_the_default_layer_is_the_one_of_the_float_network(name, form, small_in):
    plain, quantised = convert(BUILDERS[name]()).contract, convert(small_in(name, form)).contract
    [layer], [expected] = quantised.layers, plain.layers
    assert layer.axes == expected.axes
    feeds = inputs(BUILDERS[name](), batch=1)
    shapes = [
        run(convert(m).to_bytes(), feeds, [c.layers[0].activations])[0].shape
        for m, c in ((BUILDERS[name](), plain), (small_in(name, form), quantised))
    ]
    assert shapes[0] == shapes[1]
    assert inspect(small_in(name, form)).unsupported == ()


@pytest.mark.parametrize("form", QUANTISED)
@pytest.mark.parametrize("name", ["vit_class", "vit_registers", "vit_mean"])
def test_a_quantised_transformer_is_explained_where_its_last_attention_reads(name, form, small_in):
    found = convert(small_in(name, form)).contract.layers[0]
    [expected] = convert(BUILDERS[name]()).contract.layers
    assert found.name.removesuffix("_DequantizeLinear_Output").removesuffix("_quantized") == expected.name == "features"
    assert found.axes == expected.axes
    feeds = inputs(BUILDERS[name](), batch=1)
    plain, quantised = (Explainer(m, providers="cpu") for m in (BUILDERS[name](), small_in(name, form)))
    one, other = (e.explain(inputs=feeds, target=1).gradients for e in (plain, quantised))
    assert cosine(other, one) > 0.9


@pytest.mark.parametrize("level", ["extended", "all"])
@pytest.mark.parametrize("form", ["QDQ uint8 per channel", "QOperator uint8 per channel"])
@pytest.mark.parametrize("name", ["gap_linear", "vgg_like", "residual", "silu_se"])
def test_a_quantised_file_that_the_runtime_saved_is_explained_as_before(name, form, level, small_in, tmp_path):
    """Integers stay integers; at its highest level their channels are the last axis, and are turned back.

    Within the calibrated ranges: beyond them the QuantizeLinear behind an average cuts off, a fused average does not.
    """
    source = small_in(name, form)
    feeds = {k: v * np.float32(0.6) for k, v in inputs(BUILDERS[name](), batch=1).items()}
    saved = make(level, source, tmp_path / "saved.onnx", [])
    own = [node for node in onnx.load(saved).graph.node if node.domain == "com.microsoft"]
    assert any(node.op_type == "QLinearConv" for node in own) == (level == "all")
    plain, other = (Explainer(m, providers="cpu").explain(inputs=feeds, target=1) for m in (source, saved))
    assert plain.gradients.any()
    assert other.gradients.shape == plain.gradients.shape
    np.testing.assert_allclose(other.gradients, plain.gradients, atol=1e-5 * np.abs(plain.gradients).max())
    if level == "all":
        extended = make("extended", source, tmp_path / "extended.onnx", [])
        ends = [
            Explainer(m, layers="image", providers="cpu").explain(inputs=feeds, target=1) for m in (extended, saved)
        ]
        one, two = (e.gradients for e in ends)
        assert one.any()
        np.testing.assert_allclose(two, one, atol=1e-5 * np.abs(one).max())


def test_the_score_lies_before_a_softmax_of_integers(tmp_path):
    model = BUILDERS["gap_linear"]()
    logits = model.graph.output[0].name
    model.graph.node.add(op_type="Softmax", input=[logits], output=["probabilities"], name="softmax")
    model.graph.output[0].name = "probabilities"
    onnx.save(model, tmp_path / "plain.onnx")
    feeds = [inputs(model, batch=1, seed=i) for i in range(4)]
    for form in ("QDQ int8", "QOperator int8"):
        found = convert(make(form, tmp_path / "plain.onnx", tmp_path / "q.onnx", feeds)).contract
        assert found.activation == "softmax"
        assert found.score.startswith(logits)
        e = Explainer(tmp_path / "q.onnx").explain(inputs=feeds[0])
        assert e.logits.dtype == np.float32
        assert e.logits.min() < 0, "not probabilities"
