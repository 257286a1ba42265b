"""upsample against OpenCV, against the formula, and where the box puts the map."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cam_onnx.errors import InputError
from cam_onnx.render.upsample import coverage, upsample


def field(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    seed=st.integers(0, 9),
)
def test_it_is_opencvs_bilinear_larger_and_smaller(shape, size, seed):
    values = field(*shape, seed=seed)
    expected = cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR).reshape(size)
    np.testing.assert_allclose(upsample(values, size), expected, atol=1e-5)
    np.testing.assert_allclose(upsample(values, size, (0, 0, *size)), expected, atol=1e-5)


def test_every_axis_follows_the_formula():
    """position = (i + 1/2) n / out - 1/2, clamped to the ends; a 3-D map is three 1-D rules in turn."""

    def literal(line, out):
        n = len(line)
        result = []
        for i in range(out):
            x = min(max((i + 0.5) * n / out - 0.5, 0), n - 1)
            k = int(x)
            result.append(line[k] + (x - k) * (line[min(k + 1, n - 1)] - line[k]))
        return np.array(result)

    values = field(2, 3, 4, 5).astype(np.float64)
    expected = values
    for axis, out in ((1, 7), (2, 2), (3, 11)):
        expected = np.apply_along_axis(literal, axis, expected, out)
    np.testing.assert_allclose(upsample(values, (7, 2, 11)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(9,), (9, 8), (9, 8, 7)])
def test_a_samples_bits_do_not_depend_on_the_batch(size):
    values = field(5, *(3, 4, 5)[: len(size)])
    whole = upsample(values, size)
    for n in range(5):
        np.testing.assert_array_equal(upsample(values[n : n + 1], size)[0], whole[n])
        np.testing.assert_array_equal(upsample(values[n], size), whole[n])


def test_a_smaller_box_is_the_map_in_its_place_and_zero_around_it():
    values = field(3, 4) + 5
    drawn = upsample(values, (20, 30), (5, 10, 15, 30))
    np.testing.assert_array_equal(drawn[5:15, 10:30], upsample(values, (10, 20)))
    drawn[5:15, 10:30] = 0
    assert not drawn.any()


def test_a_larger_box_is_cut_from_the_whole():
    values = field(7, 7)
    whole = upsample(values, (40, 40))
    np.testing.assert_allclose(upsample(values, (20, 40), (-10, 0, 30, 40)), whole[10:30], atol=1e-6)


def test_a_box_between_pixels_covers_the_pixels_whose_centre_lies_inside():
    drawn = upsample(np.ones((2, 2)), (6, 6), (0.4, 0.6, 3.5, 4.6))
    rows, columns = coverage((6, 6), (0.4, 0.6, 3.5, 4.6))
    assert (rows, columns) == (slice(0, 3), slice(1, 5))
    assert drawn[rows, columns].all()
    assert drawn.sum() == 12


def test_a_box_beside_the_picture_covers_nothing():
    assert not upsample(np.ones((2, 2)), (6, 6), (10, 0, 20, 6)).any()
    assert coverage((6, 6), (10, 0, 20, 6))[0] == slice(6, 6)


@pytest.mark.parametrize(("given", "expected"), [("f4", "f4"), ("f8", "f8"), ("f2", "f4"), ("u1", "f4"), (">f4", "f4")])
def test_types(given, expected):
    assert upsample(np.ones((2, 2), given), (3, 3)).dtype == np.dtype(expected)


@pytest.mark.parametrize(
    ("shape", "size", "box", "words"),
    [
        ((3, 3), (0, 3), None, "must be positive"),
        ((3,), (3, 3), None, r"shape \(3,\)"),
        ((0, 3), (3, 3), None, r"shape \(0, 3\)"),
        ((3, 3), (), None, "cannot resample"),
        ((3, 3), (3, 3), (0, 0, 3), "2 finite starts followed by 2 larger ends"),
        ((3, 3), (3, 3), (2, 0, 2, 3), "larger ends"),
        ((3, 3), (3, 3), (0, 0, float("nan"), 3), "finite"),
        ((3, 3), (3, 3), (0, 0, float("inf"), 3), "finite"),
    ],
)
def test_what_does_not_fit_is_refused(shape, size, box, words):
    with pytest.raises(InputError, match=words):
        upsample(np.ones(shape), size, box)


def test_it_loads_no_opencv():
    code = "import sys, cam_onnx.render.upsample, cam_onnx.render.overlay; print('cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
