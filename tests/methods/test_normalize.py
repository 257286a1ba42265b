"""saliency_map: the order of the steps, the ranges, and that nothing is ever made of nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cam_onnx.errors import InputError
from cam_onnx.methods import fuse, saliency_map
from cam_onnx.render.upsample import upsample

PEAK = np.array([[[-4.0, 0.0, 1.0], [0.0, 3.0, 0.5], [-1.0, 0.0, 0.0]]], np.float32)


def one(saliency, **options):
    maps, reasons = saliency_map(np.asarray(saliency), **{"relu": True, "size": (9, 9), **options})
    return maps[0], reasons[0]


def test_relu_comes_before_upsampling_and_one_min_max_after_it():
    drawn, reason = one(PEAK)
    up = upsample(np.maximum(PEAK[0], 0), (9, 9))
    np.testing.assert_allclose(drawn, (up - up.min()) / (up.max() - up.min()), atol=1e-6)
    assert (drawn.min(), drawn.max(), reason) == (0, 1, None)
    assert drawn.dtype == np.float32


def test_a_signed_map_is_divided_by_its_largest_absolute_value_and_zero_stays_zero():
    drawn, _ = one(PEAK, relu=False, size=None)
    np.testing.assert_allclose(drawn, PEAK[0] / 4)


def test_without_normalisation_raw_values_stay():
    drawn, reason = one(PEAK, normalize=None, size=None)
    np.testing.assert_array_equal(drawn, np.maximum(PEAK[0], 0))
    assert reason is None


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((1, 3, 3)), "all zero"),
        (np.full((1, 3, 3), 1e-42, np.float32), "all zero (largest absolute value"),
        (np.full((1, 3, 3), 0.3, np.float32), "constant: every value is 0.3"),
        (np.full((1, 3, 3), 1e6, np.float32) + np.eye(3, dtype=np.float32) / 16, "constant"),
        (np.full((1, 1, 1), 2.0), "constant"),
        (np.where(np.eye(3), np.nan, PEAK), "not finite: 3 of 9"),
        (np.where(np.eye(3), -np.inf, PEAK), "not finite: 3 of 9"),
    ],
)
def test_nothing_is_never_stretched_to_one(values, words, relu):
    drawn, reason = one(values, relu=relu)
    assert not drawn.any()
    assert reason.startswith(words)


@pytest.mark.parametrize(
    "values",
    [-np.ones((1, 3, 3)), np.minimum(PEAK, 0), np.minimum(PEAK, 0) * 1e6 + np.float32(1e-3)],
    ids=["negative", "no positive", "positive by rounding only"],
)
def test_what_relu_removes_is_said(values):
    drawn, reason = one(values)
    assert not drawn.any()
    assert reason.startswith("nothing positive is left after ReLU")


def test_raw_values_of_a_constant_map_stay_but_those_of_a_nan_map_do_not():
    assert one(np.full((1, 2, 2), 3.0), normalize=None)[0].max() == 3
    assert not one(np.full((1, 2, 2), np.nan), normalize=None)[0].any()


def test_a_blank_sample_does_not_blank_the_others():
    maps, reasons = saliency_map(np.concatenate([PEAK, 0 * PEAK, PEAK * np.nan]), relu=True, size=(6, 6))
    assert [m.max() for m in maps] == [1, 0, 0]
    assert [r and r.split(":")[0] for r in reasons] == [None, "all zero", "not finite"]


def test_outside_the_box_is_zero_and_does_not_enter_the_range():
    drawn, _ = one(PEAK + 5, size=(20, 30), box=(5, 5, 15, 25))
    inside = drawn[5:15, 5:25].copy()
    assert (inside.min(), inside.max()) == (0, 1)
    drawn[5:15, 5:25] = 0
    assert not drawn.any()
    np.testing.assert_allclose(inside, one(PEAK + 5, size=(10, 20))[0], atol=1e-6)


def test_evidence_in_the_letterbox_margin_only_is_said():
    values = np.zeros((1, 8, 8))
    values[0, 0] = 1
    drawn, reason = one(values, size=(10, 40), box=(-15, 0, 25, 40))
    assert not drawn.any()
    assert reason == "all zero within the picture"


def test_pictures_of_different_sizes_give_a_list():
    maps, reasons = saliency_map(
        np.concatenate([PEAK, PEAK]), relu=True, size=[(4, 5), (7, 6)], box=[None, (0, 0, 7, 6)]
    )
    assert isinstance(maps, list)
    assert [m.shape for m in maps] == [(4, 5), (7, 6)]
    assert reasons == [None, None]


@pytest.mark.parametrize(("space", "size"), [((5,), (20,)), ((2, 3, 4), (4, 6, 8))], ids=["1-D", "3-D"])
def test_any_number_of_axes(space, size):
    values = np.random.default_rng(0).normal(size=(2, *space)).astype(np.float32)
    maps, _ = saliency_map(values, relu=False, size=size)
    assert np.shape(maps) == (2, *size)
    assert np.abs(maps).max() <= 1


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    scale=st.floats(-30, 30).map(lambda e: float(np.float32(10.0**e))),
    relu=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_map_does_not_depend_on_the_scores_units(scale, relu, seed):
    values = np.random.default_rng(seed).normal(size=(1, 4, 5)).astype(np.float32)
    drawn, reason = one(values * np.float32(scale), relu=relu)
    np.testing.assert_allclose(drawn, one(values, relu=relu)[0], atol=2e-6)
    assert reason is None


def test_fuse_is_the_mean_and_is_not_stretched_again():
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 0.5]])
    np.testing.assert_array_equal(fuse([a, b]), [[0.5, 0.25]])
    np.testing.assert_array_equal(fuse([a]), a)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: one(PEAK, normalize="max"), "normalize is 'max'"),
        (lambda: one(np.ones(3)), r"shape \(3,\)"),
        (lambda: one(np.ones((1, 0, 3))), r"\(1, 0, 3\)"),
        (lambda: one(PEAK, size=(0, 9)), "must be positive"),
        (lambda: one(PEAK, box=(0, 0, 0, 5)), r"box \(0, 0, 0, 5\)"),
        (lambda: one(PEAK, size=[(3, 3), (3, 3)]), "1 maps, but 2 sizes"),
        (lambda: fuse([]), "none"),
        (lambda: fuse([np.ones((2, 2)), np.ones((2, 3))]), "one shape"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
