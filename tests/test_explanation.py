"""What an explanation holds, how it is drawn and written, and that blank maps come with their reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cam_onnx import Explainer, InputError, Preprocess, UnknownName, WriteFailed
from cam_onnx.render import image
from models.builders import BUILDERS, inputs, network

PICTURES = [np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), np.uint8) for i in range(3)]


@pytest.fixture(scope="module")
def explainer():
    return Explainer(
        BUILDERS["gap_linear"](), labels=["ant", "bee", "cat", "dog", "eel"], preprocess=Preprocess(size=(16, 16))
    )


def pooled(weight, bias=0.0):
    """`features` is the picture itself, the logits are its channel means times `weight`."""
    return network(
        "pooled (float[N,3,8,8] image) => (float[N,2] logits)",
        "features = Relu(image)  p = GlobalAveragePool(features)  f = Flatten(p)  logits = Gemm(f, w, b)",
        dict(w=np.full((3, 2), weight, np.float32), b=np.full(2, bias, np.float32)),
    )


def ramp(batch=1):
    one = np.linspace(0.1, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    return {"image": np.broadcast_to(one, (batch, 3, 8, 8)).copy()}


# -- honest maps -----------------------------------------------------------------------------------------------------


def test_a_zero_saliency_stays_and_its_map_is_zero_with_the_reason():
    e = Explainer(pooled(0.0, 1.0)).explain(inputs=ramp())
    np.testing.assert_array_equal(e.saliency, np.zeros((1, 8, 8)))
    np.testing.assert_array_equal(e.saliency_map, np.zeros((1, 8, 8)))
    assert str(e.reasons[0]).startswith("all zero")


def test_what_speaks_against_stays_signed_and_its_map_is_zero_with_the_reason():
    e = Explainer(pooled(-1.0)).explain(inputs=ramp())
    assert e.saliency.max() < 0
    assert np.max(e.saliency_map) == 0
    assert str(e.reasons[0]).startswith("nothing positive is left after ReLU")
    signed = Explainer(pooled(-1.0)).explain(inputs=ramp(), relu=False)
    assert np.min(signed.saliency_map) == -1
    assert signed.reasons == [None]


def test_nan_stays_and_its_map_is_zero_with_the_reason():
    e = Explainer(pooled(float("nan"))).explain(inputs=ramp(), target=0)
    assert np.isnan(e.saliency).all()
    np.testing.assert_array_equal(e.saliency_map, np.zeros((1, 8, 8)))
    assert str(e.reasons[0]).startswith("not finite: 64 of 64 values are NaN or infinite")
    assert e.heatmap().shape == (8, 8, 3)


def test_one_blank_sample_does_not_blank_the_others(tmp_path):
    feeds = ramp(3)
    feeds["image"][1] = -1  # behind the ReLU: nothing
    e = Explainer(pooled(1.0)).explain(inputs=feeds)
    assert [reason is None for reason in e.reasons] == [True, False, True]
    assert [m.max() for m in e.saliency_map] == [1, 0, 1]
    e.save(tmp_path / "out")
    said = [json.loads((tmp_path / "out" / f"sample{i}.explanation.json").read_text())["blank"] for i in range(3)]
    assert [text is None for text in said] == [True, False, True]


def test_a_blank_map_leaves_the_picture_as_it_is():
    e = Explainer(pooled(-1.0), preprocess=Preprocess(size=(8, 8), scale=1 / 255)).explain(PICTURES[0])
    np.testing.assert_array_equal(e.overlay(), PICTURES[0])


# -- one sample, several samples -------------------------------------------------------------------------------------


def test_one_sample_of_several(explainer):
    e = explainer.explain(PICTURES, target=[1, 2, 3])
    assert len(e) == 3
    assert isinstance(e.saliency_map, list)
    for i in (0, 1, 2, -1):
        one = e[i]
        assert len(one) == 1
        assert one.target.tolist() == [e.target[i]]
        np.testing.assert_array_equal(one.saliency, e.saliency[i][None])
        np.testing.assert_array_equal(one.saliency_map[0], e.saliency_map[i])
        np.testing.assert_array_equal(one.weights, e.weights[i][None])
        np.testing.assert_array_equal(one.overlay(), e.overlay()[i])
        assert one.names == [f"sample{i % 3}"]
    for i in (3, -4):
        with pytest.raises(IndexError):
            e[i]
    assert [len(one) for one in e] == [1, 1, 1], "it iterates over its samples"


def test_weights_are_grad_cam_s(explainer):
    e = explainer.explain(PICTURES[0])
    assert e.weights.shape == (1, 8, 1, 1)
    np.testing.assert_array_equal(e.weights[..., 0, 0], e.gradients.mean((2, 3)))
    np.testing.assert_allclose((e.weights * e.activations).sum(1), e.saliency, rtol=1e-6)


def test_pictures_of_one_size_give_an_array_and_of_several_a_list(explainer):
    assert explainer.explain(PICTURES[:1]).saliency_map.shape == (1, 20, 30)
    assert explainer.explain([PICTURES[0]] * 2).saliency_map.shape == (2, 20, 30)
    assert [m.shape for m in explainer.explain(PICTURES).saliency_map] == [(20, 30), (21, 30), (22, 30)]
    assert explainer.explain(PICTURES[0]).heatmap().shape == (20, 30, 3)
    assert [h.shape for h in explainer.explain(PICTURES).heatmap()] == [(20, 30, 3), (21, 30, 3), (22, 30, 3)]


def test_sizes_that_do_not_fit_into_one_batch_are_refused():
    with pytest.raises(InputError, match="different sizes do not fit into one batch.*set size in preprocess="):
        Explainer(BUILDERS["residual"]()).explain(PICTURES)


def test_colour_maps_and_alpha(explainer):
    e = explainer.explain(PICTURES[0])
    assert not np.array_equal(e.heatmap("jet"), e.heatmap("viridis"))
    np.testing.assert_array_equal(e.overlay(alpha=0), PICTURES[0])
    with pytest.raises(UnknownName, match="jet"):
        e.heatmap("jett")
    with pytest.raises(InputError, match="alpha"):
        e.overlay(alpha=1.5)


def test_tensors_have_no_picture_to_lay_a_map_over(explainer):
    e = explainer.explain(inputs=inputs(BUILDERS["gap_linear"]()))
    assert [h.shape for h in e.heatmap()] == [(16, 16, 3)] * 2
    with pytest.raises(InputError, match="there is no picture .*: tensors were explained; use heatmap"):
        e.overlay()


def test_classes_by_name_and_probability(explainer):
    e = explainer.explain(PICTURES[:2])
    for row, logits in zip(e.top(9), e.logits.astype(float), strict=True):
        p = np.exp(logits) / np.exp(logits).sum()
        assert [index for index, _, _ in row] == np.argsort(-p).tolist()
        assert [name for _, name, _ in row] == [["ant", "bee", "cat", "dog", "eel"][i] for i, _, _ in row]
        np.testing.assert_allclose([value for _, _, value in row], np.sort(p)[::-1], rtol=1e-6)
    assert len(e.top(2)[0]) == 2
    assert Explainer(BUILDERS["gap_linear"]()).explain(PICTURES[:1]).label(3) == "3"


def test_probabilities_are_what_the_model_s_own_activation_gives():
    model = BUILDERS["silu_se"]()
    feeds = inputs(model)
    e = Explainer(model).explain(inputs=feeds)
    assert e.probabilities is not None
    np.testing.assert_allclose(e.probabilities.sum(1), 1)
    sigmoid = network(
        "sigmoid (float[N,3,8,8] image) => (float[N,3] y)",
        "features = Relu(image)  p = GlobalAveragePool(features)  f = Flatten(p)  y = Sigmoid(f)", {},
    )  # fmt: skip
    e = Explainer(sigmoid).explain(inputs=ramp())
    assert e.probabilities is not None
    np.testing.assert_allclose(e.probabilities, 1 / (1 + np.exp(-e.logits.astype(float))))


# -- files -----------------------------------------------------------------------------------------------------------


def test_save_writes_four_files_a_picture(explainer, tmp_path):
    paths = []
    for i, name in enumerate(["Katze ü.png", "b.png"]):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(image.encode(PICTURES[i], ".png"))
    e = explainer.explain(paths, target=["cat", -1])
    written = e.save(tmp_path / "out")
    kinds = ("overlay.png", "heatmap.png", "saliency.npy", "explanation.json")
    expected = [f"{stem}.{kind}" for stem in ("Katze ü", "b") for kind in kinds]
    assert [os.path.basename(path) for path in written] == expected
    assert sorted(os.listdir(tmp_path / "out")) == sorted(expected)
    for i, stem in enumerate(("Katze ü", "b")):
        one = e[i]
        np.testing.assert_array_equal(np.load(tmp_path / "out" / f"{stem}.saliency.npy"), one.saliency[0])
        np.testing.assert_array_equal(image.load(tmp_path / "out" / f"{stem}.overlay.png").pixels, one.overlay())
        np.testing.assert_array_equal(image.load(tmp_path / "out" / f"{stem}.heatmap.png").pixels, one.heatmap())
        said = json.loads((tmp_path / "out" / f"{stem}.explanation.json").read_text(encoding="utf-8"))
        assert (said["name"], said["method"], said["layers"]) == (stem, "grad-cam", ["features"])
        assert said["target"]["index"] == one.target[0]
        assert said["target"]["score"] == float(one.score[0])
        assert said["top"][0]["name"] == one.top()[0][0][1]
        assert set(said["files"].values()) <= set(expected)
        assert said["preprocess"]["size"] == [16, 16]
    assert json.loads((tmp_path / "out" / "Katze ü.explanation.json").read_text())["target"]["name"] == "cat"


def test_save_again_replaces(explainer, tmp_path):
    e = explainer.explain(PICTURES[0])
    first = e.save(tmp_path)
    content = [Path(path).read_bytes() for path in first]
    assert e.save(tmp_path) == first
    assert [Path(path).read_bytes() for path in first] == content
    assert len(os.listdir(tmp_path)) == 4


def test_several_targets_of_one_picture_have_names_of_their_own(explainer, tmp_path):
    e = explainer.explain(PICTURES[0], target=[[1, 2, 1]])
    stems = {os.path.basename(path).partition(".explanation")[0] for path in e.save(tmp_path) if path.endswith("json")}
    assert stems == {"sample0.1", "sample0.2", "sample0.1_2"}
    assert len(os.listdir(tmp_path)) == 12


def test_volumes_are_written_as_slices_and_have_no_heatmap(tmp_path):
    e = Explainer(BUILDERS["volume_3d"]()).explain(inputs=inputs(BUILDERS["volume_3d"](), batch=1))
    assert sorted(os.path.basename(p) for p in e.save(tmp_path)) == [
        "sample0.explanation.json", "sample0.overlay.png", "sample0.saliency.npy",
    ]  # fmt: skip


def test_nan_is_null_in_json(tmp_path):
    e = Explainer(pooled(float("nan"))).explain(inputs=ramp(), target=0)
    e.save(tmp_path)
    text = (tmp_path / "sample0.explanation.json").read_text()
    said = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert said["target"]["score"] is None
    assert said["blank"].startswith("not finite")


def test_a_folder_whose_parent_is_missing_is_refused(explainer, tmp_path):
    with pytest.raises(WriteFailed, match="cannot make this folder"):
        explainer.explain(PICTURES[0]).save(tmp_path / "no" / "out")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("there", [False, True], ids=["new folder", "folder with an older overlay"])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_save_is_taken_back_when_it_fails(explainer, tmp_path, monkeypatch, k, there):
    """The k-th file does not fit on the disk any more."""
    folder = tmp_path / "out"
    if there:
        folder.mkdir()
        (folder / "sample0.overlay.png").write_bytes(b"old")
    original, count = os.replace, 0

    def failing(*arguments):
        nonlocal count
        count += 1
        if count == k:
            raise OSError(28, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(WriteFailed, match="free some space"):
        explainer.explain(PICTURES[0]).save(folder)
    left = os.listdir(folder) if folder.exists() else []
    assert left == (["sample0.overlay.png"] if there else []), "what was made is taken back, and a new folder too"
    assert there == folder.exists()
