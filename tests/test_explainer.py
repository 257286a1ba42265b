"""The façade: a model and a picture in, an explanation out; batches, targets, layers, threads, processes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest

import cam_onnx
from cam_onnx import ContractError, Explainer, InputError, RunFailed, convert
from cam_onnx.engine import BACKENDS
from cam_onnx.render import image
from models.builders import BUILDERS, inputs, network
from tests.running import CAT, COFFEE, MODEL, ROOT, SETTINGS, run

FIELDS = ("logits", "target", "score", "saliency", "activations", "gradients")
BATCHED = sorted(set(BUILDERS) - {"fixed_batch"})


def equal(x, y, names=FIELDS):
    for name in names:
        np.testing.assert_array_equal(getattr(x, name), getattr(y, name), err_msg=name)


def close(x, y, rtol=1e-5):
    """Compare up to float rounding: another batch size or session may sum in another order."""
    np.testing.assert_array_equal(x.target, y.target)
    for name in ("logits", "score", "saliency", "activations", "gradients"):
        one, two = getattr(x, name), getattr(y, name)
        np.testing.assert_allclose(one, two, rtol=rtol, atol=rtol * np.abs(two).max(), err_msg=name)


def of(name, **options):
    """An Explainer of a bundled tiny network, and its inputs' name."""
    return Explainer(BUILDERS[name](), **options)


# -- the main job ----------------------------------------------------------------------------------------------------

# Where Chelsea is in the picture of 300 x 451: her face fills it from the left edge to x = 365; beyond lies the
# background, and so does what is above and left of the ear. The head without ears and whiskers is the smaller box.
CAT_BOX = (slice(0, 300), slice(20, 365))
HEAD_BOX = (slice(20, 290), slice(35, 350))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_path_in_and_an_explanation_out(backend, demo, cat):
    e = cat if backend == "onnxruntime" else Explainer(MODEL, **SETTINGS, backend=backend).explain(CAT)
    assert e.target.tolist() == [285]
    [top] = e.top()
    assert [name for _, name, _ in top[:3]] == ["Egyptian cat", "tiger cat", "tabby"]
    assert 0.7 < top[0][2] < 0.85
    assert (e.layer, e.method) == ("hardtanh_32", "grad-cam")
    assert (e.logits.shape, e.score.shape, e.saliency.shape) == ((1, 1000), (1,), (1, 7, 7))
    assert e.activations.shape == e.gradients.shape == (1, 1280, 7, 7)
    assert e.score[0] == e.logits[0, 285]
    [drawn] = e.saliency_map
    assert drawn.shape == (300, 451)
    assert (drawn.min(), drawn.max()) == (0, 1)
    row, column = np.unravel_index(drawn.argmax(), drawn.shape)
    assert HEAD_BOX[0].start <= row < HEAD_BOX[0].stop
    assert HEAD_BOX[1].start <= column < HEAD_BOX[1].stop
    assert drawn[CAT_BOX].sum() / drawn.sum() > 0.85, "the box is 76 % of the picture"
    warm = drawn > 0.5
    assert warm[HEAD_BOX].sum() / warm.sum() > 0.95, "the head is 63 % of the picture"
    assert e.reasons == [None]
    assert e.overlay().shape == e.heatmap().shape == (300, 451, 3)
    assert e.overlay().dtype == np.uint8


def test_both_backends_agree(cat):
    reference = Explainer(MODEL, **SETTINGS, backend="reference").explain(CAT)
    # two implementations of 94 layers in float32: rounding
    np.testing.assert_allclose(reference.saliency, cat.saliency, atol=1e-5 * np.abs(cat.saliency).max())
    np.testing.assert_allclose(reference.saliency_map, cat.saliency_map, atol=1e-4)
    assert reference.provider == "onnx reference evaluator"
    assert cat.provider == "CPUExecutionProvider"


def test_the_cup_is_an_espresso(demo):
    e = demo.explain(COFFEE)
    assert e.top()[0][0][:2] == (967, "espresso")


def test_a_converted_file_explains_like_the_plain_one(converted_demo, cat):
    e = Explainer(converted_demo).explain(str(CAT))
    equal(e, cat)
    np.testing.assert_array_equal(e.saliency_map, cat.saliency_map)
    assert e.top() == cat.top()


def test_a_converted_file_imports_neither_onnx_nor_onnx_ir(converted_demo):
    code = (
        "import sys, cam_onnx\n"
        f"e = cam_onnx.Explainer({str(converted_demo)!r}).explain({str(CAT)!r})\n"
        "assert e.target[0] == 285\n"
        "print(sorted(sys.modules.keys() & {'onnx', 'onnx_ir', 'sympy', 'rich', 'ml_dtypes'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (done.stdout, done.stderr) == ("[]\n", ""), "and nothing is printed"


def test_arrays_lists_and_paths(demo, cat):
    pixels = image.load(CAT).pixels
    equal(demo.explain(pixels), cat)
    both = demo.explain([CAT, COFFEE, pixels])
    assert both.target.tolist() == [285, 967, 285]
    assert both.names == ["chelsea", "coffee", "sample2"]
    close(both[0], cat)
    assert isinstance(both.saliency_map, list), "the pictures' sizes differ"
    assert [m.shape for m in both.saliency_map] == [(300, 451), (300, 450), (300, 451)]
    assert [o.shape for o in both.overlay()] == [(300, 451, 3), (300, 450, 3), (300, 451, 3)]
    together = demo.explain([CAT, pixels])
    assert together.saliency_map.shape == (2, 300, 451)


def test_names_of_classes(demo, cat):
    equal(demo.explain(CAT, target="egyptian cat"), cat)
    assert demo.explain(CAT, target=["tiger cat"]).target.tolist() == [282]


# -- identities of the methods ---------------------------------------------------------------------------------------


def maps(model, layer=None, **feeds):
    data = convert(model, layers=layer).to_bytes()
    return {m: Explainer(data, method=m).explain(**feeds).saliency for m in ("cam", "grad-cam", "hires-cam")}


def test_behind_average_pooling_three_methods_give_one_map(cat, converted_demo):
    model = BUILDERS["gap_linear"]()
    found = maps(model, inputs=inputs(model, 4), target=[0, 1, -1, 4])
    # sums of 8 channels in float32
    np.testing.assert_allclose(found["hires-cam"], found["grad-cam"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["cam"] / 64, found["grad-cam"], rtol=1e-4, atol=1e-6)
    for method, factor in (("cam", 49), ("hires-cam", 1)):  # and the trained network: 1280 channels
        one = Explainer(converted_demo, method=method).explain(CAT).saliency
        np.testing.assert_allclose(one, factor * cat.saliency, rtol=1e-4, atol=1e-5 * factor)


def test_behind_max_pooling_cam_and_grad_cam_coincide_and_hires_cam_shows_points():
    model = BUILDERS["gmp_linear"]()
    feeds = inputs(model, 3)
    found = maps(model, inputs=feeds, target=2)
    np.testing.assert_allclose(found["cam"] / 64, found["grad-cam"], rtol=1e-4, atol=1e-6)
    e = Explainer(model).explain(inputs=feeds, target=2)
    weight = onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "w3"))[2]
    a = e.activations.reshape(3, 8, 64)
    for i in range(3):
        expected = np.zeros(64)
        np.add.at(expected, a[i].argmax(1), weight * a[i].max(1))
        np.testing.assert_allclose(found["hires-cam"][i].ravel(), expected, rtol=1e-5, atol=1e-6)


def test_hires_cam_completes_the_score():
    """Behind a piecewise-linear head the map sums to the score less the head's bias."""
    for name, layer in (("gap_linear", None), ("gmp_linear", None), ("gap_linear", "image")):
        model = BUILDERS[name]()
        for tensor in model.graph.initializer:
            if tensor.name.startswith("b") and layer:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
        e = Explainer(model, layers=layer, method="hires-cam").explain(inputs=inputs(model, 2), target=3)
        bias = 0 if layer else onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "b3"))[3]
        np.testing.assert_allclose(e.saliency.sum((1, 2)) + bias, e.score, rtol=1e-4)


def test_cam_is_refused_where_the_head_is_another():
    with pytest.raises(InputError, match="only a global pooling and one linear layer.*behind 'features' lies more"):
        of("vgg_like", method="cam")
    with pytest.raises(InputError, match="Use grad-cam"):
        of("gap_linear", layers="b", method="cam")
    with pytest.raises(InputError, match="only a global pooling and one linear layer"):
        convert(BUILDERS["vgg_like"](), method="cam")
    with pytest.raises(InputError, match="only a global pooling and one linear layer"):
        Explainer(convert(BUILDERS["vgg_like"]()).to_bytes(), method="CAM")


# -- batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BATCHED)
def test_a_batch_of_four_is_four_single_runs(name):
    explainer = of(name)
    feeds = inputs(BUILDERS[name](), batch=4)
    target = [0, -1, 0, -1] if name == "regression" else [0, -1, 2, 1]
    together = explainer.explain(inputs=feeds, target=target)
    assert len(together) == 4
    for i in range(4):
        alone = explainer.explain(inputs={n: v[i : i + 1] for n, v in feeds.items()}, target=target[i])
        close(together[i], alone, rtol=2e-3 if name == "float16" else 1e-5)


def test_samples_do_not_mix():
    explainer = of("residual")
    feeds = inputs(BUILDERS["residual"](), batch=3)
    before = explainer.explain(inputs=feeds)
    changed = {"image": feeds["image"].copy()}
    changed["image"][1] = 100
    after = explainer.explain(inputs=changed)
    for i in (0, 2):
        equal(before[i], after[i])


def test_size_and_batch_stay_dynamic():
    explainer = of("residual")
    for batch, size in ((1, 16), (3, 32), (2, 9)):
        e = explainer.explain(inputs=inputs(BUILDERS["residual"](), batch, size))
        assert e.saliency.shape == (batch, -(-size // 2), -(-size // 2))
        assert e.saliency_map.shape == (batch, size, size)


def test_more_samples_than_one_run_takes():
    explainer = of("gap_linear")
    feeds = inputs(BUILDERS["gap_linear"](), batch=37)
    e = explainer.explain(inputs=feeds, target=[i % 5 for i in range(37)])
    assert e.target.tolist() == [i % 5 for i in range(37)]
    for i in (0, 15, 16, 36):
        close(e[i], explainer.explain(inputs={"image": feeds["image"][i : i + 1]}, target=i % 5))


def test_a_fixed_batch_of_one_takes_three_pictures():
    explainer = of("fixed_batch")
    x = np.random.default_rng(0).standard_normal((3, 3, 16, 16)).astype(np.float32)
    e = explainer.explain(inputs={"image": x}, target=[0, -1, 4])
    for i, target in enumerate([0, -1, 4]):
        equal(e[i], explainer.explain(inputs={"image": x[i : i + 1]}, target=target))
    pictures = [np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8) for i in range(3)]
    assert explainer.explain(pictures).saliency_map.shape == (3, 20, 30)


def fixed_batch_of_two():
    return network(
        "two (float[2,3,8,8] image) => (float[2,4] logits)",
        "features = Conv(image, w)  p = GlobalAveragePool(features)  f = Flatten(p)  logits = MatMul(f, m)",
        dict(w=lambda rng: rng.standard_normal((4, 3, 3, 3)), m=lambda rng: rng.standard_normal((4, 4))),
    )


@pytest.mark.parametrize("target", [-1, [0, 1, 2, 3, -1], [[0, 1], [2], [3], [-1], [1, 2, 3]]], ids=str)
def test_a_fixed_batch_of_two_takes_five_samples(target):
    explainer = Explainer(fixed_batch_of_two())
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    e = explainer.explain(inputs={"image": x}, target=target)
    rows = [t if isinstance(t, list) else [t] for t in (target if isinstance(target, list) else [target] * 5)]
    assert len(e) == sum(map(len, rows))
    k = 0
    for i, row in enumerate(rows):
        for one in row:
            pair = {"image": x[[i, i]]}
            equal(e[k], explainer.explain(inputs=pair, target=one)[0])
            k += 1


# -- several targets, several layers ---------------------------------------------------------------------------------

NESTED = [[0], [2, -1, 1], [1, 1]]


@pytest.mark.parametrize("layers", [None, ["features", "first"]], ids=["one layer", "two layers"])
@pytest.mark.parametrize("name", ["gap_linear", "residual", "vgg_like", "nhwc_tail", "signal_1d", "opset12", "float16"])
def test_nested_targets_are_single_runs(name, layers):
    first = BUILDERS[name]().graph.node[0].output[0]
    layers = layers and [first if layer == "first" else layer for layer in layers]
    explainer = of(name, layers=layers)
    feeds = inputs(BUILDERS[name](), batch=3)
    e = explainer.explain(inputs=feeds, target=NESTED)
    assert len(e) == 6
    k = 0
    for i, row in enumerate(NESTED):
        for target in row:
            alone = explainer.explain(inputs={n: v[i : i + 1] for n, v in feeds.items()}, target=target)
            assert list(e[k].layers) == list(alone.layers)
            for layer in e.layers:
                for field in ("activations", "gradients", "saliency"):
                    one, two = getattr(e[k].layers[layer], field), getattr(alone.layers[layer], field)
                    tolerance = 2e-3 if name == "float16" else 1e-5  # 16 bits are rounded where the model is cut
                    np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance * np.abs(two).max())
            assert e[k].target.tolist() == alone.target.tolist()
            k += 1


@pytest.mark.parametrize("name", ["b1", "c0", "a"])
def test_nested_targets_where_branches_cross_the_cut(name):
    explainer = of("residual", layers=name)
    feeds = inputs(BUILDERS["residual"](), batch=1)
    e = explainer.explain(inputs=feeds, target=[[0, 3]])
    for k, target in enumerate((0, 3)):
        close(e[k], explainer.explain(inputs=feeds, target=target))


def test_nested_targets_where_weights_stand_among_the_inputs():
    model = BUILDERS["gap_linear"]()
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    feeds = {"image": inputs(BUILDERS["gap_linear"]())["image"]}
    for layer in ("features", "b", "image"):
        explainer = Explainer(model, layers=layer)
        e = explainer.explain(inputs=feeds, target=[[0, 3], [1]])
        for k, (i, target) in enumerate([(0, 0), (0, 3), (1, 1)]):
            close(e[k], explainer.explain(inputs={"image": feeds["image"][[i]]}, target=target))


def test_nested_targets_of_a_fixed_batch_and_of_a_converted_file():
    model = BUILDERS["fixed_batch"]()
    feeds = inputs(model)
    for source in (model, convert(model).to_bytes()):
        explainer = Explainer(source)
        e = explainer.explain(inputs=feeds, target=[[4, -1, 0]])
        for k, target in enumerate((4, -1, 0)):
            close(e[k], explainer.explain(inputs=feeds, target=target))


def test_nested_targets_of_the_bundled_network(demo, cat):
    e = demo.explain(CAT, target=[["Egyptian cat", 282, -1]])
    assert e.target.tolist() == [285, 282, 285]
    close(e[0], cat)
    equal(e[0], e[2])
    close(e[1], demo.explain(CAT, target=282))
    assert e.names == ["chelsea"] * 3
    assert e.saliency_map.shape == (3, 300, 451)


def test_several_layers():
    explainer = of("residual", layers=["a", "features", "b"])
    single = {name: of("residual", layers=name) for name in ("a", "features", "b")}
    feeds = inputs(BUILDERS["residual"](), batch=2)
    e = explainer.explain(inputs=feeds, target=1)
    assert list(e.layers) == ["a", "features", "b"]
    assert e.layer == "a"
    assert e.saliency is e.layers["a"].saliency
    alone = {name: one.explain(inputs=feeds, target=1) for name, one in single.items()}
    for name, part in e.layers.items():
        np.testing.assert_allclose(part.saliency, alone[name].saliency, rtol=1e-4, atol=1e-7)
    mean = np.mean([one.saliency_map for one in alone.values()], axis=0)
    np.testing.assert_allclose(e.saliency_map, mean, atol=1e-5)


# -- kinds of inputs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "space"), [("signal_1d", (16,)), ("volume_3d", (8, 8, 8))])
def test_signals_and_volumes(name, space):
    e = of(name).explain(inputs=inputs(BUILDERS[name](), batch=2))
    layer = tuple(n // 2 for n in space)
    assert e.saliency.shape == (2, *layer)
    assert e.saliency_map.shape == (2, *space)
    assert e.saliency_map.max() == 1
    with pytest.raises(InputError, match="no input that a picture fits"):
        of(name).explain(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("name", ["gap_linear", "nhwc"])
def test_an_input_as_the_layer(name):
    model = BUILDERS[name]()
    feeds = inputs(model, batch=2)
    e = of(name, layers="image").explain(inputs=feeds, target=2)
    nchw = feeds["image"].transpose(0, 3, 1, 2) if name == "nhwc" else feeds["image"]
    np.testing.assert_array_equal(e.activations, nchw)
    assert e.saliency_map.shape == (2, 16, 16)
    general = cam_onnx.autodiff.gradient(model, ["image"], ["logits"])
    seed = np.zeros((2, 5), np.float32)
    seed[:, 2] = 1
    [grad] = run(general, {**feeds, "cotangent/logits": seed}, ["grad/image"])
    expected = grad.transpose(0, 3, 1, 2) if name == "nhwc" else grad
    np.testing.assert_allclose(e.gradients, expected, rtol=1e-5, atol=1e-7)


def test_a_channels_last_layer_is_turned():
    last, first = of("nhwc_tail"), of("nhwc_tail", layers="b")
    feeds = inputs(BUILDERS["nhwc_tail"](), batch=2)
    assert last.contract.layers[0].axes.spatial == (1, 2)
    one, two = last.explain(inputs=feeds), first.explain(inputs=feeds)
    equal(one, two)
    assert one.activations.shape == (2, 8, 8, 8)
    pictures = [np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8) for i in range(2)]
    np.testing.assert_array_equal(last.explain(pictures).saliency_map, first.explain(pictures).saliency_map)


def test_regression_explains_its_only_output():
    explainer = of("regression")
    feeds = inputs(BUILDERS["regression"](), batch=2)
    predicted, zero = explainer.explain(inputs=feeds), explainer.explain(inputs=feeds, target=0)
    equal(predicted, zero)
    assert predicted.target.tolist() == [0, 0]
    assert predicted.probabilities is None
    np.testing.assert_array_equal(predicted.score, predicted.logits[:, 0])
    nested = explainer.explain(inputs=feeds, target=[[0, -1], [0]])
    assert nested.target.tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="target 1 is out of range: -1 .* or 0 to 0"):
        explainer.explain(inputs=feeds, target=1)


def test_a_score_of_another_head_or_an_inner_value():
    feeds = inputs(BUILDERS["multi_head"](), batch=2)
    colour = of("multi_head", score="colour_logits").explain(inputs=feeds, target=2)
    after = of("multi_head", score="colour").explain(inputs=feeds, target=2)
    assert colour.logits.shape == after.logits.shape == (2, 3)
    logits = colour.logits.astype(float)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(after.logits, p, rtol=1e-5)
    inner = of("multi_head", score="features", layers="a").explain(inputs=feeds, target=7)
    assert inner.logits.shape == (2, 8 * 64), "flattened behind the batch"
    np.testing.assert_array_equal((inner.gradients != 0).reshape(2, -1).sum(1), inner.score > 0)


def test_scores_of_one_sample_have_no_batch():
    model = network(
        "one (float[1,3,8,8] image) => (float[4] logits)",
        """
        features = Conv(image, w)
        p = ReduceMean<keepdims=0>(features, axes)
        q = MatMul(p, m)
        logits = Squeeze(q, zero)
        """,
        dict(
            w=lambda rng: rng.standard_normal((4, 3, 3, 3)), axes=np.array([2, 3]),
            m=lambda rng: rng.standard_normal((4, 4)), zero=np.array([0]),
        ),
    )  # fmt: skip
    explainer = Explainer(model)
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    e = explainer.explain(inputs={"image": x}, target=[[0, 3, -1]])
    assert e.logits.shape == (3, 4)
    assert e.target.tolist() == [0, 3, int(e.logits[0].argmax())]
    for k, target in enumerate((0, 3, -1)):
        close(e[k], explainer.explain(inputs={"image": x}, target=target))


def test_16_bits_and_float64():
    e = of("float16").explain(inputs=inputs(BUILDERS["float16"]()))
    assert {getattr(e, name).dtype.name for name in FIELDS} == {"float32", "int64"}
    model = network(
        "wide (double[N,3,8,8] image) => (double[N,4] logits)",
        "features = Conv(image, w)  p = GlobalAveragePool(features)  f = Flatten(p)  logits = MatMul(f, m)",
        dict(w=lambda rng: rng.standard_normal((4, 3, 3, 3)), m=lambda rng: rng.standard_normal((4, 4))), dtype="f8",
    )  # fmt: skip
    e = Explainer(model, backend="reference").explain(inputs=inputs(model))
    assert e.gradients.dtype == np.float64


def test_raw_and_signed_maps():
    explainer = of("gap_linear")
    feeds = inputs(BUILDERS["gap_linear"]())
    raw = explainer.explain(inputs=feeds, target=0, relu=False, normalize=None)
    assert raw.saliency_map.min() < 0
    assert np.abs(raw.saliency_map).max() <= np.abs(raw.saliency).max()
    signed = explainer.explain(inputs=feeds, target=0, relu=False)
    np.testing.assert_allclose(np.abs(signed.saliency_map).max((1, 2)), 1)
    positive = explainer.explain(inputs=feeds, target=0, relu=True, normalize=None)
    assert positive.saliency_map.min() == 0
    equal(raw, signed)
    with pytest.raises(InputError, match="normalize is 'zscore'"):
        explainer.explain(inputs=feeds, normalize="zscore")


def test_both_target_inputs_explain_alike():
    model = BUILDERS["residual"]()
    feeds = inputs(model, batch=2)
    optional, required = (Explainer(convert(model, target_input=t).to_bytes()) for t in ("optional", "required"))
    for target in (-1, [3, 0], [[1, 2], [0]]):
        equal(optional.explain(inputs=feeds, target=target), required.explain(inputs=feeds, target=target))


# -- plain and converted ---------------------------------------------------------------------------------------------


def test_what_a_converted_file_says_can_be_overridden_but_not_its_graph():
    model = BUILDERS["gap_linear"]()
    data = convert(model, method="hires-cam", labels=list("abcde")).to_bytes()
    assert Explainer(data).contract.method == "hires-cam"
    assert Explainer(data).contract.labels == tuple("abcde")
    assert Explainer(data, method="Grad_CAM").contract.method == "grad-cam"
    assert Explainer(data, labels=list("vwxyz")).contract.labels == tuple("vwxyz")
    assert Explainer(data, layers="features", score="logits").contract == Explainer(data).contract
    with pytest.raises(ContractError, match=r"converted for layers \['features'\], not \['a'\]"):
        Explainer(data, layers="a")
    with pytest.raises(ContractError, match="converted for score logits, not flat"):
        Explainer(data, score="flat")


def test_guessed_preprocessing_is_said_and_given_preprocessing_is_not():
    guessed = of("gap_linear").explain(np.zeros((20, 30, 3), np.uint8))
    assert any("guess" in note for note in guessed.notes)
    given = of("gap_linear", preprocess=cam_onnx.Preprocess(size=(16, 16))).explain(np.zeros((20, 30, 3), np.uint8))
    assert not any("guess" in note for note in given.notes)


# -- processes and threads -------------------------------------------------------------------------------------------


def test_eight_threads_give_the_bits_of_one(demo):
    feeds = {"image": np.random.default_rng(0).standard_normal((8, 1, 3, 224, 224)).astype(np.float32)}
    tasks = [({"image": feeds["image"][i]}, [[i, 285]] if i % 2 else i) for i in range(8)]
    expected = [demo.explain(inputs=x, target=target) for x, target in tasks]
    found: list = [None] * 8
    start = threading.Barrier(8)
    fresh = pickle.loads(pickle.dumps(demo))  # so that the head, too, is cut while others run

    def work(i):
        start.wait()
        found[i] = fresh.explain(inputs=tasks[i][0], target=tasks[i][1])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for one, two in zip(found, expected, strict=True):
        equal(one, two)


def test_an_explainer_pickles_and_makes_its_session_anew(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(BUILDERS["residual"]().SerializeToString())
    feeds = inputs(BUILDERS["residual"]())
    for source in (path, path.read_bytes()):
        explainer = Explainer(source, layers="b", labels=list("abcde"))
        expected = explainer.explain(inputs=feeds, target="c")
        explainer.explain(inputs=feeds, target=[[0, 1], [2]])
        copy = pickle.loads(pickle.dumps(explainer))
        equal(copy.explain(inputs=feeds, target="c"), expected)
        equal(copy.explain(inputs=feeds, target=[[0, 1], [2]]), explainer.explain(inputs=feeds, target=[[0, 1], [2]]))
        assert copy.contract == explainer.contract


def test_a_worker_process_gets_a_pickled_explainer(tmp_path):
    data = pickle.dumps(of("gap_linear"))
    feeds = inputs(BUILDERS["gap_linear"]())
    (tmp_path / "explainer").write_bytes(data)
    np.save(tmp_path / "x.npy", feeds["image"])
    code = (
        "import pickle, sys, numpy as np\n"
        "e = pickle.load(open('explainer', 'rb')).explain(inputs={'image': np.load('x.npy')})\n"
        "np.save('saliency.npy', e.saliency); print('onnx' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60
    )
    assert done.stdout == "False\n", done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "saliency.npy"), of("gap_linear").explain(inputs=feeds).saliency)


def test_a_context_manager_gives_the_session_back():
    with of("gap_linear") as explainer:
        feeds = inputs(BUILDERS["gap_linear"]())
        explainer.explain(inputs=feeds)
    for one in (explainer, pickle.loads(pickle.dumps(explainer))):
        with pytest.raises(RunFailed, match="this Explainer is closed: make a new one"):
            one.explain(inputs=feeds)
    explainer.close()


def test_an_exception_leaves_the_context():
    with pytest.raises(ZeroDivisionError), of("gap_linear"):
        raise ZeroDivisionError


FORK = """
import os, sys
import numpy as np
import cam_onnx
from models.builders import BUILDERS, inputs
model = BUILDERS["residual"]()
explainer = cam_onnx.Explainer(model)
feeds = inputs(model)
expected = explainer.explain(inputs=feeds, target=[[0, 1], [2]]).saliency
child = os.fork()
if child == 0:
    ok = np.array_equal(explainer.explain(inputs=feeds, target=[[0, 1], [2]]).saliency, expected)
    sys.exit(0 if ok else 3)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), len(explainer.explain(inputs=feeds)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_explains_and_ends():
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, cwd=ROOT, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "0 2\n", done.stderr


def test_a_repr_says_what_it_is(demo):
    assert repr(demo) == "<cam_onnx.Explainer grad-cam at hardtanh_32, CPUExecutionProvider>"
