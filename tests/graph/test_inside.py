"""What methods read inside a network: biases, whose shares complete the score; attention, wherever it is written."""

from __future__ import annotations

import numpy as np
import pytest

from cam_onnx import ContractError, Explainer, convert
from cam_onnx.contract import Contract
from cam_onnx.engine import open as open_engine
from cam_onnx.engine.batches import run
from cam_onnx.methods.full_gradient import whole
from models.builders import BUILDERS, inputs


def evidence(model, x, target=1, method="full-grad"):
    """Return the evidence of a converted file, through its contract as it is stored."""
    converted = convert(model, method=method)
    contract = Contract.from_json(converted.contract.to_json())
    engine = open_engine(converted.to_bytes())
    count = len(next(iter(x.values())))
    return run(engine, contract, x, [target] * count), contract


PIECEWISE_LINEAR = [
    "gap_linear", "gmp_linear", "residual", "vgg_like", "volume_3d", "depthwise_asymmetric", "nhwc", "densenet_like",
    "split_slice_pad", "opset7", "fixed_batch", "nhwc_tail", "multi_head",
]  # fmt: skip


@pytest.mark.parametrize("name", PIECEWISE_LINEAR)
def test_the_terms_of_full_grad_sum_to_the_score(name):
    model = BUILDERS[name]()
    found, contract = evidence(model, inputs(model, 1 if name == "fixed_batch" else 3, seed=2))
    [layer] = found.layers.values()
    assert len(contract.lists["biases"]) >= 2
    terms = whole(layer.activations, layer.gradients, found.lists["biases"])
    np.testing.assert_allclose(terms, found.score, rtol=1e-5, atol=2e-6)
    without = (layer.activations * layer.gradients).reshape(len(terms), -1).sum(axis=1)
    assert np.abs(without - found.score).max() > 1e-3, "the biases have a share"


def test_more_samples_than_a_run_takes_are_joined_and_a_class_each_has_its_own():
    model = BUILDERS["gap_linear"]()
    x = inputs(model, 19)
    explainer = Explainer(model, method="full-grad")
    whole_ = explainer.explain(inputs=x, target=1)
    one = explainer.explain(inputs={"image": x["image"][17:18]}, target=[[0, 1]])
    np.testing.assert_allclose(one.saliency[1], whole_.saliency[17], rtol=1e-4, atol=1e-5)
    assert np.abs(one.saliency[0] - one.saliency[1]).max() > 1e-3


def test_a_file_for_another_method_has_no_biases():
    data = convert(BUILDERS["gap_linear"](), method="gradient").to_bytes()
    with pytest.raises(
        ContractError, match="full-grad needs biases, and the file was converted without.*--method full-g"
    ):
        Explainer(data, method="full-grad")
    assert "lists" not in convert(BUILDERS["gap_linear"]()).contract.to_json()


def test_a_file_with_biases_serves_the_gradient_too():
    model = BUILDERS["gap_linear"]()
    x = inputs(model, 2)
    data = convert(model, method="full-grad").to_bytes()
    np.testing.assert_allclose(
        Explainer(data, method="gradient").explain(inputs=x).saliency,
        Explainer(model, method="gradient").explain(inputs=x).saliency,
        rtol=1e-5, atol=1e-7,
    )  # fmt: skip
