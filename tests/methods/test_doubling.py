"""A network's last weights and bias twice as large give twice the score: what becomes of every method's raw map."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array, to_array

from cam_onnx import Explainer
from cam_onnx.methods import METHODS
from models.builders import BUILDERS, inputs
from tests.test_calls import OF_CLASSES, options

pytest.importorskip("onnxruntime")

FACTORS = {
    1: ["activation-map", "random-cam", "fem", "eigen-cam", "kpca-cam", "attention-rollout",
        "ablation-cam", "full-grad"],  # parts of the score; stretched layer by layer
    2: ["cam", "grad-cam", "hires-cam", "element-wise-grad-cam", "layer-cam", "xgrad-cam", "eigen-grad-cam",
        "seg-eigen-cam", "shapley-cam", "recipro-cam", "vit-recipro-cam", "occlusion", "rise", "legrad",
        "gradient", "input-x-gradient", "smooth-grad", "integrated-gradients", "expected-gradients",
        "blur-integrated-gradients", "guided-integrated-gradients", "guided-backprop", "deconvnet", "lrp"],
    4: ["smooth-grad-squared", "var-grad", "guided-grad-cam"],  # squares; a product of two
}  # fmt: skip
BENT = {
    "grad-cam++": "its coefficients depend on the size of the gradient",
    "smooth-grad-cam++": "as Grad-CAM++",
    "score-cam": "a softmax of scores", "ss-cam": "a softmax of scores", "is-cam": "a softmax of scores",
    "finer-cam": "probabilities weight the other classes",
    "grad-rollout": "the identity is added to the derivative",
}  # fmt: skip


def test_of_every_method_it_is_said():
    said = [name for names in (*FACTORS.values(), BENT) for name in names]
    assert sorted(said) == sorted({*OF_CLASSES, "shapley-cam", "finer-cam"})


@cache
def doubled(network):
    """The model, and the same with the last weights and bias twice as large."""
    plain = BUILDERS[network]()
    double = onnx.ModelProto()
    double.CopyFrom(plain)
    [head] = [node for node in double.graph.node if "logits" in node.output]
    assert head.op_type == "Gemm"
    for tensor in double.graph.initializer:
        if tensor.name in head.input[1:]:
            tensor.CopyFrom(from_array(2 * to_array(tensor), tensor.name))
    return plain, double


def maps(name):
    tokens = METHODS[name].lists and METHODS[name].lists != ("biases",)
    pair = doubled("vit_class" if tokens else "gap_linear")
    x = inputs(pair[0], 2, seed=1)
    target = "class:1" if name == "shapley-cam" else 1
    how = options(name, x)
    return [
        Explainer(model, method=name, target="class" if name == "shapley-cam" else None, options=how)
        .explain(inputs=x, target=target).saliency
        for model in pair
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "factor"), [(name, factor) for factor, names in FACTORS.items() for name in names], ids=str
)
def test_the_raw_map_is_a_multiple(name, factor):
    one, other = maps(name)
    # float32; eigenvectors are found by iteration, and epsilon in LRP's dense layers is small beside doubled sums too
    np.testing.assert_allclose(other, factor * one, rtol=1e-4, atol=2e-5 * np.abs(other).max())


@pytest.mark.parametrize("name", BENT)
def test_the_raw_map_is_no_multiple(name):
    one, other = (found / np.linalg.norm(found) for found in maps(name))
    assert np.linalg.norm(one - other) > 1e-4


def test_grad_cam_plus_plus_hardly_changes():
    """a = 1 / (2 + sum(A) g): a relu(g) of doubled gradients is larger than before, and less than twice as large."""
    one, other = maps("grad-cam++")
    share = np.linalg.norm(other) / np.linalg.norm(one)
    assert 1 < share < 2
