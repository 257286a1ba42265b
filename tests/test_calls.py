"""Methods that run the network, through the façade: every call against ONNX Runtime on the model itself."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import pytest

from cam_onnx import ContractError, Explainer, InputError, UnsupportedOperators, convert
from cam_onnx.calls import Calls, Parts
from cam_onnx.cli import main
from cam_onnx.methods import METHODS, find, without_gradient
from models.builders import BUILDERS, bias, he, inputs, network, reals
from tests.running import run

NETWORKS = ["gap_linear", "residual", "fixed_batch", "nhwc", "multi_head"]


def expose(model, *names):
    """Return the model with further outputs."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    for name in set(names) - {output.name for output in model.graph.output}:
        found.graph.output.add(name=name)
    return found


def channels_first(x, name):
    return np.moveaxis(x, -1, 1) if name == "nhwc" else x


def own(x, name):
    return np.moveaxis(x, 1, -1) if name == "nhwc" else x


def first(name):
    model = BUILDERS[name]()
    return model, {key: value[:1] for key, value in inputs(model, 3).items()}


def calls(name, target=2, method="grad-cam"):
    explainer = Explainer(BUILDERS[name](), method=method)
    _, x = first(name)
    return explainer, Calls(explainer._runs.parts(), x, explainer.contract.layers[0], target, False, None), x


@pytest.mark.parametrize("name", NETWORKS)
def test_forward_is_the_models_own_score(name):
    explainer, call, x = calls(name)
    variants = [call.image[0] * s for s in np.linspace(0.1, 2, 70).astype(np.float32)]
    found = list(call.forward(iter(variants), len(variants)))
    [key] = x
    model = expose(BUILDERS[name](), explainer.contract.score)
    expected = [run(model, {key: own(v[None], name)}, [explainer.contract.score])[0][0, 2] for v in variants]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_head_is_the_score_of_changed_activations(name):
    """The layer's own activations give the own score; half of them, what a network of half the layer gives."""
    explainer, call, x = calls(name)
    e = explainer.explain(inputs=x, target=2)
    A = e.activations[0]
    whole, nothing, *rest = call.head((A * s for s in (1, 0, *[0.5] * 20)), 22)
    assert whole == pytest.approx(e.score[0], rel=1e-5)
    assert nothing != pytest.approx(whole, rel=1e-3)
    assert len(rest) == 20
    assert max(rest) == pytest.approx(min(rest), rel=1e-6)
    if e.contract.layers[0].head != "other":  # linear behind the layer
        assert rest[0] == pytest.approx((whole + nothing) / 2, rel=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_backward_is_the_gradient_of_the_score(name):
    _, call, _ = calls(name, method="gradient")
    x = call.image[0]
    direction = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    [g] = call.backward([x], 1)
    step = np.float32(1e-4)  # a larger one crosses kinks of ReLU; float32 scores of order one differ by 1e-3 of it
    plus, minus = call.forward([x + step * direction, x - step * direction], 2)
    assert (g * direction).sum() == pytest.approx((plus - minus) / (2 * step), rel=0.02, abs=1e-3)
    assert g.shape == x.shape


@pytest.mark.parametrize("name", ["gap_linear", "residual", "fixed_batch"])
def test_curvature_is_the_derivative_of_the_gradient(name):
    """Of the residual softmax, which bends; of a logit behind pooling and a linear layer there is none."""
    model, x = first(name)
    explainer = Explainer(model, method="shapley-cam")
    layer = explainer.contract.layers[0]
    call = Calls(explainer._runs.parts(), x, layer, 1, False, None)
    A = explainer.explain(inputs=x, target=1).activations
    found = call.curvature(A)
    step, scores = np.float32(0.05), []
    for s in (1 + step, 1, 1 - step):
        scores += call.head([A[0] * s], 1)
    second = (scores[0] - 2 * scores[1] + scores[2]) / step**2
    assert (found * A).sum() == pytest.approx(second, rel=0.02, abs=5e-3)
    straight = Explainer(model, method="shapley-cam", target="class")
    flat = Calls(straight._runs.parts(), x, layer, 1, False, None).curvature(A)
    np.testing.assert_array_equal(flat, np.zeros_like(A))


@pytest.mark.parametrize("name", ["gap_linear", "gmp_linear"])
def test_ablation_cam_in_closed_form_is_what_the_runs_say(name):
    model, x = first(name)
    explainer = Explainer(model, method="ablation-cam")
    layer = explainer.contract.layers[0]
    assert layer.head != "other"
    e = explainer.explain(inputs=x, target=2)
    runs = Calls(explainer._runs.parts(), x, layer, 2, False, None)
    slow = METHODS["ablation-cam"].function(activations=e.activations, head=runs.of("head"))
    np.testing.assert_allclose(e.weights, slow, rtol=1e-4, atol=1e-5)
    if name == "gap_linear":
        W = next(t for t in model.graph.initializer if t.name == "w3")
        from onnx.numpy_helper import to_array

        numerator = to_array(W)[2] * e.activations[0].mean(axis=(1, 2))
        np.testing.assert_allclose(e.weights.reshape(-1) * abs(e.score[0]), numerator, rtol=1e-4, atol=1e-6)


QUICK = {
    "rise": {"masks": 12}, "smooth-grad": {"samples": 3}, "smooth-grad-squared": {"samples": 3},
    "var-grad": {"samples": 3},
    "integrated-gradients": {"steps": 4}, "blur-integrated-gradients": {"steps": 4}, "is-cam": {"steps": 2},
    "guided-integrated-gradients": {"steps": 4}, "expected-gradients": {"samples": 4}, "ss-cam": {"samples": 2},
}  # fmt: skip


def options(name, x):
    found = dict(QUICK.get(name, {}))
    if name == "expected-gradients":
        found["references"] = np.zeros_like(next(iter(x.values())))
    return found


OF_CLASSES = [name for name, m in METHODS.items() if not m.target]  # d-rise explains a detection: tests/graph


@pytest.mark.parametrize("method", OF_CLASSES)
def test_every_method_explains_and_a_samples_map_does_not_depend_on_the_others(method):
    model = BUILDERS["vit_class" if {"attention", "early_gradients"} & set(METHODS[method].needs) else "gap_linear"]()
    x = inputs(model, 3)
    explainer = Explainer(model, method=method, options=options(method, x))
    whole = explainer.explain(inputs=x, target=[0, 1, 2])
    assert whole.saliency.shape[0] == 3
    assert np.abs(whole.saliency).max() > 0
    assert np.shape(whole.saliency_map) == (3, 16, 16)
    one = explainer.explain(inputs={"image": x["image"][1:2]}, target=1)
    np.testing.assert_allclose(one.saliency[0], whole.saliency[1], rtol=1e-4, atol=1e-5 * np.abs(one.saliency).max())
    again = explainer.explain(inputs={"image": x["image"][1:2]}, target=1)
    np.testing.assert_array_equal(one.saliency, again.saliency)


@pytest.mark.parametrize("method", [m for m in OF_CLASSES if METHODS[m].at == "input" or METHODS[m].calls])
@pytest.mark.parametrize("name", ["nhwc", "fixed_batch", "signal_1d", "volume_3d"])
def test_other_layouts_batches_and_ranks(name, method):
    model = BUILDERS[name]()
    x = inputs(model, 1)
    e = Explainer(model, method=method, options=options(method, {"x": own_first(x, name)})).explain(inputs=x)
    assert np.isfinite(e.saliency).all()
    assert np.abs(e.saliency).max() > 0 or method == "expected-gradients"


def own_first(x, name):
    return channels_first(next(iter(x.values())), name)


def test_what_the_layout_is_does_not_change_the_map():
    """The same network, channels last: its occlusion map is that of the turned picture's axes."""
    explainer, call, x = calls("nhwc", method="occlusion")
    assert call.image.shape == (1, *np.moveaxis(next(iter(x.values())), -1, 1).shape[1:])
    e = explainer.explain(inputs=x, options={"window": 1 / 16, "stride": 1 / 16}, target=2)
    changed = next(iter(x.values())).copy()
    changed[0, 5, 9, :] = 0
    score = explainer.contract.score
    [logits] = run(expose(BUILDERS["nhwc"](), score), {next(iter(x)): changed}, [score])
    assert e.saliency[0, 5, 9] == pytest.approx(e.score[0] - logits[0, 2], rel=1e-3, abs=1e-5)


# -- Ctrl-C, progress -----------------------------------------------------------------------------------------------


class Pressed:
    """An engine in which Ctrl-C comes at the n-th run."""

    def __init__(self, engine, at):
        self.engine, self.left = engine, at

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def run(self, feeds, outputs=None):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.engine.run(feeds, outputs)


def test_ctrl_c_keeps_what_is_done(monkeypatch):
    model = BUILDERS["gap_linear"]()
    x = inputs(model, 3)
    explainer = Explainer(model, method="rise", options={"masks": 40})
    whole = explainer.explain(inputs=x, target=1)
    scorer = explainer._runs.parts().scorer()
    counted = Pressed(scorer, at=4)  # three runs of up to 16 masks a picture: in the second picture
    monkeypatch.setattr(Parts, "scorer", lambda self: counted)
    e = explainer.explain(inputs=x, target=1)
    assert e.interrupted
    assert len(e) == 2
    np.testing.assert_array_equal(e.saliency[0], whole.saliency[0])
    assert e.saliency[1].any()
    assert any("sample1: stopped after 16 of 40 runs" in note for note in e.notes)
    counted.left = 0
    with pytest.raises(KeyboardInterrupt):
        explainer.explain(inputs=x, target=1)


def test_progress_counts_in_explanations_and_ends_at_their_number():
    model = BUILDERS["gap_linear"]()
    seen = []
    explainer = Explainer(model, method="rise", options={"masks": 100})
    explainer.explain(inputs=inputs(model, 2), progress=lambda done, total: seen.append((done, total)))
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(2)
    assert {total for _, total in seen} == {2}
    assert any(0 < d < 1 for d in done)


@pytest.mark.parametrize(
    ("method", "option"), [("rise", "masks"), ("smooth-grad", "samples"), ("integrated-gradients", "steps")]
)
def test_memory_does_not_grow_with_the_number_of_runs(method, option):
    x = {"image": np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)}
    explainer = Explainer(BUILDERS["residual"](), method=method)
    peaks = []
    for count in (160, 160, 480):  # first with what is made once
        tracemalloc.start()
        explainer.explain(inputs=x, target=1, options={option: count})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    batch = 16 * x["image"].nbytes
    assert peaks[1] > batch
    assert peaks[2] < peaks[1] + 2 * batch, "when one is given back is chance; 320 more pictures are 20"


# -- which file a method needs ----------------------------------------------------------------------------------------


def test_a_method_of_the_picture_makes_a_file_of_its_own():
    model = BUILDERS["gap_linear"]()
    x = inputs(model, 2)
    converted = convert(model, method="gradient")
    assert [layer.name for layer in converted.contract.layers] == ["image"]
    e = Explainer(converted.to_bytes()).explain(inputs=x)
    np.testing.assert_allclose(e.saliency, Explainer(model, method="gradient").explain(inputs=x).saliency)
    assert (e.method, e.activations.shape) == ("gradient", (2, 3, 16, 16))
    other = Explainer(converted.to_bytes(), method="smooth-grad", options={"noise": 0.0, "samples": 1}).explain(
        inputs=x
    )
    np.testing.assert_allclose(other.saliency, e.saliency, rtol=1e-5, atol=1e-7)
    with pytest.raises(ContractError, match="rules"):
        Explainer(converted.to_bytes(), method="guided-backprop")
    with pytest.raises(ContractError, match="without one"):
        Explainer(convert(model, method="rise").to_bytes(), method="gradient")
    with pytest.raises(InputError, match="explains the input 'image' itself"):
        convert(model, method="gradient", layers="features")


def test_guided_backpropagation_and_deconvnet_are_their_rules():
    """Two layers by hand: the derivative, with what is negative dropped at every ReLU."""
    model = network(
        "two (float[N,1,4,4] image) => (float[N,2] logits)",
        """
        a = Conv<pads=[1,1,1,1]>(image, w1, b1)
        b = Relu(a)
        c = Conv<pads=[1,1,1,1]>(b, w2, b2)
        d = Clip(c, zero, six)
        pooled = GlobalAveragePool(d)
        logits = Flatten(pooled)
        """,
        dict(w1=he(3, 1, 3, 3), b1=bias(3), w2=he(2, 3, 3, 3), b2=bias(2),
             zero=reals(0.0), six=reals(6.0)),
    )  # fmt: skip
    x = inputs(model, 1, seed=3)
    a, c = run(expose(model, "a", "c"), x, ["a", "c"])
    w1, w2 = (next(t for t in model.graph.initializer if t.name == n) for n in ("w1", "w2"))

    def back(g, w):
        """The transpose of a 3x3 convolution with padding 1."""
        from onnx.numpy_helper import to_array

        w = to_array(w)
        wide = np.pad(g, ((0, 0), (1, 1), (1, 1)))
        out = np.zeros((w.shape[1], 4, 4))
        for o in range(w.shape[0]):
            for i in range(w.shape[1]):
                for y in range(3):
                    for z in range(3):
                        out[i] += w[o, i, y, z] * wide[o, 2 - y : 6 - y, 2 - z : 6 - z]
        return out

    seed = np.zeros((2, 4, 4))
    seed[1] = 1 / 16
    rules = {
        "gradient": (lambda g, v: g * (v > 0) * (v < 6), lambda g, v: g * (v > 0)),
        "guided-backprop": (lambda g, v: np.maximum(g, 0) * (v > 0) * (v < 6), lambda g, v: np.maximum(g, 0) * (v > 0)),
        "deconvnet": (lambda g, v: np.maximum(g, 0), lambda g, v: np.maximum(g, 0)),
    }
    maps = {}
    for method, (clip, relu) in rules.items():
        expected = back(relu(back(clip(seed, c[0]), w2), a[0]), w1).sum(axis=0)
        maps[method] = Explainer(model, method=method).explain(inputs=x, target=1).saliency[0]
        np.testing.assert_allclose(maps[method], expected, rtol=1e-4, atol=1e-6, err_msg=method)
    assert not np.allclose(maps["gradient"], maps["guided-backprop"])


def test_guided_grad_cam_is_the_product_of_both():
    model = BUILDERS["residual"]()
    x = inputs(model, 2)
    from cam_onnx.render.upsample import upsample

    e = Explainer(model, method="guided-grad-cam").explain(inputs=x, target=1)
    fine = Explainer(model, method="guided-backprop").explain(inputs=x, target=1).saliency
    coarse = Explainer(model).explain(inputs=x, target=1).saliency
    np.testing.assert_allclose(e.saliency, fine * upsample(np.maximum(coarse, 0), (16, 16)), rtol=1e-4, atol=1e-7)
    converted = Explainer(convert(model, method="guided-grad-cam").to_bytes()).explain(inputs=x, target=1)
    np.testing.assert_allclose(converted.saliency, e.saliency, rtol=1e-5, atol=1e-8)


# -- no gradient -----------------------------------------------------------------------------------------------------


def refused():
    """Inverse of ONNX Runtime has no rule."""
    model = network(
        "refused (float[N,3,16,16] image) => (float[N,5] logits)",
        """
        a = Conv<pads=[1,1,1,1], strides=[4,4]>(image, w1, b1)
        features = Relu(a)
        regular = Add(features, diagonal)
        inverse = com.microsoft.Inverse(regular)
        means = GlobalAveragePool(inverse)
        flat = Flatten(means)
        logits = MatMul(flat, w2)
        """,
        dict(w1=he(4, 3, 3, 3), b1=bias(4), w2=he(4, 5, fan=4), diagonal=5 * np.eye(4, dtype=np.float32)),
    )
    model.opset_import.add(domain="com.microsoft", version=1)
    return model


def test_the_refusal_names_the_methods_that_need_no_gradient():
    with pytest.raises(
        UnsupportedOperators, match=r"Without a gradient these methods work: ablation-cam, recipro-cam, vit-recipro"
    ):
        convert(refused(), layers="features")
    with pytest.raises(UnsupportedOperators, match=r"ablation-cam"):
        Explainer(refused(), method="integrated-gradients")


@pytest.mark.parametrize("method", without_gradient())
def test_methods_that_need_no_gradient_work_where_there_is_none(method):
    model = refused()
    x = inputs(model, 2)
    layers = "features" if find(method).at == "layer" else None
    e = Explainer(model, method=method, layers=layers, options=options(method, x)).explain(inputs=x)
    assert e.gradients is None
    assert np.isfinite(e.saliency).all()
    assert e[1].gradients is None


def test_fallback_takes_the_first_and_says_so():
    explainer = Explainer(refused(), layers="features", fallback=True)
    assert explainer.contract.method == "ablation-cam"
    assert (
        "grad-cam is refused (com.microsoft::Inverse has no gradient rule): ablation-cam is taken instead"
        in explainer.notes
    )
    assert explainer.explain(inputs=inputs(refused(), 1)).method == "ablation-cam"
    assert Explainer(BUILDERS["gap_linear"](), fallback=True).contract.method == "grad-cam"


# -- several layers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "of"), [("mean", np.mean), ("product", np.prod), ("max", np.max)])
@pytest.mark.parametrize("method", ["grad-cam", "score-cam"])
def test_fusion_of_several_layers(method, how, of):
    model = BUILDERS["gap_linear"]()
    x = inputs(model, 2)
    both = Explainer(model, layers=["b", "features"], method=method).explain(inputs=x, fusion=how, target=1)
    maps = [
        Explainer(model, layers=n, method=method).explain(inputs=x, target=1).saliency_map for n in ("b", "features")
    ]
    np.testing.assert_allclose(both.saliency_map, of(maps, axis=0), rtol=1e-3, atol=1e-4)
    one = Explainer(model, method=method).explain(inputs=x, fusion=how, target=1).saliency_map
    np.testing.assert_array_equal(one, Explainer(model, method=method).explain(inputs=x, target=1).saliency_map)
    with pytest.raises(InputError, match="fusion is 'sum', expected one of mean, product, max"):
        Explainer(model, layers=["b", "features"]).explain(inputs=x, fusion="sum")


def test_the_command_line_takes_options_kinds_and_fallback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(BUILDERS["gap_linear"](), "model.onnx")
    onnx.save(refused(), "refused.onnx")
    np.save("x.npy", inputs(BUILDERS["gap_linear"](), 1)["image"])
    common = ["--input", "image=x.npy", "-o", "out/", "--json", "-q"]
    assert (
        main(["explain", "model.onnx", *common, "--method", "rise", "--option", "masks=9", "--target", "probability:1"])
        == 0
    )
    assert '"method": "rise"' in capsys.readouterr().out
    assert main(["explain", "refused.onnx", *common, "--layer", "features", "--fallback"]) == 0
    assert '"method": "ablation-cam"' in capsys.readouterr().out
    assert main(["convert", "model.onnx", "-o", "c.onnx", "--target", "not:3"]) == 0
    assert main(["explain", "c.onnx", *common, "--target", "1"]) == 0
    assert main(["explain", "c.onnx", *common, "--target", "not:2"]) == 2
    assert main(["targets"]) == 0
    assert main(["methods"]) == 0
    assert "masks=2000" in capsys.readouterr().out
