"""Files that ONNX Runtime's optimiser saved, at every level; and half precision as its converter writes it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from cam_onnx import Explainer, UnsupportedOperators, autodiff, convert
from cam_onnx.cli import main
from cam_onnx.graph.blocked import runtime_only
from cam_onnx.graph.inspect import inspect
from models.builders import BUILDERS, inputs
from tests.kernels import KERNELS
from tests.running import CAT, MODEL, SETTINGS, run
from tools.production.forms import make

FUSED = {  # where an extended file has operators of the runtime's own
    "gap_linear": {"FusedConv"},
    "residual": {"FusedConv"},
    "vgg_like": {"FusedConv", "FusedGemm"},
    "silu_se": {"FusedConv", "QuickGelu"},
    "signal_1d": {"FusedConv"},
    "depthwise_asymmetric": {"FusedConv"},
    "nhwc": {"FusedConv"},
    "opset7": {"FusedConv"},
}


@pytest.fixture
def saved(tmp_path):
    def save(model: onnx.ModelProto | Path, form: str) -> Path:
        source = model if isinstance(model, Path) else tmp_path / "plain.onnx"
        if not isinstance(model, Path):
            onnx.save(model, source)
        return make(form, source, tmp_path / f"{form}.onnx", [])

    return save


def own(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node if node.domain == "com.microsoft"}


@pytest.mark.parametrize("level", ["basic", "extended"])
@pytest.mark.parametrize("name", FUSED)
def test_an_optimised_network_has_the_gradient_of_the_plain_one(name, level, saved):
    model = BUILDERS[name]()
    path, feeds = saved(model, level), inputs(model)
    assert own(path) == (FUSED[name] if level == "extended" else set())
    plain, optimised = (Explainer(m).explain(inputs=feeds) for m in (model, path))
    np.testing.assert_allclose(optimised.activations, plain.activations, atol=1e-5 * np.abs(plain.activations).max())
    np.testing.assert_allclose(optimised.gradients, plain.gradients, atol=1e-5 * np.abs(plain.gradients).max())


@pytest.mark.parametrize("level", ["basic", "extended"])
def test_the_demo_model_in_front(level, saved):
    """At the output of the first block: through all the residual branches."""
    given = dict(layers="getitem_6", **SETTINGS, providers="cpu")
    plain, optimised = (Explainer(m, **given).explain(CAT) for m in (MODEL, saved(MODEL, level)))
    np.testing.assert_allclose(optimised.gradients, plain.gradients, atol=1e-3 * np.abs(plain.gradients).max())


def test_inspect_says_that_a_fused_file_runs_in_onnxruntime_only(saved, capsys):
    path = saved(BUILDERS["vgg_like"](), "extended")
    fused = [node.op_type for node in onnx.load(path).graph.node if node.domain == "com.microsoft"]
    counts = {name: fused.count(name) for name in sorted(set(fused))}
    expected = tuple(f"com.microsoft::{name}: {n} node{'s'[: n > 1]}" for name, n in counts.items())
    assert inspect(path).runtime_only == inspect(convert(path).model).runtime_only == expected
    assert not inspect(BUILDERS["vgg_like"]()).runtime_only
    assert main(["inspect", str(path)]) == 0
    assert f"runs in ONNX Runtime only, for its own operators: {', '.join(expected)}" in capsys.readouterr().out


def test_an_operator_with_a_body_in_the_file_runs_anywhere():
    """A function of the file is not the runtime's own, whatever its domain; in a branch of an If one is found."""
    own = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
        g (bool c, float[2,3] x) => (float[2,3] y) {
            y = If (c) <then_branch = t () => (float[2,3] a) { a = com.microsoft.QuickGelu(x) },
                        else_branch = e () => (float[2,3] b) { b = com.microsoft.Twice(x) }> }
        <domain: "com.microsoft", opset_import: ["": 17]> Twice (p) => (q) { q = Add(p, p) }""")
    assert runtime_only(own) == ("com.microsoft::QuickGelu: 1 node",)


@pytest.mark.parametrize("name", ["gap_linear", "silu_se", "float16"])
def test_the_layout_of_one_processor_is_refused(name, saved):
    path = saved(BUILDERS[name](), "all")
    if not any(node.domain == "com.microsoft.nchwc" for node in onnx.load(path).graph.node):
        pytest.skip("this processor has no blocked layout")
    for call in (convert, Explainer):
        with pytest.raises(UnsupportedOperators, match=r"com\.microsoft\.nchwc .* save it at extended level"):
            call(path)
    assert "give the source model" in inspect(path).problems[0]


def test_the_runtimes_own_format_is_refused(tmp_path):
    onnx.save(BUILDERS["gap_linear"](), tmp_path / "plain.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(tmp_path / "plain.onnx"), options, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match=r"\.ort\): use the \.onnx file that it was made from"):
        convert(tmp_path / "m.ort")


@pytest.mark.parametrize("name", ["vit_class", "vit_registers", "vit_mean"])
def test_a_transformer_at_extended_level_is_explained_where_the_plain_one_is(name, saved):
    """Products, transpositions, sums and normalisations are fused: what the last attention reads is found."""
    model = BUILDERS[name]()
    path, feeds = saved(model, "extended"), inputs(model)
    assert own(path)
    plain, optimised = (Explainer(m, providers="cpu") for m in (model, path))
    assert optimised.contract.layers[0].name == plain.contract.layers[0].name == "features"
    one, other = (e.explain(inputs=feeds).gradients for e in (plain, optimised))
    assert one.any()
    np.testing.assert_allclose(other, one, atol=1e-5 * np.abs(one).max())


# -- half precision ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halves")
    return functools.cache(lambda form: make(form, MODEL, folder / f"{form}.onnx", []))


@pytest.mark.parametrize("form", ["float16", "float16, float32 outside"])
def test_the_demo_model_in_half_precision(form, halves, cat):
    found = Explainer(halves(form), **SETTINGS, providers="cpu").explain(CAT, target=cat.target)
    assert found.activations.dtype == found.gradients.dtype == found.logits.dtype == np.float32
    a, b = found.gradients.ravel().astype(float), cat.gradients.ravel().astype(float)
    assert a @ b / np.sqrt((a @ a) * (b @ b)) > 0.999
    assert found.reasons == [None]


@pytest.mark.parametrize("level", ["basic", "extended"])
def test_a_16_bit_file_that_was_optimised_is_scored_before_its_softmax(level, saved):
    """There is no kernel of 16 bits for it: the runtime saves what it is made of."""
    model, feeds = BUILDERS["silu_se"](), inputs(BUILDERS["silu_se"]())
    half = saved(model, "float16")
    path = saved(half, level)
    assert not any(node.op_type == "Softmax" for node in onnx.load(path).graph.node)
    given = {k: v.astype(np.float16) for k, v in feeds.items()}
    plain, optimised = (Explainer(m, providers="cpu").explain(inputs=given, target=2) for m in (half, path))
    assert optimised.activations.shape == plain.activations.shape
    np.testing.assert_allclose(optimised.logits, plain.logits, atol=2e-3 * np.abs(plain.logits).max())
    np.testing.assert_allclose(optimised.gradients, plain.gradients, atol=2e-3 * np.abs(plain.gradients).max())


# -- the transformers optimiser ----------------------------------------------------------------------------------------

TRANSFORMERS = {  # its default needs torch for its first step; this is what comes behind it
    "vit_class": {"SkipLayerNormalization"},
    "vit_mean": {"SkipLayerNormalization"},
}


def by_transformers(model: onnx.ModelProto, folder: Path, model_type: str) -> Path:
    from onnxruntime.transformers.optimizer import optimize_model

    onnx.save(model, folder / "plain.onnx")
    made = optimize_model(str(folder / "plain.onnx"), model_type, num_heads=0, hidden_size=0, opt_level=0)
    made.save_model_to_file(str(folder / f"{model_type}.onnx"))
    return folder / f"{model_type}.onnx"


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_that_was_optimised_has_the_gradient_of_the_plain_one(name, tmp_path):
    model = BUILDERS[name]()
    path, feeds = by_transformers(model, tmp_path, "vit"), inputs(model)
    assert own(path) >= TRANSFORMERS[name]
    plain, optimised = (Explainer(m, providers="cpu").explain(inputs=feeds) for m in (model, path))
    assert plain.layer == optimised.layer == "features"
    assert plain.gradients.any()
    np.testing.assert_allclose(optimised.gradients, plain.gradients, atol=1e-5 * np.abs(plain.gradients).max())


@pytest.mark.parametrize("name", ["gap_linear", "vgg_like", "residual"])
def test_convolutions_of_a_gpu_s_layout_have_the_gradient_of_the_plain_network(name, tmp_path):
    """NhwcConv runs on GPUs only: here in the reference evaluator, by the kernel of the tests."""
    model = BUILDERS[name]()
    path, feeds = by_transformers(model, tmp_path, "unet"), inputs(model, size=8)
    assert own(path) == {"NhwcConv"}
    score, [picture] = model.graph.output[0].name, feeds
    g = np.random.default_rng(1).standard_normal(run(model, feeds, [score])[0].shape).astype(np.float32)
    found = []
    for source in (model, onnx.load(path)):
        graded = ReferenceEvaluator(autodiff.gradient(source, [picture], [score]), new_ops=KERNELS)
        found += graded.run([f"grad/{picture}"], feeds | {f"cotangent/{score}": g})
    assert found[0].any()
    np.testing.assert_allclose(found[1], found[0], atol=1e-5 * np.abs(found[0]).max())


def normalised(x: str, number: int) -> str:
    """A group normalisation with SiLU behind, as exporters write it below opset 18."""
    names = {name: f"{name}{number}" for name in ("size", "split", "inner", "whole", "scaled", "shifted", "gate", "n")}
    return """{size} = Shape(X) {split} = Reshape(X, four_groups)
        {inner} = InstanceNormalization<epsilon=1e-3>({split}, ones, zeros) {whole} = Reshape({inner}, {size})
        {scaled} = Mul({whole}, gamma) {shifted} = Add({scaled}, beta) {gate} = Sigmoid({shifted})
        {n} = Mul({shifted}, {gate})""".replace("X", x).format(**names)


def diffusion() -> onnx.ModelProto:
    """A block of a diffusion model: normalised groups, a residual branch, and a gated layer of halves."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]> unet (float[2,3,8,8] image) => (float[2,5] logits) {{
        a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(image, w1, b1) {normalised("a", 0)}
        c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(n0, w2, b2) sum = Add(a, c) {normalised("sum", 1)}
        list = Reshape(n1, as_list) tokens = Transpose<perm=[0,2,1]>(list)
        h = MatMul(tokens, w3) wide = Add(h, b3) dims = Shape(wide) width = Gather(dims, two) odd = Add(width, one)
        half = Div(odd, two) end = Mul(half, two) left = Slice(wide, zero, half, minus_one)
        right = Slice(wide, half, end, minus_one) over = Div(right, root) erf = Erf(over) up = Add(erf, whole_one)
        times = Mul(right, up) gelu = Mul(times, a_half) gated = Mul(left, gelu)
        narrow = MatMul(gated, w4) back = Add(narrow, tokens) mean = ReduceMean<axes=[1], keepdims=0>(back)
        logits = MatMul(mean, w5) }}"""
    )
    rng = np.random.default_rng(0)
    drawn = {"w1": (16, 3, 3, 3), "b1": (16,), "w2": (16, 16, 3, 3), "b2": (16,), "w3": (16, 64), "b3": (64,),
             "w4": (32, 16), "w5": (16, 5), "gamma": (16, 1, 1), "beta": (16, 1, 1)}  # fmt: skip
    weights: dict[str, Any] = {k: (rng.standard_normal(shape) * 0.3).astype("f4") for k, shape in drawn.items()}
    weights |= {"ones": np.ones(4, np.float32), "zeros": np.zeros(4, np.float32), "root": np.float32(2**0.5)}
    weights |= {"whole_one": np.float32(1), "a_half": np.float32(0.5)}
    weights |= {"four_groups": np.array([0, 4, -1]), "as_list": np.array([0, 16, -1]), "zero": np.array([0])}
    weights |= {"one": np.array([1]), "two": np.array([2]), "minus_one": np.array([-1])}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in weights.items())
    return model


def test_a_diffusion_model_s_block_has_the_gradient_of_the_plain_one(tmp_path):
    """Its operators run on GPUs only: here in the reference evaluator, by the kernels of the tests."""
    model = diffusion()
    path = by_transformers(model, tmp_path, "unet")
    assert own(path) >= {"BiasSplitGelu", "GroupNorm", "NhwcConv", "SkipGroupNorm"}
    rng = np.random.default_rng(1)
    feeds = {"image": rng.standard_normal((2, 3, 8, 8)).astype(np.float32)}
    feeds["cotangent/logits"] = rng.standard_normal((2, 5)).astype(np.float32)
    found = []
    for source in (model, onnx.load(path)):
        graded = autodiff.gradient(source, ["image"], ["logits"])
        found.append(ReferenceEvaluator(graded, new_ops=KERNELS).run(["logits", "grad/image"], feeds))
    assert found[0][1].any()
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4 * np.abs(one).max())
