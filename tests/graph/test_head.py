"""The head, cut out: trunk and head together are the model, and the head's gradient is the whole model's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cam_onnx import LayerNotFound, convert
from cam_onnx.graph.head import cut_head
from models.builders import BUILDERS, inputs
from tests.running import MODEL, run

HEADS = {
    "gmp_linear": "max-pooling + linear",
    "vgg_like": "other",
    "vit_class": "other",
    "vit_registers": "other",
    "vit_any_size": "other",
}


def cut(name, layers=None, converted=True):
    model = BUILDERS[name]()
    whole = convert(model, layers=layers)
    # a plain model is cut by the same contract where it was not raised
    return whole, cut_head(whole.to_bytes() if converted else model.SerializeToString(), None, whole.contract)


def values(contract):
    names = [contract.roles["logits"], contract.roles["score"], contract.roles["class"]]
    return names + [n for layer in contract.layers for n in (layer.activations, layer.gradients)]


@pytest.mark.parametrize("several", [False, True], ids=["one layer", "two layers"])
@pytest.mark.parametrize("name", BUILDERS)
def test_trunk_and_head_are_the_model(name, several):
    whole, head = cut(name, [BUILDERS[name]().graph.node[0].output[0], "features"] if several else None)
    for part in (head.trunk, head.head):
        onnx.checker.check_model(part, full_check=True)
    feeds = inputs(BUILDERS[name]())
    target = {whole.contract.roles["target"]: np.array([0])}
    expected = run(whole.to_bytes(), {**feeds, **target}, values(whole.contract))
    crossing = run(head.trunk, feeds, list(head.crossing))
    fed = dict(zip(head.crossing, crossing, strict=True)) | {head.contract.roles["target"]: np.array([0])}
    found = run(head.head, fed, values(head.contract))
    for role, x, y in zip(values(whole.contract), expected, found, strict=True):
        # two sessions fuse differently: float rounding; a 16-bit network rounds to 11 bits
        tolerance = 2**-10 if name == "float16" else 1e-6
        np.testing.assert_allclose(y, x, rtol=0, atol=tolerance * max(np.abs(x).max(), 1e-30), err_msg=role)


def test_the_head_is_only_what_lies_behind_the_layer():
    _, head = cut("gap_linear")
    original = {"GlobalAveragePool", "Flatten", "Gemm"}
    assert head.crossing == ("features",)
    assert {n.op_type for n in head.head.graph.node[:3]} == original
    assert {n.op_type for n in head.head.graph.node} & {"Conv"} == set()
    assert {n.op_type for n in head.trunk.graph.node} == {"Conv", "Relu"}
    assert {t.name for t in head.head.graph.initializer} & {"w1", "w2", "b1", "b2"} == set()
    assert {t.name for t in head.trunk.graph.initializer} == {"w1", "w2", "b1", "b2"}


def test_a_residual_branch_crosses_the_cut():
    _, head = cut("residual", ["b1"])
    assert head.crossing == ("b1", "a"), "the layer first, then what its residual addition reads"
    assert head.repeats


# The batch is 1 there, and here shape inference loses its symbol in a Reshape to a computed shape.
ONE_BY_ONE = {"fixed_batch"}


@pytest.mark.parametrize("name", BUILDERS)
def test_whether_samples_can_be_repeated(name):
    assert cut(name)[1].repeats == (name not in ONE_BY_ONE)


def test_a_plain_model_is_cut_like_its_converted_form():
    for layers in (None, ["b1"], ["a", "b"]):
        _, ours = cut("residual", layers)
        _, plain = cut("residual", layers, converted=False)
        assert plain.crossing == ours.crossing
        assert plain.head.graph.node == ours.head.graph.node
        assert plain.head.graph.initializer == ours.head.graph.initializer


def test_a_batch_that_is_repeated_gives_the_same_bits():
    _, head = cut("residual", ["b1"])
    feeds = inputs(BUILDERS["residual"](), batch=2)
    crossing = dict(zip(head.crossing, run(head.trunk, feeds, list(head.crossing)), strict=True))
    owner, target = [0, 0, 0, 1], np.array([0, 1, 4, 2])
    outputs = ["cam_gradients", "cam_score", "cam_class"]
    together = run(head.head, {n: v[owner] for n, v in crossing.items()} | {"cam_target": target}, outputs)
    for k, (i, t) in enumerate(zip(owner, target, strict=True)):
        alone = run(head.head, {n: v[[i]] for n, v in crossing.items()} | {"cam_target": np.array([t])}, outputs)
        for x, y in zip(together, alone, strict=True):
            np.testing.assert_array_equal(x[[k]], y)


def test_weights_that_stand_among_the_inputs_stay_weights():
    """As exporters write them with `keep_initializers_as_inputs`."""
    model = BUILDERS["residual"]()
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    head = cut_head(model.SerializeToString(), None, convert(model, layers="b1").contract)
    assert head.crossing == ("b1", "a")
    assert head.repeats
    assert [i.name for i in head.trunk.graph.input] == ["image"]


@pytest.mark.parametrize("target_input", ["optional", "required"])
def test_the_trunk_needs_no_target(target_input):
    converted = convert(BUILDERS["residual"](), target_input=target_input)
    head = cut_head(converted.to_bytes(), None, converted.contract)
    assert [i.name for i in head.trunk.graph.input] == ["image"]
    assert [i.name for i in head.head.graph.input] == ["features", "cam_target"]


def test_the_bundled_network_is_cut_where_branches_cross(demo_candidates):
    contract = convert(MODEL, layers=demo_candidates[40]).contract
    head = cut_head(MODEL.read_bytes(), None, contract)
    assert head.crossing[0] == demo_candidates[40]
    assert head.repeats
    assert head.head.ByteSize() + head.trunk.ByteSize() < MODEL.stat().st_size + 100_000, "each weight is in one part"


def test_a_contract_of_another_model():
    contract = convert(BUILDERS["residual"]()).contract
    model = BUILDERS["gap_linear"]()
    model.graph.node[3].output[0] = model.graph.node[4].input[0] = "other"
    with pytest.raises(LayerNotFound, match="the contract names 'features', which the model does not have"):
        cut_head(model.SerializeToString(), None, contract)


@pytest.mark.parametrize("name", BUILDERS)
def test_pooling_and_one_linear_layer_are_recognised(name):
    assert convert(BUILDERS[name]()).contract.layers[0].head == HEADS.get(name, "average-pooling + linear")


@pytest.mark.parametrize(
    ("name", "layer"),
    [("gap_linear", "c"), ("gap_linear", "image"), ("residual", "b"), ("depthwise_asymmetric", "g"), ("nhwc", "a")],
)
def test_with_more_between_the_head_is_another(name, layer):
    assert convert(BUILDERS[name](), layers=layer).contract.layers[0].head == "other"
