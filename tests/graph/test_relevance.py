"""Relevance propagation: against zennit's maps, against a twin that shares out relevance in loops, and conserved."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.numpy_helper import from_array, to_array

from cam_onnx import ContractError, Explainer, InputError, UnsupportedOperators, convert
from cam_onnx.autodiff.gradient import gradient
from cam_onnx.cli import main
from cam_onnx.graph.tables import TABLES
from cam_onnx.methods import METHODS
from cam_onnx.methods.relevance import COMPOSITES
from models.builders import BUILDERS, bias, he, inputs, network, reals
from tests.running import CAT, MODEL, SETTINGS, evaluate

ZENNIT = np.load(Path(__file__).parents[1] / "references" / "zennit.npz")
EPSILON, GAMMA = 1e-6, 0.25


def relevance(model, composite, x=None, target=2, **options):
    x = inputs(model, 1) if x is None else x
    options = {"composite": composite, **options}
    return Explainer(model, method="lrp", options=options).explain(inputs=x, target=target)


def close(found, expected, within):
    np.testing.assert_allclose(found, expected, rtol=within, atol=within * np.abs(expected).max())


# -- another implementation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ZENNIT.files)
def test_relevance_is_zennits(case):
    """Also with BatchNormalization, which is merged here in the rule and there in the weights."""
    name, how = case.split("/")
    composite, *settings = how.split(":")
    options = dict(setting.split("=") for setting in settings)
    close(relevance(BUILDERS[name](), composite, **options).gradients[0], ZENNIT[case], 2e-6)


def test_every_composite_has_a_table_and_a_reference():
    assert {f"lrp-{name}" for name in COMPOSITES} == {name for name in TABLES if name.startswith("lrp")}
    assert {case.split("/")[1] for case in ZENNIT.files if ":" not in case} == set(COMPOSITES)


# -- conservation ------------------------------------------------------------------------------------------------------


def without_biases(name):
    """Return a network without anything that is added: biases, shifts and means are 0."""
    model = BUILDERS[name]()
    for tensor in model.graph.initializer:
        if tensor.data_type == 1 and (tensor.name.startswith("b") or tensor.name.endswith(("_b", "_m"))):
            tensor.CopyFrom(from_array(np.zeros_like(to_array(tensor)), tensor.name))
    return model


CONSERVING = ["gap_linear", "gmp_linear", "vgg_like", "residual", "split_slice_pad", "densenet_like", "nhwc"]


@pytest.mark.parametrize("name", CONSERVING)
def test_without_biases_relevance_sums_to_the_score(name):
    """Up to what epsilon takes: 1e-6 of a sum of order one in each layer."""
    model = without_biases(name)
    x = inputs(model, 2, seed=3)
    e = relevance(model, "epsilon", x, target=1)
    assert e.saliency.reshape(2, -1).sum(axis=1) == pytest.approx(e.score, rel=1e-3, abs=1e-4)
    plain = Explainer(model, method="input-x-gradient").explain(inputs=x, target=1)
    close(e.saliency, plain.saliency, 2e-3)  # the same for a network of ReLUs without biases


# -- the twin ----------------------------------------------------------------------------------------------------------


def small(space, stride=1):
    """Convolution, ReLU, pooling, convolution, ReLU, dense, in any number of dimensions."""
    axes = len(space)
    sides, three, two = [n // 2 for n in space], [3] * axes, [2] * axes
    shape = ",".join(map(str, space))
    return network(
        f"small_{axes} (float[N,2,{shape}] image) => (float[N,3] logits)",
        f"""
        a = Conv<pads=[{','.join(['1'] * 2 * axes)}]>(image, w1, b1)
        b = Relu(a)
        c = MaxPool<kernel_shape={two}, strides={two}>(b)
        d0 = Conv<pads=[{','.join(['1'] * 2 * axes)}]>(c, w2)
        d = Add(d0, b2)
        e = Relu(d)
        flat = Flatten(e)
        logits = Gemm<transB=1>(flat, w3, b3)
        """,
        dict(w1=he(3, 2, *three), b1=bias(3), w2=he(3, 3, *three),
             b2=lambda rng: 0.1 * rng.standard_normal((1, 3, *[1] * axes)),
             w3=he(3, 3 * int(np.prod(sides))), b3=bias(3)),
    )  # fmt: skip


def stable(z):
    return z + (EPSILON if z >= 0 else -EPSILON)


def dense(x, w, b, R, rule):
    """Share out R_j over x_i, with z_ij = x_i w_ij: `w` (outputs, inputs), as the papers write it."""
    found = np.zeros(len(x))
    for j in range(len(R)):
        z = [x[i] * w[j, i] for i in range(len(x))]
        if rule == "epsilon":
            below = stable(sum(z) + b[j])
            for i in range(len(x)):
                found[i] += z[i] / below * R[j]
        elif rule == "gamma":
            own = sum(z) + b[j]
            sign = 1 if own > 0 else -1
            z = [v * (1 + GAMMA) if sign * v > 0 else v for v in z]
            below = stable(sum(z) + b[j] * (1 + GAMMA if sign * b[j] > 0 else 1))
            for i in range(len(x)):
                found[i] += z[i] / below * R[j] if own else 0
        else:
            alpha, beta = rule
            above = stable(sum(max(v, 0) for v in z) + max(b[j], 0))
            below = stable(sum(min(v, 0) for v in z) + min(b[j], 0))
            for i in range(len(x)):
                found[i] += (alpha * max(z[i], 0) / above - beta * min(z[i], 0) / below * (beta != 0)) * R[j]
    return found


def box(x, w, b, R, low, high):
    found = np.zeros(len(x))
    for j in range(len(R)):
        z = [x[i] * w[j, i] - low[i] * max(w[j, i], 0) - high[i] * min(w[j, i], 0) for i in range(len(x))]
        for i in range(len(x)):
            found[i] += z[i] / stable(sum(z)) * R[j]
    return found


def flat(space, channels, R):
    """Every entry of a 3 x 3 window of all channels gets as much of R_j; what lies in the padding is not there."""
    found = np.zeros((channels, *space))
    for j, p in enumerate(np.ndindex(len(R) // int(np.prod(space)), *space)):
        window = (slice(None), *(slice(max(a - 1, 0), a + 2) for a in p[1:]))
        found[window] += R[j] / (found[window].size + EPSILON)
    return found.reshape(-1)


def as_matrix(w, space):
    """Return a 3 x 3 convolution with padding 1 as a matrix."""
    outputs, channels = w.shape[:2]
    matrix = np.zeros((outputs, *space, channels, *space))
    for o, c in product(range(outputs), range(channels)):
        for p in np.ndindex(*space):
            for tap in np.ndindex(*w.shape[2:]):
                q = tuple(a + t - 1 for a, t in zip(p, tap, strict=True))
                if all(0 <= a < n for a, n in zip(q, space, strict=True)):
                    matrix[(o, *p, c, *q)] = w[(o, c, *tap)]
    return matrix.reshape(outputs * int(np.prod(space)), -1)


def unpooled(x, R):
    """Each window's relevance goes to its maximum."""
    found = np.zeros(x.shape)
    for c, *p in np.ndindex(*R.shape):
        window = [tuple(2 * a + t for a, t in zip(p, tap, strict=True)) for tap in np.ndindex(*[2] * len(p))]
        found[(c, *max(window, key=lambda q, c=c: x[(c, *q)]))] += R[(c, *p)]
    return found


RULES = {
    "epsilon": "epsilon", "epsilon-plus": (1, 0), "epsilon-alpha2-beta1": (2, 1), "epsilon-gamma-box": "gamma",
    "epsilon-plus-flat": (1, 0), "epsilon-alpha2-beta1-flat": (2, 1),
}  # fmt: skip


@pytest.mark.parametrize("space", [(6,), (4, 6), (2, 4, 2)], ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_relevance_is_shared_out_as_the_papers_say(composite, space):
    model = small(space)
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    for name in "abcde":
        exposed.graph.output.add(name=name)
    x = inputs(model, 1, seed=5)
    logits, _, b, c, _, e = (v[0].astype(float) for v in evaluate(exposed, x))
    w = {t.name: to_array(t).astype(float) for t in model.graph.initializer}
    R = np.where(np.arange(3) == 2, logits, 0)
    R = dense(e.reshape(-1), w["w3"], w["b3"], R, "epsilon")
    half = c.shape[1:]
    R = dense(
        c.reshape(-1), as_matrix(w["w2"], half), np.repeat(w["b2"].reshape(-1), np.prod(half)), R, RULES[composite]
    )
    R = unpooled(b, R.reshape(c.shape)).reshape(-1)
    picture = x["image"][0].astype(float)
    first = (picture.reshape(-1), as_matrix(w["w1"], space), np.repeat(w["b1"], np.prod(space)), R)
    if composite == "epsilon-gamma-box":
        low, high = (np.repeat(f(picture.reshape(2, -1), axis=1), np.prod(space)) for f in (np.min, np.max))
        R = box(*first, low, high)
    elif composite.endswith("flat"):
        R = flat(space, 2, R)
    else:
        R = dense(*first, RULES[composite])
    found = relevance(model, composite, x)
    close(found.gradients[0], R.reshape(picture.shape), 2e-4)  # float32, sums that almost cancel
    close(found.saliency[0], R.reshape(picture.shape).sum(axis=0), 2e-4)


def test_a_batch_normalisation_is_merged_also_behind_a_dense_layer():
    text = """
        a = MatMul(image, w1)
        b = Add(a, b1)
        c = BatchNormalization(b, s, t, m, v)
        d = Relu(c)
        logits = MatMul(d, w2)
        """
    rng = np.random.default_rng(0)
    w1, b1, w2 = rng.normal(size=(6, 4)), rng.normal(size=4), rng.normal(size=(4, 3))
    s, t, m, v = rng.uniform(0.5, 2, (4, 4))
    weights = {k: a.astype("f4") for k, a in dict(w1=w1, b1=b1, w2=w2, s=s, t=t, m=m, v=v).items()}
    model = network("normed (float[N,6] image) => (float[N,3] logits)", text, weights)
    x = {"image": rng.normal(size=(1, 6)).astype("f4")}
    factor = s / np.sqrt(v + 1e-5)
    hidden = (x["image"][0] @ w1 + b1 - m) * factor + t
    R = np.where(np.arange(3) == 1, np.maximum(hidden, 0) @ w2, 0)
    R = dense(np.maximum(hidden, 0), w2.T, np.zeros(3), R, "epsilon")
    R = dense(x["image"][0], (w1 * factor).T, (b1 - m) * factor + t, R, "epsilon")
    table = TABLES["lrp-epsilon"]
    twice = gradient(model, ["image"], ["logits"], table)
    seed = np.array([[0, 1, 0]], np.float32)
    found = evaluate(twice, {**x, "cotangent/logits": seed})[-1]
    close(found[0] * x["image"][0], R, 1e-4)


def test_a_value_that_something_else_reads_as_well_is_not_merged():
    """Two readers of a convolution: the BatchNormalization shares out by itself, and nothing is counted twice."""
    model = network(
        "forked (float[N,2,4,4] image) => (float[N,3] logits)",
        """
        a = Conv(image, w1)
        b = BatchNormalization(a, s, zero, zero, v)
        c = Relu(b)
        d = Add(a, c)
        flat = Flatten(d)
        logits = MatMul(flat, w2)
        """,
        dict(
            w1=he(3, 2, 3, 3), s=reals([0.5, 1.5, 2.0]), zero=reals([0.0] * 3), v=reals([1.0, 0.7, 2.0]), w2=he(12, 3)
        ),
    )
    e = relevance(model, "epsilon")
    assert e.saliency.sum() == pytest.approx(e.score[0], rel=1e-4)


# -- transformers ------------------------------------------------------------------------------------------------------


def test_attention_is_shared_out_as_attn_lrp_says():
    """One block, in relevance: arXiv:2402.05602, eq. 8, 11, 14 and the identity rule of normalisation."""
    rng = np.random.default_rng(1)
    tokens, width = 5, 4
    w = {name: rng.normal(size=(width, width)).astype("f4") for name in ("wq", "wk", "wv", "wo")}
    w |= dict(s=rng.uniform(0.5, 1.5, width).astype("f4"), t=np.zeros(width, "f4"))
    model = network(
        f"block (float[N,{tokens},{width}] x) => (float[N,{tokens},{width}] y)",
        """
        n = LayerNormalization<axis=-1>(x, s, t)
        q = MatMul(n, wq)
        k = MatMul(n, wk)
        v = MatMul(n, wv)
        kt = Transpose<perm=[0,2,1]>(k)
        dots = MatMul(q, kt)
        scaled = Mul(dots, scale)
        share = Softmax<axis=-1>(scaled)
        mixed = MatMul(share, v)
        y = MatMul(mixed, wo)
        """,
        dict(**w, scale=reals(0.5)),
    )
    x = rng.normal(size=(tokens, width))
    centred = x - x.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    n = centred / deviation * w["s"]
    q, k, v = n @ w["wq"], n @ w["wk"], n @ w["wv"]
    scaled = q @ k.T * 0.5
    P = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
    mixed = P @ v
    y = mixed @ w["wo"]
    seed = rng.normal(size=y.shape)
    R = seed * y
    R = np.stack([dense(mixed[i], w["wo"].T, np.zeros(width), R[i], "epsilon") for i in range(tokens)])
    R_P, R_v = np.zeros(P.shape), np.zeros(v.shape)
    for i, j, p in np.ndindex(tokens, tokens, width):
        part = P[i, j] * v[j, p] * R[i, p] / (2 * mixed[i, p])
        R_P[i, j] += part
        R_v[j, p] += part
    R_dots = np.stack([scaled[i] * (R_P[i] - P[i] * R_P[i].sum()) for i in range(tokens)])
    dots, R_q, R_k = q @ k.T, np.zeros(q.shape), np.zeros(k.shape)
    for i, j, p in np.ndindex(tokens, tokens, width):
        part = q[i, p] * k[j, p] * R_dots[i, j] / (2 * dots[i, j])
        R_q[i, p] += part
        R_k[j, p] += part
    R_n = sum(
        np.stack([dense(n[i], w[name].T, np.zeros(width), R[i], "epsilon") for i in range(tokens)])
        for name, R in (("wq", R_q), ("wk", R_k), ("wv", R_v))
    )
    R_centred = R_n  # the deviation is a constant: nothing is lost to it
    expected = np.zeros(x.shape)
    for i, j, c in np.ndindex(tokens, width, width):  # centred_j = x_j - mean of x, a linear layer
        expected[i, c] += x[i, c] * ((j == c) - 1 / width) / centred[i, j] * R_centred[i, j]
    twice = gradient(model, ["x"], ["y"], TABLES["lrp-epsilon"])
    found = evaluate(twice, {"x": x.astype("f4")[None], "cotangent/y": seed.astype("f4")[None]})[-1]
    close(found[0] * x, expected, 2e-3)


@pytest.mark.parametrize("name", ["vit_class", "vit_registers", "vit_any_size", "silu_se"])
@pytest.mark.parametrize("composite", COMPOSITES)
def test_networks_with_other_operators_are_finite_and_depend_on_the_class(name, composite):
    model = BUILDERS[name]()
    maps = [relevance(model, composite, target=target).saliency for target in (1, 2)]
    assert np.isfinite(maps).all()
    assert np.abs(maps[0] - maps[1]).max() > 1e-3 * np.abs(maps[0]).max()


# -- the option --------------------------------------------------------------------------------------------------------


def test_the_composite_is_the_files_and_a_plain_model_is_converted_anew():
    model = BUILDERS["vgg_like"]()
    x = inputs(model, 1)
    explainer = Explainer(model, method="lrp")
    assert explainer.contract.table == "lrp-epsilon-plus"
    other = explainer.explain(inputs=x, target=2, options={"composite": "epsilon"})
    np.testing.assert_array_equal(other.saliency, relevance(model, "epsilon").saliency)
    assert other.contract.table == "lrp-epsilon"
    data = convert(model, method="lrp", options={"composite": "epsilon"}).to_bytes()
    np.testing.assert_array_equal(Explainer(data).explain(inputs=x, target=2).saliency, other.saliency)
    with pytest.raises(ContractError, match="other rules than lrp with composite=epsilon-plus needs"):
        Explainer(data).explain(inputs=x, options={"composite": "epsilon-plus"})
    with pytest.raises(ContractError, match="other rules than gradient needs"):
        Explainer(data, method="gradient")


def test_an_unknown_composite_names_the_others():
    with pytest.raises(
        InputError, match="option composite is 'epsilon_plus'; did you mean 'epsilon-plus'.*expected one of"
    ):
        convert(BUILDERS["gap_linear"](), method="lrp", options={"composite": "epsilon_plus"})
    assert METHODS["lrp"].options == {"composite": "epsilon-plus", "epsilon": 1e-6, "gamma": 0.25}


def test_epsilon_and_gamma_are_the_files_too():
    model = BUILDERS["vgg_like"]()
    x = inputs(model, 1)
    plain = Explainer(model, method="lrp", options={"composite": "epsilon-gamma-box"})
    other = plain.explain(inputs=x, target=2, options={"gamma": "1", "epsilon": 1e-6})  # as text; at its default
    assert other.contract.table == "lrp-epsilon-gamma-box:gamma=1.0"
    assert np.abs(other.saliency - plain.explain(inputs=x, target=2).saliency).max() > 1e-3
    data = convert(model, method="lrp", options={"composite": "epsilon-gamma-box", "gamma": 1.0}).to_bytes()
    file = Explainer(data)
    for options in ({}, {"gamma": 1}, {"composite": "epsilon-gamma-box"}, {"epsilon": 1e-6}):
        np.testing.assert_array_equal(file.explain(inputs=x, target=2, options=options).saliency, other.saliency)
    with pytest.raises(ContractError, match="other rules than lrp with gamma=0.25 needs"):
        file.explain(inputs=x, options={"gamma": 0.25})
    with pytest.raises(ContractError, match="other rules than lrp with epsilon=0.1 needs"):
        Explainer(data, options={"epsilon": 0.1})


def test_a_larger_epsilon_takes_more():
    model, x = without_biases("vgg_like"), None
    kept = [abs(relevance(model, "epsilon", x, epsilon=epsilon).saliency.sum()) for epsilon in (1e-6, 0.01, 0.1, 1.0)]
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < kept[0] / 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epsilon": 0}, "expected epsilon above 0"),
        ({"epsilon": "nan"}, "expected epsilon above 0"),
        ({"epsilon": "small"}, "option epsilon is 'small', expected a number"),
        ({"composite": "epsilon-gamma-box", "gamma": -1}, "gamma at least 0"),
        ({"gamma": 0.5}, r"composites with a gamma rule \(epsilon-gamma-box\), not of epsilon-plus"),
        ({"alpha": 2}, "lrp has no option 'alpha'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        convert(BUILDERS["gap_linear"](), method="lrp", options=options)


def test_the_command_line_converts_with_a_composite(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(BUILDERS["gap_linear"](), "model.onnx")
    how = ["--method", "lrp", "--option", "composite=epsilon", "--option", "epsilon=0.01"]
    assert main(["convert", "model.onnx", *how, "-o", "c.onnx"]) == 0
    assert Explainer("c.onnx").contract.table == "lrp-epsilon:epsilon=0.01"
    assert main(["convert", "model.onnx", *how[:4], "--option", "epsilon=small", "-o", "d.onnx"]) == 2
    assert "option epsilon is 'small', expected a number (default: 1e-06)" in capsys.readouterr().err


def test_what_is_emitted_is_standard():
    converted = convert(BUILDERS["residual"](), method="lrp", options={"composite": "epsilon-gamma-box"})
    onnx.checker.check_model(converted.model, full_check=True)
    assert {node.domain for node in converted.model.graph.node} == {""}


def test_sides_and_steps_that_depend_on_the_picture():
    """The same network with symbolic sizes: the same relevance."""
    model = BUILDERS["residual"]()
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dim, size in zip(fixed.graph.input[0].type.tensor_type.shape.dim, (1, 3, 16, 16), strict=True):
        dim.Clear()
        dim.dim_value = size
    for composite in COMPOSITES:
        close(relevance(fixed, composite).saliency, relevance(model, composite).saliency, 1e-5)


@pytest.mark.parametrize(
    ("composite", "within"), [("epsilon", 1e-4), ("epsilon-plus", 0.01), ("epsilon-gamma-box", 1e-3)]
)
def test_the_bundled_network_conserves_relevance_but_for_its_biases(composite, within):
    """Through fifty layers, residual branches and ReLU6; with z+ some outputs have no contribution that is positive."""
    model = onnx.load(MODEL)
    given = {node.input[2] for node in model.graph.node if node.op_type in ("Conv", "Gemm") and len(node.input) > 2}
    for tensor in model.graph.initializer:
        if tensor.name in given:
            tensor.CopyFrom(from_array(np.zeros_like(to_array(tensor)), tensor.name))
    e = Explainer(model, method="lrp", options={"composite": composite}, **SETTINGS).explain(str(CAT))
    assert e.saliency.sum() == pytest.approx(e.score[0], rel=within)


@pytest.mark.parametrize("method", ["lrp", "guided-backprop"])
def test_what_is_no_derivative_is_not_verified_as_one(method):
    model = BUILDERS["gap_linear"]()
    with pytest.raises(InputError, match="the way back in this file is no derivative, its rules are '.*another method"):
        Explainer(model, method=method).verify(inputs=inputs(model, 1))


def normed(opset):
    groups = 3 if opset < 21 else 6
    return network(
        f"normed_{opset} (float[N,2,6,6] image) => (float[N,3] logits)",
        """
        a = Conv(image, w1)
        b = GroupNormalization<num_groups=3>(a, s, t)
        c = Relu(b)
        pooled = GlobalAveragePool(c)
        flat = Flatten(pooled)
        logits = Gemm(flat, w2)
        """,
        dict(w1=he(6, 2, 3, 3), s=reals([0.5, 1.5, 2.0] if groups == 3 else [0.5, 0.5, 1.5, 1.5, 2.0, 2.0]),
             t=reals([0.0] * groups), w2=he(6, 3)), opset=opset, ir=9,
    )  # fmt: skip


@pytest.mark.parametrize("opset", [18, 21])
def test_a_scale_of_a_group_is_not_that_of_a_channel(opset):
    """Without shifts all relevance arrives; the means that are taken off share in it, as a linear layer's inputs do."""
    e = relevance(normed(opset), "epsilon")
    assert e.saliency.sum() == pytest.approx(e.score[0], rel=1e-3)


def test_an_einsum_of_two_values_shares_evenly():
    weights = dict(w=he(4, 6), w2=he(6, 3))
    model = network(
        "products (float[N,4] image) => (float[N,3] logits)",
        """
        a = MatMul(image, w)
        b = Einsum<equation="ni,ni->ni">(a, a)
        logits = Einsum<equation="ni,ij->nj">(b, w2)
        """,
        weights,
    )
    x = {"image": np.random.default_rng(0).normal(size=(1, 4)).astype("f4")}
    twice = gradient(model, ["image"], ["logits"], TABLES["lrp-epsilon"])
    logits, found = evaluate(twice, {**x, "cotangent/logits": np.array([[0, 0, 1]], np.float32)})
    assert (found * x["image"]).sum() == pytest.approx(logits[0, 2], rel=1e-3)


def test_a_product_by_another_name_is_refused_and_not_differentiated():
    model = network(
        "fused (float[N,3,4,4] image) => (float[N,5] logits)",
        """
        a = Conv(image, w1)
        b = Relu(a)
        flat = Flatten(b)
        logits = com.microsoft.FusedMatMul(flat, w2)
        """,
        dict(w1=he(2, 3, 3, 3), w2=he(8, 5)),
    )
    model.opset_import.add(domain="com.microsoft", version=1)
    convert(model, method="gradient")
    with pytest.raises(UnsupportedOperators, match=r"com.microsoft::FusedMatMul \(no rule of relevance propagation\)"):
        convert(model, method="lrp")


def doubled(model):
    """Return a network in float64, which ONNX Runtime has no convolutions for."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    for tensor in found.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(from_array(to_array(tensor).astype(np.float64), tensor.name))
    for value in (*found.graph.input, *found.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return found


@pytest.mark.parametrize("composite", ["epsilon", "epsilon-plus", "epsilon-alpha2-beta1"])
def test_a_network_in_float64_has_the_same_relevance(composite):
    model = small((4, 6))
    x = inputs(model, 1)
    twice = gradient(doubled(model), ["image"], ["logits"], TABLES[f"lrp-{composite}"])
    wide = {"image": x["image"].astype(np.float64), "cotangent/logits": np.array([[0.0, 0.0, 1.0]])}
    found = evaluate(twice, wide)[-1]
    assert found.dtype == np.float64
    close(relevance(model, composite, x).gradients, found * wide["image"], 1e-4)
