"""saliency and weights: types, shapes, what is refused. Values are test_gradient's."""

from __future__ import annotations

import numpy as np
import pytest

from cam_onnx.errors import InputError, UnknownName
from cam_onnx.methods import saliency, weights

A = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4) - 9
G = np.ones_like(A)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((np.float32, np.float32), np.float32),
        ((np.float64, np.float32), np.float64),
        ((np.float16, np.float16), np.float32),
        ((np.int64, np.int64), np.float32),
        ((">f4", ">f4"), np.float32),
    ],
)
def test_the_result_is_float32_or_float64(given, expected):
    result = saliency(A.astype(given[0]), G.astype(given[1]))
    assert result.dtype == expected
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, saliency(A, G))


def test_float16_is_accumulated_in_float32():
    """4,096 ones of float16 sum to 2,048 in float16, where 2048 + 1 = 2048; 300² is beyond its largest value."""
    A = np.full((1, 1, 4096), 300, np.float16)
    assert saliency(A, np.full_like(A, 300), "grad-cam")[0, 0] == 90000
    assert weights(A, np.ones_like(A), "cam")[0, 0, 0] == 4096


def test_bfloat16_is_accepted():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert saliency(A.astype(ml_dtypes.bfloat16), G.astype(ml_dtypes.bfloat16)).dtype == np.float32


def test_the_map_is_signed_and_arguments_are_not_changed():
    before = A.copy()
    assert saliency(A, G).min() < 0
    np.testing.assert_array_equal(A, before)


def test_values_that_are_not_finite_stay():
    bad = A.copy()
    bad[0, 0, 1, 2] = np.nan
    result = saliency(bad, G)
    assert np.isnan(result[0, 1, 2])
    assert np.isfinite(result).sum() == 11


def test_lists_and_strided_arrays_work():
    np.testing.assert_array_equal(saliency(A.tolist(), G.tolist()), saliency(A, G))
    np.testing.assert_array_equal(saliency(A[:, :, ::2], G[:, :, ::2]), saliency(A, G)[:, ::2])


def test_a_layer_without_extent_gives_one_number_per_sample():
    assert saliency(A.reshape(2, 12), G.reshape(2, 12)).shape == (2,)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (
            (A, G[:, :1]),
            {},
            InputError,
            r"one shape \(N, K, \*S\), got activations \(1, 2, 3, 4\), gradients \(1, 1, 3",
        ),
        ((A, G[..., 0]), {}, InputError, "expected one shape"),
        ((A[0, 0, 0], G[0, 0, 0]), {}, InputError, r"\(4,\)"),
        ((A,), {}, InputError, "grad-cam needs activations, gradients: not given: gradients"),
        ((A, G, "gradcat"), {}, UnknownName, "did you mean 'grad-cam'"),
        ((A, G), {"sigma": 2}, InputError, "grad-cam has no option 'sigma'; its options: none"),
        ((A.astype(str), G), {}, InputError, "activations is an array of <U"),
        ((A.astype(complex), G), {}, InputError, "expected real numbers"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, error, words):
    with pytest.raises(error, match=words):
        saliency(*arguments, **options)
    with pytest.raises(error, match=words):
        weights(*arguments, **options)
