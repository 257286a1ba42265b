"""Embeddings: a picture is compared with another one, of which the same model gives the vector."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import onnx
import pytest

from benchmarks.tasks import MODELS, embedding
from cam_onnx import ContractError, Explainer, InputError, Logit, ScoreNotFound, Similarity, convert
from cam_onnx.cli import main as command_line
from cam_onnx.render import image
from models import derived
from models.synthetic import textured

SETTINGS = MODELS / "synthetic.json"
ONE, OTHER = textured(5, "bars", "dots").pixels, textured(8, "bars", "checks").pixels


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(derived.vectors(), "vectors.onnx")
    image.save("one.png", ONE)
    image.save("other.png", OTHER)


def vector(pixels):
    return Explainer("vectors.onnx", target=Logit(), preprocess=SETTINGS).explain(pixels).logits[0]


def test_a_picture_as_reference_is_the_vector_that_the_model_gives_of_it(files):
    explainer = Explainer("vectors.onnx", target=Similarity("other.png"), preprocess=SETTINGS)
    assert explainer.contract.target == Similarity(vector(OTHER)).to_dict()
    expected = explainer.explain(ONE, target=Similarity(vector(OTHER)))
    both = vector(ONE), vector(OTHER)
    cosine = both[0] @ both[1] / np.linalg.norm(both[0]) / np.linalg.norm(both[1])
    for target in (-1, Similarity("other.png"), "similar:other.png"):
        found = explainer.explain(ONE, target=target)
        np.testing.assert_array_equal(found.saliency, expected.saliency)
        assert found.score[0] == pytest.approx(cosine, rel=1e-5)
    product = explainer.explain(ONE, target=Similarity("other.png", cosine=False))
    assert product.score[0] == pytest.approx(cosine * np.linalg.norm(both[0]), rel=1e-5)
    again = pickle.loads(pickle.dumps(explainer)).explain(ONE, target="similar:other.png")
    np.testing.assert_array_equal(again.saliency, expected.saliency)
    assert explainer.verify(ONE, target="similar:other.png").ok


def test_a_model_of_classes_compares_by_the_value_that_is_named():
    folder = MODELS / "pictures"
    explainer = Explainer(MODELS / "textures-average.onnx", score=embedding(), preprocess=SETTINGS)
    found = explainer.explain(ONE, target=Similarity(folder / "chelsea.png"))
    assert found.contract.target["kind"] == "similarity"
    [itself] = explainer.explain(folder / "chelsea.png", target=Similarity(folder / "chelsea.png")).score
    assert itself == pytest.approx(1, abs=1e-5)
    assert found.score[0] < itself


def test_a_file_is_run_once_until_it_changes(files, monkeypatch):
    from cam_onnx import opened

    explainer, read = Explainer("vectors.onnx", target="class", preprocess=SETTINGS), []
    whole = opened.given

    def given(picture, *rest):
        read.append(picture)
        return whole(picture, *rest)

    monkeypatch.setattr(opened, "given", given)
    first = explainer.explain(ONE, target="similar:other.png").score[0]
    assert explainer.explain(OTHER, target="similar:other.png").score[0] == pytest.approx(1, abs=1e-5)
    assert read == ["other.png"]
    image.save("other.png", ONE)
    os.utime("other.png", (1, 1))
    assert explainer.explain(ONE, target="similar:other.png").score[0] == pytest.approx(1, abs=1e-5) != first
    assert read == ["other.png"] * 2


def test_two_pictures_are_explained_by_each_other_in_one_command(files, capsys):
    command = ["explain", "vectors.onnx", "one.png", "other.png", "--preprocess", str(SETTINGS)]
    assert command_line([*command, "-o", "out/"]) == 2
    assert "of two pictures, similar alone: each is compared with the other" in capsys.readouterr().err
    assert command_line([*command, "-o", "out/", "--target", "similar", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [entry["picture"] for entry in said] == ["one.png", "other.png"]
    assert said[0]["target"]["score"] == pytest.approx(said[1]["target"]["score"], rel=1e-5)
    for name, pixels, reference in (("one", ONE, OTHER), ("other", OTHER, ONE)):
        by_hand = Explainer("vectors.onnx", target=Similarity(vector(reference)), preprocess=SETTINGS)
        expected = by_hand.explain(pixels).saliency[0]
        np.testing.assert_allclose(np.load(f"out/{name}.saliency.npy"), expected, atol=1e-6 * np.abs(expected).max())


def test_one_picture_is_explained_by_another_in_one_command(files, capsys):
    command = ["vectors.onnx", "one.png", "--preprocess", str(SETTINGS), "--target", "similar:other.png"]
    assert command_line(["explain", *command, "-o", "one.out.png"]) == 0
    assert command_line(["verify", *command]) == 0
    assert "1 of 1 gradients agree" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("similar:none.png", "none.png: no such file"),
        ("similar:vectors.onnx", "is not a picture that can be read"),
        ("similar:none.npy", "cannot read it as a .npy file"),
        ("similar", "expected similar:FILE"),
        ("similar:", "expected similar:FILE"),
    ],
)
def test_what_is_no_reference_is_refused(files, capsys, target, words):
    assert command_line(["explain", "vectors.onnx", "one.png", "-o", "x.png", "--target", target]) == 2
    assert words in capsys.readouterr().err
    assert not os.path.exists("x.png")


def test_a_conversion_runs_nothing(files):
    with pytest.raises(InputError, match=r"'other.png' takes a run, and a conversion makes none"):
        convert("vectors.onnx", target="similar:other.png")
    convert("vectors.onnx", target="class").save("classes.onnx")
    with pytest.raises(ContractError, match="converted for targets of kind class, not similarity"):
        Explainer("classes.onnx").explain("one.png", target="similar:other.png")
    with pytest.raises(ScoreNotFound, match="image embedding"):
        Explainer("vectors.onnx")
