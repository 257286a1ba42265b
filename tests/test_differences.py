"""Differences against gradients that are known: right, wrong, of no derivative at all. No network is run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cam_onnx.contract import Axes
from cam_onnx.differences import AGREES, INCONCLUSIVE, WRONG, examine
from cam_onnx.directions import directions

SHAPE = (1, 32, 6, 5)
RNG = np.random.default_rng(7)
POINT = RNG.standard_normal(SHAPE).astype(np.float32)
WEIGHT = RNG.standard_normal(SHAPE)


def smooth(x):
    """The sum of w tanh(x), rounded to float32 as a network's score is."""
    return float(np.float32((WEIGHT * np.tanh(x.astype(np.float64))).sum()))


SLOPE = WEIGHT * (1 - np.tanh(POINT.astype(np.float64)) ** 2)


def relu(x):
    return float((WEIGHT * np.maximum(x, 0)).sum())


def look(function, gradient, point=POINT, **options):
    return examine(function, point, np.asarray(gradient), Axes(), abs(function(point)) or 1.0, **options)


def test_a_right_gradient_agrees():
    found = look(smooth, SLOPE)
    assert found.verdict == AGREES
    assert found.error < 1e-3
    assert found.text == ""
    assert found.runs == 1 + 2 * (9 + 8)


def test_in_float64_it_agrees_more_closely():
    found = look(lambda x: float((WEIGHT * np.tanh(x)).sum()), SLOPE, POINT.astype(np.float64))
    assert found.verdict == AGREES
    assert found.error < 1e-4


def broken(kind):
    gradient = SLOPE.copy()
    if kind == "half a channel's sign":
        gradient[:, :4] *= -1
    elif kind == "channels missing":
        gradient[:, ::2] = 0
    elif kind == "shifted":
        gradient = np.roll(gradient, 1, axis=3)
    else:
        gradient *= kind
    return gradient


@pytest.mark.parametrize("kind", [-1.0, 1.1, 1.03, 0.99, "half a channel's sign", "channels missing", "shifted"])
def test_a_wrong_gradient_is_wrong(kind):
    found = look(smooth, broken(kind))
    assert found.verdict == WRONG
    assert "whatever the step" in found.text
    if isinstance(kind, float):
        assert found.error == pytest.approx(abs(1 / kind - 1), rel=0.1)


def test_the_limit_is_wider_at_the_picture():
    assert look(smooth, SLOPE * 1.006).verdict == WRONG
    assert look(smooth, SLOPE * 1.006, image=True).verdict == AGREES


def test_what_is_missing_from_a_gradient_is_found_across_it():
    """Along what is left of it nothing is wrong."""
    found = look(smooth, broken("channels missing"))
    assert found.text.startswith("across the gradient: ")
    assert found.error < 3e-3, "which is the largest along it"


def test_at_a_kink_any_subgradient_is_right_and_none_is_called_wrong():
    point = np.zeros(SHAPE, np.float32)
    point[0, 0] = POINT[0, 0]
    size = 10.0
    for choice in (0.0, 1.0, 0.3):
        gradient = WEIGHT * np.where(point > 0, 1, np.where(point == 0, choice, 0))
        found = examine(relu, point, gradient, Axes(), size)
        assert found.verdict == AGREES
        assert f"not judged at {point.size - 30} of {point.size} entries" in found.text
    # where entries do have a derivative, ties hide nothing
    assert examine(relu, point, WEIGHT * 1.1 * (point > 0), Axes(), size).verdict == WRONG


def test_a_gate_that_flips_beside_the_point_does_not_count():
    """The slope changes by a third on one side, nearer than any step."""
    near = POINT.astype(np.float64) + 1e-9 * np.sign(SLOPE)

    def kinked(x):
        ahead = np.maximum((SLOPE * (x.astype(np.float64) - near)).sum(), 0)
        return smooth(x) + ahead / 3

    assert look(kinked, SLOPE).verdict == AGREES
    assert look(kinked, SLOPE * 1.1).verdict != AGREES


@pytest.mark.parametrize(
    ("rough", "words"),
    [
        (lambda x: smooth(x) + 0.05 * math.sin(1e4 * (SLOPE * x).sum()), "kinks: "),
        (lambda x: round(smooth(x) * 50) / 50, "a staircase: the score changes by longer steps only"),
    ],
    ids=["waves", "stairs"],
)
def test_differences_that_do_not_agree_with_one_another_are_inconclusive(rough, words):
    found = look(rough, SLOPE)
    assert found.verdict == INCONCLUSIVE
    assert words in found.text


def test_a_score_in_16_bits_is_not_judged():
    found = look(smooth, SLOPE, precision=2.0**-11)
    assert found.verdict == INCONCLUSIVE
    assert "the score is rounded to 5e-04 of its size" in found.text
    assert found.runs == 1


def test_a_zero_gradient_agrees_where_nothing_changes():
    found = examine(lambda x: 3.0, POINT, np.zeros(SHAPE), Axes(), 3.0)
    assert found.verdict == AGREES
    assert "zero, and the score does not change" in found.text
    found = examine(smooth, POINT, np.zeros(SHAPE), Axes(), 3.0)
    assert found.verdict == WRONG
    assert "zero everywhere, but the score changes" in found.text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_has_its_own_text(value):
    gradient = SLOPE.copy()
    gradient[0, 3, 2, 1] = value
    found = look(smooth, gradient)
    assert found.verdict == WRONG
    assert f"NaN or infinite at 1 of {gradient.size} positions" in found.text
    found = examine(lambda x: value, POINT, SLOPE, Axes(), 1.0)
    assert found.verdict == INCONCLUSIVE
    assert "the score itself is not finite" in found.text


@pytest.mark.parametrize(
    ("shape", "axes", "image"),
    [
        ((1, 32, 6, 5), Axes(), False),
        ((1, 3, 40, 24), Axes(), True),
        ((1, 40, 24, 3), Axes(0, 3, (1, 2)), True),
        ((2, 4, 100), Axes(0, 1, (2,)), False),
        ((1, 2, 5, 6, 7), Axes(0, 1, (2, 3, 4)), True),
        ((1, 12, 3, 2), Axes(), False),
        ((1, 7), Axes(0, 1, ()), False),
    ],
)
def test_halves_complete_each_other(shape, axes, image):
    g = np.abs(np.random.default_rng(0).standard_normal(shape)) + 0.1
    found = list(directions(g, np.ones(shape), axes, image, np.random.default_rng(1)))
    aligned = [d.vector for d in found if d.aligned]
    assert len(aligned) == 9
    assert len(found) == 17
    assert np.array_equal(aligned[0], g)
    for one, other in zip(aligned[1::2], aligned[2::2], strict=True):
        assert np.array_equal(one + other, g)
        assert not (one * other).any()
        assert 0.2 < (one != 0).mean() < 0.8
        if axes.spatial and image:
            assert np.ptp((one != 0).mean(axis=axes.channel)) == 1
            assert set(np.unique((one != 0).mean(axis=axes.channel))) == {0, 1}, "all channels of a patch"
    again = list(directions(g, np.ones(shape), axes, image, np.random.default_rng(1)))
    assert all(np.array_equal(a.vector, b.vector) for a, b in zip(found, again, strict=True))
