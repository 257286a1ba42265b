"""What callers name as the target, as class indices."""

from __future__ import annotations

import numpy as np
import pytest

from cam_onnx import Explainer, InputError, Probability, UnknownName
from cam_onnx.cli import main
from cam_onnx.targets import resolve
from models.builders import BUILDERS, inputs
from tests.graph.test_seeds import segmentation
from tests.running import CAT, MODEL

LABELS = ("tench", "Egyptian cat", "crane", "crane", "tabby")

# (target, samples) -> per sample its class indices
GOOD = [
    (-1, 2, [[-1], [-1]]),
    (4, 1, [[4]]),
    (np.int32(3), 1, [[3]]),
    ("Egyptian cat", 1, [[1]]),
    ("  egyptian CAT ", 1, [[1]]),
    ([1], 3, [[1], [1], [1]]),
    ([0, -1, 4], 3, [[0], [-1], [4]]),
    ((0, "tabby"), 2, [[0], [4]]),
    (range(2), 2, [[0], [1]]),
    (np.array([2, 0]), 2, [[2], [0]]),
    (np.array(2), 1, [[2]]),
    ([[1, 4]], 1, [[1, 4]]),
    ([[1, 4]], 2, [[1, 4], [1, 4]]),
    ([[1], [0, -1, 3]], 2, [[1], [0, -1, 3]]),
    ([["tabby", 0], (2,)], 2, [[4, 0], [2]]),
    (np.array([[1, 2], [3, 4]]), 2, [[1, 2], [3, 4]]),
    ([np.array([1, 2])], 1, [[1, 2]]),
    ([[1, 1]], 1, [[1, 1]]),
]


@pytest.mark.parametrize(("target", "samples", "expected"), GOOD, ids=str)
def test_targets_become_indices(target, samples, expected):
    assert resolve(target, samples, 5, LABELS) == expected


BAD = [
    (5, 1, InputError, "target 5 is out of range: -1 (the predicted class), or 0 to 4"),
    (-2, 1, InputError, "target -2 is out of range"),
    ([0, 9], 2, InputError, "target 9 is out of range"),
    (1.5, 1, InputError, "target 1.5: expected a class index"),
    (1.0, 1, InputError, "target 1.0: expected a class index"),
    (np.array([1.5]), 1, InputError, "target 1.5: expected a class index"),
    (True, 1, InputError, "target True: expected a class index"),
    (None, 1, InputError, "target None: expected a class index"),
    ({"a": 1}, 1, InputError, "expected a class index"),
    ("tabbi", 1, UnknownName, "no class is called 'tabbi'; did you mean 'tabby'?"),
    ("dog\nline", 1, UnknownName, r"no class is called 'dog"),
    ("crane", 1, InputError, "2 classes are called 'crane' (indices [2, 3]): give the index"),
    ([0, 1, 2], 2, InputError, "target has 3 entries for 2 samples"),
    ([0, 1], 1, InputError, "target has 2 entries for 1 sample:"),
    ([], 1, InputError, "target has 0 entries for 1 sample"),
    ([[]], 1, InputError, "no target"),
    ([[1], []], 2, InputError, "no target"),
    ([[1], 2], 2, InputError, "either every entry is a list of targets or none is"),
    ([[[1]]], 1, InputError, "expected a class index"),
]


@pytest.mark.parametrize(("target", "samples", "error", "words"), BAD, ids=str)
def test_what_does_not_fit_is_refused(target, samples, error, words):
    with pytest.raises(error) as caught:
        resolve(target, samples, 5, LABELS)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_names_need_labels():
    with pytest.raises(InputError, match="class names are not known here; give labels, or a class index"):
        resolve("tabby", 1, 5, None)


def test_an_open_number_of_classes_is_checked_by_the_graph():
    assert resolve(10**6, 1, None, None) == [[10**6]]
    with pytest.raises(InputError, match="-1 \\(the predicted class\\), or 0$"):
        resolve(-2, 1, None, None)


# -- the K best -------------------------------------------------------------------------------------------------------


def test_the_best_classes_are_explained_as_if_they_were_named():
    model = BUILDERS["gap_linear"]()
    x = inputs(model, 3, seed=2)
    explainer = Explainer(model)
    best = np.argsort(-explainer.explain(inputs=x).logits, axis=1)
    e = explainer.explain(inputs=x, target="top:3")
    np.testing.assert_array_equal(e.target.reshape(3, 3), best[:, :3])
    named = explainer.explain(inputs=x, target=best[:, :3].tolist())
    np.testing.assert_array_equal(e.saliency, named.saliency)
    mixed = explainer.explain(inputs=x, target=["top:1", 4, "TOP:1"])
    assert mixed.target.tolist() == [best[0, 0], 4, best[2, 0]]
    several = explainer.explain(inputs=x, target=[[4, "top:2"]])
    np.testing.assert_array_equal(several.target.reshape(3, 3), np.c_[[4, 4, 4], best[:, :2]])


def test_the_best_classes_of_another_kind():
    model = BUILDERS["gap_linear"]()
    x = inputs(model, 1)
    explainer = Explainer(model)
    e = explainer.explain(inputs=x, target="probability:top:2")
    assert e.contract.target == {"kind": "probability"}
    np.testing.assert_array_equal(e.target, np.argsort(-e.logits[0])[:2])
    again = explainer.explain(inputs=x, target=Probability(cls="top:2"))
    np.testing.assert_array_equal(e.saliency, again.saliency)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("top:6", "target 'top:6': the model has 5 classes"),
        ("top:0", "expected top:K"),
        ("top:", "expected top:K"),
        ("top:two", "expected top:K"),
        (["top:1", "top:1"], "target has 2 entries for 1 sample"),
    ],
    ids=str,
)
def test_what_is_no_number_of_classes_is_refused(target, words):
    model = BUILDERS["gap_linear"]()
    with pytest.raises(InputError, match=words):
        Explainer(model).explain(inputs=inputs(model, 1), target=target)


def test_a_place_has_no_best_classes():
    model = segmentation()
    with pytest.raises(InputError, match="of kind pixel the classes have no order of their own"):
        Explainer(model, layers="features", target="pixel:3,5").explain(inputs=inputs(model, 1), target="top:2")


def test_a_class_of_that_name_wins():
    model = BUILDERS["gap_linear"]()
    labels = ["a", "b", "top:2", "c", "d"]
    e = Explainer(model, labels=labels).explain(inputs=inputs(model, 1), target="top:2")
    assert e.target.tolist() == [2]


def test_on_the_command_line_each_has_its_files(tmp_path, capsys):
    assert main(["explain", str(MODEL), str(CAT), "--target", "top:2", "-o", f"{tmp_path}/out/"]) == 0
    assert len(list((tmp_path / "out").glob("*overlay.png"))) == 2
    assert capsys.readouterr().out.count("explained: ") == 2
    assert main(["explain", str(MODEL), str(CAT), "--target", "top:2", "-o", str(tmp_path / "one.png")]) == 2


def test_a_name_letter_by_letter_wins_over_one_in_other_capitals():
    assert resolve("o", 1, 3, ("O", "o", "x")) == [[1]]
    assert resolve("X", 1, 3, ("O", "o", "x")) == [[2]]
    with pytest.raises(InputError, match="2 classes are called 'crane'"):
        resolve("crane", 1, 2, ("crane", "crane"))
