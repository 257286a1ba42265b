"""Colour maps: the list is OpenCV's, tables are its tables, and zero of a signed map is white."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cam_onnx.errors import InputError, UnknownName
from cam_onnx.render.colormap import COLORMAPS, DIVERGING, check, colorize

RAMP = (np.arange(256, dtype=np.float32) / 255)[None]


def test_the_list_is_opencvs_and_the_diverging_one():
    theirs = {name.removeprefix("COLORMAP_").lower() for name in dir(cv2) if name.startswith("COLORMAP_")}
    assert theirs - set(COLORMAPS) == set()
    assert set(COLORMAPS) - theirs <= {DIVERGING, "parula"}  # parula: new in OpenCV 5
    assert len(COLORMAPS) == len(set(COLORMAPS))


@pytest.mark.parametrize("name", ["jet", "turbo", "viridis", "inferno"])
def test_a_ramp_is_opencvs_table_in_rgb(name):
    number = getattr(cv2, f"COLORMAP_{name.upper()}")
    expected = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], number)[..., ::-1]
    np.testing.assert_array_equal(colorize(RAMP, name), expected)


def test_jet_goes_from_blue_to_red():
    red, green, blue = colorize(np.array([[0.0, 1.0]]), "jet")[0].T.astype(int)
    assert (red[0], green[0], green[1], blue[1]) == (0, 0, 0, 0)
    assert blue[0] > 100
    assert red[1] > 100


def test_a_negative_value_makes_the_scale_symmetric():
    table = colorize(RAMP, "viridis")[0]
    drawn = colorize(np.array([[-1.0, 0.0, 1.0]]), "viridis")[0]
    np.testing.assert_array_equal(drawn, table[[1, 128, 255]])


def test_the_diverging_map_is_white_at_zero_blue_below_and_red_above_whatever_the_sign():
    negative, zero, positive = colorize(np.array([[-1.0, 0.0, 1.0]]), DIVERGING)[0].astype(int)
    assert zero.tolist() == [255, 255, 255]
    assert negative[2] > 2 * negative[0]
    assert positive[0] > 2 * positive[2]
    np.testing.assert_array_equal(colorize(np.array([[1.0]]), DIVERGING)[0, 0], positive)


@pytest.mark.parametrize("name", ["JET", "Twilight-Shifted", "blue_white_red"])
def test_case_and_dashes_do_not_matter(name):
    assert check(name) in COLORMAPS


@pytest.mark.parametrize("name", ["virids", "", "jet\x1b[31m"])
def test_an_unknown_name_is_named_with_the_list(name):
    with pytest.raises(UnknownName, match="There are: jet, turbo") as caught:
        colorize(RAMP, name)
    assert str(caught.value).isprintable()


def test_the_nearest_name_is_offered():
    with pytest.raises(UnknownName, match="did you mean 'viridis'"):
        check("virids")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[0.0, 1.5]]), r"got 0 to 1.5: normalise it first"),
        (np.array([[-3.0, 0.0]]), "normalise it first"),
        (np.array([[np.nan, 0.0]]), "normalise it first"),
        (np.zeros((1, 2, 3)), r"got shape \(1, 2, 3\)"),
    ],
)
def test_what_is_no_normalised_map_is_refused(values, words):
    with pytest.raises(InputError, match=words):
        colorize(values)
