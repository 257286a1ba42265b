"""Smoothing of any method's map: each against the maps it is made of, and neutral where nothing varies."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from cam_onnx import Explainer, InputError
from cam_onnx.cli import main, parser
from cam_onnx.methods.activation import first_component
from cam_onnx.smoothing import FACTORS, NOISE, SAMPLES, SEED, SMOOTHINGS
from models.builders import BUILDERS, inputs
from tests.test_calls import Pressed


def explained(name, method="grad-cam", seed=0, batch=2, **how):
    model = BUILDERS[name]()
    x = inputs(model, batch, seed=seed)
    return Explainer(model, method=method), x, how


def flipped(x, axis):
    return np.ascontiguousarray(np.flip(x, axis))


@pytest.mark.parametrize(
    ("name", "axis", "method"),
    [
        ("gap_linear", 3, "grad-cam"), ("nhwc", 2, "layer-cam"), ("signal_1d", 2, "hires-cam"),
        ("volume_3d", 4, "grad-cam"), ("residual", 3, "score-cam"), ("vgg_like", 3, "gradient"),
        ("gap_linear", 3, "full-grad"), ("residual", 3, "guided-grad-cam"), ("fixed_batch", 3, "grad-cam"),
    ],
)  # fmt: skip
def test_aug_is_the_mean_over_flips_and_scales_turned_back(name, axis, method):
    model = BUILDERS[name]()
    explainer = Explainer(model, method=method)
    x = inputs(model, 2, seed=1)
    [key] = x
    found = explainer.explain(inputs=x, target=1, smooth="aug")
    maps = []
    for factor in FACTORS:
        maps.append(explainer.explain(inputs={key: x[key] * np.float32(factor)}, target=1).saliency)
        turned = flipped(x[key], axis) * np.float32(factor)
        maps.append(np.flip(explainer.explain(inputs={key: turned}, target=1).saliency, -1))
    expected = np.mean(maps, axis=0)
    np.testing.assert_allclose(found.saliency, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert found.saliency_map.min() >= 0 or method == "gradient" or method == "guided-grad-cam"
    assert "smooth=aug: the mean of 6 maps" in found.notes
    assert found.weights is None
    np.testing.assert_array_equal(found.activations, explainer.explain(inputs=x, target=1).activations)


def test_a_picture_that_is_its_own_mirror_has_a_map_that_is():
    explainer, x, _ = explained("gap_linear")
    even = {"image": (x["image"] + x["image"][..., ::-1]).astype(np.float32)}
    found = explainer.explain(inputs=even, target=1, smooth="aug").saliency
    np.testing.assert_allclose(found, found[..., ::-1], rtol=1e-4, atol=1e-6)
    plain = explainer.explain(inputs=even, target=1).saliency
    assert np.abs(plain - plain[..., ::-1]).max() > 1e-3


def test_noise_over_the_gradient_is_smooth_grad():
    model = BUILDERS["gap_linear"]()
    x = inputs(model, 2)
    found = Explainer(model, method="gradient").explain(inputs=x, target=1, smooth="noise")
    options = {"samples": SAMPLES, "noise": NOISE, "seed": SEED}
    expected = Explainer(model, method="smooth-grad", options=options).explain(inputs=x, target=1)
    np.testing.assert_allclose(found.saliency, expected.saliency, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["grad-cam", "layer-cam", "score-cam"])
def test_eigen_is_the_first_component_of_the_weighted_activations(method):
    explainer, x, _ = explained("residual", method)
    found = explainer.explain(inputs=x, target=1, smooth="eigen")
    np.testing.assert_allclose(found.saliency, first_component(found.weights * found.activations), rtol=1e-5, atol=1e-6)
    for i in range(2):
        products = (found.weights * found.activations)[i]
        rows = products.reshape(len(products), -1).T.astype(float)
        _, _, right = np.linalg.svd(rows, full_matrices=False)
        component = rows @ right[0]
        component *= np.sign(component @ rows.mean(axis=1))
        np.testing.assert_allclose(
            found.saliency[i].reshape(-1), component, rtol=1e-3, atol=1e-4 * np.abs(component).max()
        )


def test_with_one_channel_the_first_component_is_the_map():
    found = first_component(np.array([[[[1.0, -2.0], [0.5, 3.0]]]]))
    np.testing.assert_allclose(found, [[[1.0, -2.0], [0.5, 3.0]]], rtol=1e-12)


def test_the_class_is_that_of_the_clean_picture_and_each_sample_is_by_itself():
    explainer, x, _ = explained("gap_linear", batch=3)
    clean = explainer.explain(inputs=x)
    for smooth in SMOOTHINGS:
        whole = explainer.explain(inputs=x, smooth=smooth)
        np.testing.assert_array_equal(whole.target, clean.target)
        one = explainer.explain(inputs={"image": x["image"][2:]}, smooth=smooth)
        np.testing.assert_allclose(one.saliency[0], whole.saliency[2], rtol=1e-4, atol=1e-6)
        again = explainer.explain(inputs=x, smooth=smooth)
        np.testing.assert_array_equal(again.saliency, whole.saliency)


def test_several_layers_and_several_classes():
    model = BUILDERS["gap_linear"]()
    x = inputs(model, 2)
    both = Explainer(model, layers=["b", "features"])
    found = both.explain(inputs=x, target=[[0, 1], [2, 3]], smooth="aug")
    assert found.target.tolist() == [0, 1, 2, 3]
    alone = Explainer(model, layers="b").explain(inputs={"image": x["image"][1:]}, target=2, smooth="aug")
    np.testing.assert_allclose(found.layers["b"].saliency[2], alone.saliency[0], rtol=1e-4, atol=1e-6)


def test_pictures_of_whole_numbers_stay_whole():
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    explainer = Explainer(BUILDERS["gap_linear"]())
    assert explainer.explain(picture, smooth="noise").saliency.shape == (1, 8, 8)


def test_progress_ends_at_the_number_of_explanations():
    explainer, x, _ = explained("gap_linear", "rise")
    seen = []
    explainer.explain(
        inputs=x, smooth="aug", options={"masks": 4}, progress=lambda done, total: seen.append((done, total))
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (pytest.approx(2), 2)


def test_ctrl_c_keeps_the_variants_that_are_done(monkeypatch):
    explainer, x, _ = explained("gap_linear")
    plain = explainer.explain(inputs=x, target=1)
    engine = explainer._runs.engine()
    monkeypatch.setattr(explainer._runs, "_engine", Pressed(engine, at=2))  # the clean one and the first variant
    found = explainer.explain(inputs=x, target=1, smooth="aug")
    assert found.interrupted
    assert "smooth=aug: the mean of 1 maps, stopped before 6" in found.notes
    np.testing.assert_allclose(found.saliency, plain.saliency, rtol=1e-5, atol=1e-7)
    monkeypatch.setattr(explainer._runs, "_engine", Pressed(engine, at=1))
    with pytest.raises(KeyboardInterrupt):
        explainer.explain(inputs=x, target=1, smooth="aug")


@pytest.mark.parametrize(
    ("method", "smooth", "words"),
    [
        ("grad-cam", "flip", "smooth is 'flip', expected one of aug, eigen, noise"),
        ("eigen-cam", "eigen", "eigen-cam has no weights at 'features'"),
        ("gradient", "eigen", "gradient has no weights at 'image'"),
    ],
)
def test_what_cannot_be_smoothed_is_said(method, smooth, words):
    explainer, x, _ = explained("gap_linear", method)
    with pytest.raises(InputError, match=words):
        explainer.explain(inputs=x, smooth=smooth)


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(BUILDERS["gap_linear"](), "model.onnx")
    np.save("x.npy", inputs(BUILDERS["gap_linear"](), 1)["image"])
    common = ["explain", "model.onnx", "--input", "image=x.npy", "-o", "out/", "--json"]
    assert main([*common, "--smooth", "aug"]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)
    assert "smooth=aug: the mean of 6 maps" in out.err
    assert main([*common, "--smooth", "blur"]) == 2
    [command] = [a for a in parser()._subparsers._group_actions if a.choices]
    [option] = [a for a in command.choices["explain"]._actions if a.dest == "smooth"]
    assert option.choices == SMOOTHINGS
