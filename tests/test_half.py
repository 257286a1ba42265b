"""Files of 16 bits: mixed ones as the converters write them, bfloat16, and what 16 bits cannot hold."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.onnx_model import OnnxModel

from cam_onnx import Explainer, autodiff
from cam_onnx.errors import RunFailed
from models.builders import BUILDERS, inputs
from tests.running import evaluate, run

NETWORKS = ["gap_linear", "silu_se", "vgg_like", "densenet_like", "vit_class"]
MIXED = {
    "float32 outside": dict(keep_io_types=True),
    "all": dict(keep_io_types=False),
    "the input alone is kept": dict(keep_io_types=["image"]),
    "convolutions stay": dict(keep_io_types=True, op_block_list=["Conv"]),
    "the head stays": dict(keep_io_types=True, op_block_list=["GlobalAveragePool", "Softmax", "Gemm"]),
    "a node stays": dict(keep_io_types=True, node_block_list=["Relu_1", "Conv_2", "Transpose_2"]),
}


def cosine(a, b) -> float:
    a, b = a.ravel().astype(float), b.ravel().astype(float)
    return a @ b / np.sqrt((a @ a) * (b @ b))


@pytest.mark.parametrize("form", MIXED)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_mixed_file_has_the_gradient_of_the_float_one(name, form):
    model = BUILDERS[name]()
    feeds = inputs(model)
    plain = Explainer(model, layers="features", providers="cpu").explain(inputs=feeds)
    mixed = OnnxModel(onnx.ModelProto.FromString(model.SerializeToString()))
    mixed.convert_float_to_float16(**MIXED[form])
    mixed.topological_sort()
    kinds = {v.name: helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type) for v in mixed.model.graph.input}
    assert TensorProto.FLOAT16 in {t.data_type for t in mixed.model.graph.initializer}
    given = {k: v.astype(kinds[k]) for k, v in feeds.items()}
    e = Explainer(mixed.model, layers="features", providers="cpu").explain(inputs=given, target=plain.target.tolist())
    assert e.activations.dtype == e.gradients.dtype == e.logits.dtype == e.saliency.dtype == np.float32
    assert cosine(e.gradients, plain.gradients) > 0.999


def in_bfloat16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every float of the file, inside and outside."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    for i, tensor in enumerate(model.graph.initializer):
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
            made.graph.initializer[i].CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in [*made.graph.input, *made.graph.output, *made.graph.value_info]:
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    return made


@pytest.mark.parametrize("seed", [0, 1])
def test_gradients_of_bfloat16_are_summed_in_float32(seed):
    """Of operators that the standard has in bfloat16; the forward rounds to 8 bits, so that masks may differ."""
    text = """<ir_version: 10, opset_import: ["": 22]>
        brain (bfloat16[N,3,8,8] image) => (bfloat16[N,5] logits)
        { a = Conv<pads=[1,1,1,1]>(image, w1) features = Relu(a) pooled = GlobalAveragePool(features)
          flat = Flatten(pooled) s = Sigmoid(flat) logits = MatMul(s, w2) }"""
    rng = np.random.default_rng(seed)
    weights = {"w1": rng.standard_normal((4, 3, 3, 3)) * 0.3, "w2": rng.standard_normal((4, 5))}
    narrow, wide = (onnx.parser.parse_model(text.replace("bfloat16", kind)) for kind in ("bfloat16", "float"))
    for model, kind in ((narrow, ml_dtypes.bfloat16), (wide, np.float32)):
        for key, value in weights.items():
            rounded = value.astype(ml_dtypes.bfloat16).astype(kind)
            model.graph.initializer.append(numpy_helper.from_array(rounded, key))
    image = rng.standard_normal((2, 3, 8, 8)).astype(ml_dtypes.bfloat16)
    graded = [autodiff.gradient(m, ["features"], ["logits"]) for m in (narrow, wide)]
    g = np.eye(5, dtype=np.float32)[[1, 3]]
    [ours] = evaluate(graded[0], {"image": image, "cotangent/logits": g}, ["grad/features"])
    [exact] = evaluate(graded[1], {"image": image.astype(np.float32), "cotangent/logits": g}, ["grad/features"])
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, exact, atol=2e-2 * np.abs(exact).max())
    assert cosine(ours, exact) > 0.9995


def test_a_runtime_without_kernels_for_bfloat16_says_so():
    model = in_bfloat16(BUILDERS["gap_linear"]())
    model.opset_import[0].version = 22
    feeds = {k: v.astype(ml_dtypes.bfloat16) for k, v in inputs(BUILDERS["gap_linear"]()).items()}
    with pytest.raises(RunFailed, match="bfloat16|implementation"):
        Explainer(model, layers="features", providers="cpu").explain(inputs=feeds)


# -- what 16 bits cannot hold: largest 65504, smallest 6e-8 -----------------------------------------------------------


def parsed(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> {text}')
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in weights.items())
    return model


def test_a_sum_over_space_does_not_overflow():
    """A gate that 300 x 300 positions share: the sum of their cotangents is 90000."""
    model = parsed(
        """limits (float16[N,1,300,300] image) => (float16[N,1] logits)
        { gate = GlobalMaxPool(image) scaled = Mul(gate, ones) logits = ReduceSum<keepdims=0>(scaled, axes) }""",
        ones=np.ones((1, 1, 300, 300), np.float16), axes=np.array([2, 3]),
    )  # fmt: skip
    image = np.full((1, 1, 300, 300), 0.125, np.float16)
    feeds = {"image": image, "cotangent/logits": np.ones((1, 1), np.float32)}
    [grad] = run(autodiff.gradient(model, ["gate"], ["logits"]), feeds, ["grad/gate"])
    assert grad.dtype == np.float32
    np.testing.assert_array_equal(grad.ravel(), [90000.0])


def test_a_mean_over_space_does_not_underflow():
    """A share of 1/90000 of a weight of 1e-3: 1.1e-8, which is 0 in 16 bits."""
    model = parsed(
        """limits (float16[N,1,300,300] image) => (float16[N,1] logits)
        { features = Relu(image) pooled = GlobalAveragePool(features) flat = Flatten(pooled)
          logits = MatMul(flat, w) }""",
        w=np.full((1, 1), 1e-3, np.float16),
    )
    image = np.random.default_rng(0).uniform(1, 3, (1, 1, 300, 300)).astype(np.float16)
    e = Explainer(model, layers="features", providers="cpu").explain(inputs={"image": image}, target=0)
    np.testing.assert_allclose(e.gradients, float(np.float16(1e-3)) / 90000, rtol=1e-6)
    assert e.reasons == [None]


def test_activations_near_the_largest_number_give_a_finite_map():
    """60000 at every position: a weighted sum of two channels leaves 16 bits."""
    model = parsed(
        """limits (float16[N,2,64,64] image) => (float16[N,1] logits)
        { features = Relu(image) pooled = GlobalAveragePool(features) flat = Flatten(pooled)
          logits = MatMul(flat, w) }""",
        w=np.array([[0.5], [0.25]], np.float16),
    )
    e = Explainer(model, layers="features", providers="cpu").explain(
        inputs={"image": np.full((1, 2, 64, 64), 60000, np.float16)}, target=0
    )
    assert np.isfinite(e.saliency).all()
    np.testing.assert_allclose(e.saliency, 60000 * 0.75 / 4096, rtol=1e-3)
