"""overlay: zero leaves the picture alone, one is the blend, nothing wraps around."""

from __future__ import annotations

import numpy as np
import pytest

from cam_onnx.errors import InputError, UnknownName
from cam_onnx.render.colormap import colorize
from cam_onnx.render.overlay import overlay

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def test_where_the_map_is_zero_the_picture_is_untouched():
    values = np.zeros((12, 10))
    values[3:5, 2:6] = 0.7
    drawn = overlay(PICTURE, values, alpha=1.0)
    np.testing.assert_array_equal(drawn[values == 0], PICTURE[values == 0])
    assert (drawn[values > 0] != PICTURE[values > 0]).any(axis=-1).all()


def test_at_the_peak_the_blend_has_opacity_alpha():
    values = np.ones((12, 10))
    expected = 0.6 * PICTURE + 0.4 * colorize(values, "jet").astype(float)
    np.testing.assert_allclose(overlay(PICTURE, values, alpha=0.4), expected, atol=0.5 + 1e-3)


def test_opacity_grows_with_the_map_and_has_no_sign():
    values = np.linspace(-1, 1, 120).reshape(12, 10)
    black = np.zeros_like(PICTURE)
    white = overlay(black, values, 1.0, "blue-white-red").astype(float).sum(axis=2)
    strength = white / np.maximum(colorize(values, "blue-white-red").astype(float).sum(axis=2), 1)
    np.testing.assert_allclose(strength, np.abs(values) ** 0.75, atol=0.01)


def test_alpha_zero_is_the_picture_and_the_picture_is_not_changed():
    before = PICTURE.copy()
    np.testing.assert_array_equal(overlay(PICTURE, np.ones((12, 10)), alpha=0), PICTURE)
    np.testing.assert_array_equal(PICTURE, before)


@pytest.mark.parametrize(
    ("values", "options", "error", "words"),
    [
        (np.ones((12, 10)), {"alpha": 2}, InputError, "alpha is 2, expected a number from 0"),
        (np.ones((12, 10)), {"alpha": -0.1}, InputError, "alpha is -0.1"),
        (np.ones((12, 10)), {"alpha": float("nan")}, InputError, "alpha is nan"),
        (np.ones((12, 10)), {"alpha": "half"}, InputError, "alpha is 'half'"),
        (np.ones((12, 10)), {"colormap": "jett"}, UnknownName, "did you mean 'jet'"),
        (np.ones((10, 12)), {}, InputError, r"the map is \(10, 12\), the picture \(12, 10, 3\)"),
        (np.full((12, 10), np.nan), {}, InputError, "normalise it first"),
    ],
)
def test_what_does_not_fit_is_refused(values, options, error, words):
    with pytest.raises(error, match=words):
        overlay(PICTURE, values, **options)


def test_a_box_is_a_white_border_with_a_black_one_around_it():
    picture = np.full((40, 60, 3), 90, np.uint8)
    drawn = overlay(picture, np.zeros((40, 60)), box=(10.2, 5.0, 29.8, 20.0))
    assert (drawn[5, 10:30] == 255).all()
    assert (drawn[19, 10:30] == 255).all()
    assert (drawn[4, 9:31] == 0).all()
    changed = (drawn != picture).any(axis=2)
    assert (np.argwhere(changed).min(axis=0) == [4, 9]).all()
    assert (np.argwhere(changed).max(axis=0) == [20, 30]).all()
    assert not changed[6:19, 11:29].any()
