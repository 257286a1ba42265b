"""What methods read inside a network: biases, whose shares complete the score; attention, wherever it is written."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cam_onnx import ContractError, Explainer, InputError, LayerNotFound, convert
from cam_onnx.contract import Contract
from cam_onnx.engine import open as open_engine
from cam_onnx.engine.batches import run
from cam_onnx.methods import saliency
from cam_onnx.methods.full_gradient import whole
from models.builders import BUILDERS, bias, he, inputs, ints, network
from tests.running import run as run_plain
from tests.running import session


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


# -- attention ---------------------------------------------------------------------------------------------------------

BLOCKS = {"vit_class": 2, "vit_registers": 1, "vit_mean": 1, "vit_any_size": 1}


def pushed(model, name):
    """Return the model with an input ``delta`` that is added to a value wherever it is read."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    at = next(i for i, node in enumerate(found.graph.node) if name in node.output)
    for node in found.graph.node:
        node.input[:] = [f"{name}_pushed" if x == name else x for x in node.input]
    found.graph.node.insert(at + 1, onnx.helper.make_node("Add", [name, "delta"], [f"{name}_pushed"]))
    found.graph.input.append(onnx.helper.make_tensor_value_info("delta", 1, None))
    found.graph.output.add(name=name)
    return found


@pytest.mark.parametrize("name", BLOCKS)
def test_attention_is_found_and_its_gradient_is_that_of_differences(name):
    model = BUILDERS[name]()
    x = inputs(model, 2, seed=4)
    found, contract = evidence(model, x, method="grad-rollout")
    assert {need: len(names) for need, names in contract.lists.items()} == {
        "attention": BLOCKS[name], "attention_gradients": BLOCKS[name],
    }  # fmt: skip
    for i in range(BLOCKS[name]):
        changed = pushed(model, f"share_{i}")
        session_ = session(changed)
        _, P = session_.run(None, {**x, "delta": np.zeros(1, np.float32)})
        tokens = contract.layers[0].axes.tokens
        assert tokens.first == P.shape[-1] - found.layers[contract.layers[0].name].activations[0, 0].size
        np.testing.assert_allclose(found.lists["attention"][i], P, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(P.sum(axis=-1), 1, rtol=1e-5)
        direction = np.random.default_rng(i).normal(size=P.shape).astype(np.float32)
        near, far = (  # a normalisation of few entries bends: the error of the third order is taken out
            np.subtract(*(session_.run(None, {**x, "delta": direction * s})[0] for s in (h, -h))) / np.float32(2 * h)
            for h in (0.001, 0.002)
        )
        slope = (found.lists["attention_gradients"][i] * direction).reshape(2, -1).sum(axis=1)
        np.testing.assert_allclose(slope, ((4 * near - far) / 3)[:, 1], rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("target", [1, "probability:1", "not:0:1"])
def test_the_score_read_early_is_that_of_a_network_that_ends_there(target):
    """Differences of a network whose head reads the first block's output, with respect to that block's attention."""
    model = BUILDERS["vit_class"]()
    x = inputs(model, 2, seed=4)
    ended = onnx.ModelProto()
    ended.CopyFrom(model)
    [head] = [node for node in ended.graph.node if list(node.input[:1]) == ["x2"]]
    head.input[0] = "x1"
    early = Explainer(model, method="legrad").explain(inputs=x, target=target)
    converted = convert(model, method="legrad", target=None if target == 1 else target)
    found = run(open_engine(converted.to_bytes()), converted.contract, x, [1, 1]).lists["early_gradients"]
    plain = Explainer(ended, method="grad-rollout")
    expected = plain.explain(inputs=x, target=target)
    other = convert(ended, method="grad-rollout", target=None if target == 1 else target)
    twin = run(open_engine(other.to_bytes()), other.contract, x, [1, 1]).lists["attention_gradients"]
    last = convert(model, method="grad-rollout", target=None if target == 1 else target)
    whole_ = run(open_engine(last.to_bytes()), last.contract, x, [1, 1]).lists["attention_gradients"]
    np.testing.assert_allclose(found[0], twin[0], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found[1], whole_[1], rtol=1e-3, atol=1e-6)
    assert np.abs(found[0] - whole_[0]).max() > 1e-3, "of the whole network's score it would be another"
    assert np.abs(early.saliency - expected.saliency).max() > 1e-3


def test_blocks_that_do_not_follow_one_another_cannot_be_read_early():
    """What the first block gives goes past the second one, to the head."""
    model = BUILDERS["vit_class"]()
    at = next(i for i, node in enumerate(model.graph.node) if list(node.input[:1]) == ["x2"])
    model.graph.node[at].input[0] = "both"
    model.graph.node.insert(at, onnx.helper.make_node("Add", ["x1", "x2"], ["both"], name="past"))
    assert Explainer(model, method="grad-rollout").explain(inputs=inputs(model, 1)).saliency.any()
    with pytest.raises(LayerNotFound, match="cannot be read behind every layer of attention.*grad-rollout needs no"):
        convert(model, method="legrad")


def test_tokens_behind_the_grid_are_turned_before_it():
    from cam_onnx.axes import Axes, Tokens
    from cam_onnx.contract import Layer
    from cam_onnx.engine.evidence import LayerEvidence, _tokens_last

    P = np.arange(49.0).reshape(1, 1, 7, 7)
    contract = Contract({}, (Layer("t", "a", "g", Axes(0, 2, (1,), Tokens(1, (2, 2)))),), "s")
    found = _tokens_last(P, "attention", contract, {"t": LayerEvidence(np.zeros((1, 3, 2, 2)), None)})
    order = [0, 5, 6, 1, 2, 3, 4]
    assert all(found[0, 0, i, j] == P[0, 0, order[i], order[j]] for i in range(7) for j in range(7))


def test_operators_of_attention_are_read_early_as_well():
    """Two of them, one behind the other, residual; the class is the mean's."""
    model = with_operator(2)
    x = inputs(model, 2, seed=4)
    ended = onnx.ModelProto()
    ended.CopyFrom(model)
    [pool] = [node for node in ended.graph.node if node.op_type == "ReduceMean"]
    pool.input[0] = "features0"
    found, _ = evidence(model, x, method="legrad")
    twin, _ = evidence(ended, x, method="grad-rollout")
    last, _ = evidence(model, x, method="grad-rollout")
    [early, own] = found.lists["early_gradients"]
    np.testing.assert_allclose(early, twin.lists["attention_gradients"][0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(own, last.lists["attention_gradients"][1], rtol=1e-4, atol=1e-6)
    assert np.abs(early - last.lists["attention_gradients"][0]).max() > 1e-4


def with_operator(layers=1):
    """A transformer whose attention is one operator of opset 23, with heads in the last axis."""
    weights = dict(
        w_patch=he(8, 3, 4, 4), b_patch=bias(8), listed=ints(0, 8, -1), one=ints(1), w_head=he(5, 8), b_head=bias(5)
    )
    text, given = "", "x0"
    for i in range(layers):
        weights |= {f"w{each}{i}": he(8, 8) for each in "qkv"}
        result = "features" if i == layers - 1 else f"features{i}"
        q, k, v = ("q", "k", "v") if layers == 1 else (f"q{i}", f"k{i}", f"v{i}")
        text += f"""
        {q} = MatMul({given}, wq{i})
        {k} = MatMul({given}, wk{i})
        {v} = MatMul({given}, wv{i})
        mixed{i} = Attention<q_num_heads=2, kv_num_heads=2>({q}, {k}, {v})
        {result} = Add({given}, mixed{i})
        """
        given = result
    return network(
        "vit_operator (float[N,3,16,16] image) => (float[N,5] logits)",
        """
        patches = Conv<strides=[4,4]>(image, w_patch, b_patch)
        columns = Reshape(patches, listed)
        x0 = Transpose<perm=[0,2,1]>(columns)
        """ + text + """
        pooled = ReduceMean<keepdims=0>(features, one)
        logits = Gemm<transB=1>(pooled, w_head, b_head)
        """,
        weights, opset=23, ir=10,
    )  # fmt: skip


def test_the_attention_operator_is_read_as_what_it_is_made_of():
    model = with_operator()
    x = inputs(model, 2, seed=4)
    found, _ = evidence(model, x, method="grad-rollout")
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    for name in "qk":
        exposed.graph.output.add(name=name)
    _, q, k = (v.astype(float) for v in run_plain(exposed, x))
    q, k = (v.reshape(2, 16, 2, 4).transpose(0, 2, 1, 3) for v in (q, k))
    scores = q @ k.transpose(0, 1, 3, 2) / 2
    P = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found.lists["attention"][0], P, rtol=1e-4, atol=1e-6)
    e = Explainer(model, method="grad-rollout").explain(inputs=x, target=1)
    assert e.saliency.shape == (2, 4, 4)
    assert e.saliency.std() > 0


@pytest.mark.parametrize("name", BLOCKS)
def test_maps_of_attention_have_the_grids_shape_and_depend_on_the_class_only_with_gradients(name):
    model = BUILDERS[name]()
    x = inputs(model, 3)
    for method, depends in (("attention-rollout", False), ("grad-rollout", True)):
        explainer = Explainer(model, method=method)
        a, b = (explainer.explain(inputs=x, target=target) for target in (0, 1))
        assert a.saliency.shape == a.activations.shape[:1] + a.activations.shape[2:]
        assert (np.abs(a.saliency - b.saliency).max() > 1e-6 * np.abs(a.saliency).max()) == depends
        each = explainer.explain(inputs={k: v[1:2] for k, v in x.items()}, target=[[0, 1]])
        np.testing.assert_allclose(each.saliency, [a.saliency[1], b.saliency[1]], rtol=1e-4, atol=1e-7)


def test_a_network_without_attention_is_refused_with_the_reason():
    with pytest.raises(LayerNotFound, match="no attention .a Softmax between two products of matrices. lies betw"):
        convert(BUILDERS["gap_linear"](), method="attention-rollout")


def test_attention_over_other_tokens_is_refused():
    A, P = np.zeros((1, 2, 3, 3)), np.zeros((1, 2, 4, 4))
    with pytest.raises(InputError, match="the layer has 9 positions, and attention is over 4 tokens"):
        saliency(A, method="attention-rollout", attention=[P])
    with pytest.raises(InputError, match="attention within windows"):
        saliency(A, method="attention-rollout", attention=[np.zeros((4, 2, 9, 9))])
    with pytest.raises(InputError, match="got none"):
        saliency(A, method="attention-rollout", attention=[])
    with pytest.raises(InputError, match="option row is 'class', and all tokens are positions"):
        saliency(A, method="attention-rollout", attention=[np.zeros((1, 2, 9, 9))], row="class")
    with pytest.raises(InputError, match="option row is 'first'.*expected one of auto, class, mean"):
        saliency(A, method="attention-rollout", attention=[np.zeros((1, 2, 9, 9))], row="first")


def test_without_any_mixing_the_class_token_sees_nothing():
    """Attention that leaves every token to itself: the row of the class token is empty, the mean of rows is flat."""
    A, P = np.zeros((1, 2, 2, 2)), np.broadcast_to(np.eye(5), (1, 3, 5, 5))
    np.testing.assert_array_equal(saliency(A, method="attention-rollout", attention=[P, P]), np.zeros((1, 2, 2)))
    flat = saliency(A, method="attention-rollout", attention=[P, P], row="mean")
    np.testing.assert_allclose(flat, np.full((1, 2, 2), 0.2), rtol=1e-6)


def test_vit_recipro_cam_masks_the_grid_and_keeps_the_class_token():
    """Against the model itself, cut open at its layer: tokens are put in its place."""
    model = BUILDERS["vit_class"]()
    x = inputs(model, 1, seed=6)
    e = Explainer(model, method="vit-recipro-cam").explain(inputs=x, target=1)
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    for node in opened.graph.node:
        node.input[:] = ["put" if name == "features" else name for name in node.input]
    opened.graph.input.append(onnx.helper.make_tensor_value_info("put", 1, ["N", 17, 8]))
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.add(name="features")
    features = run_plain(exposed, x, ["features"])[0]
    for p in [(0, 0), (1, 3), (2, 1)]:
        put = np.zeros_like(features)
        put[:, 0] = features[:, 0]
        for q in np.ndindex(4, 4):
            share = np.prod([{0: 0.5, 1: 0.25}.get(abs(a - b), 0) for a, b in zip(p, q, strict=True)])
            put[:, 1 + 4 * q[0] + q[1]] = share * features[:, 1 + 4 * q[0] + q[1]]
        assert e.saliency[(0, *p)] == pytest.approx(run_plain(opened, {**x, "put": put})[0][0, 1], rel=1e-4, abs=1e-6)
