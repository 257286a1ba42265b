"""Each method against a twin: slow, literal, indices as in the paper, one sample A[k], g[k] of any rank."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cam_onnx.methods import METHODS, find, saliency, weights

TWINS: dict[str, Callable] = {}


def twin_of(name):
    return lambda function: TWINS.setdefault(name, function)


@twin_of("cam")
def cam(A, g, position):
    w = [sum(g[k][p] for p in np.ndindex(g[k].shape)) for k in range(len(A))]
    return sum(w[k] * A[k][position] for k in range(len(A)))


@twin_of("grad-cam")
def grad_cam(A, g, position):
    Z = A[0].size
    alpha = [sum(g[k][p] for p in np.ndindex(g[k].shape)) / Z for k in range(len(A))]
    return sum(alpha[k] * A[k][position] for k in range(len(A)))


@twin_of("hires-cam")
def hires_cam(A, g, position):
    return sum(g[k][position] * A[k][position] for k in range(len(A)))


def arrays(*shape, seed=0, dtype=np.float64):
    random = np.random.default_rng(seed)
    return random.normal(size=shape).astype(dtype), random.normal(size=shape).astype(dtype)


def test_every_method_has_a_twin():
    assert set(METHODS) - set(TWINS) == set()


@pytest.mark.parametrize("space", [(6,), (3, 4), (2, 3, 2)], ids=["1-D", "2-D", "3-D"])
@pytest.mark.parametrize("name", TWINS)
def test_saliency_is_the_papers(name, space):
    A, g = arrays(2, 5, *space)
    expected = [[TWINS[name](A[n], g[n], p) for p in np.ndindex(space)] for n in range(2)]
    np.testing.assert_allclose(saliency(A, g, name), np.reshape(expected, (2, *space)), rtol=1e-12, atol=1e-12)


def test_behind_average_pooling_and_a_linear_layer_the_three_are_one_map():
    """g = W[c,k] / |S| everywhere: CAM = |S| Grad-CAM = |S| HiResCAM = sum_k W[c,k] A_k."""
    A, _ = arrays(2, 5, 4, 6)
    W = np.random.default_rng(1).normal(size=(2, 5, 1, 1))  # a class of its own for each sample
    g = np.broadcast_to(W / 24, A.shape)
    expected = (W * A).sum(axis=1)
    np.testing.assert_allclose(saliency(A, g, "cam"), expected, rtol=1e-12)
    np.testing.assert_allclose(24 * saliency(A, g, "grad-cam"), expected, rtol=1e-12)
    np.testing.assert_allclose(24 * saliency(A, g, "hires-cam"), expected, rtol=1e-12)
    np.testing.assert_allclose(weights(A, g, "cam"), W, rtol=1e-12)


def test_behind_max_pooling_hires_cam_is_one_point_per_channel():
    A, _ = arrays(1, 3, 4, 4)
    W = np.array([2.0, -1.0, 0.5]).reshape(1, 3, 1, 1)
    largest = A.max(axis=(2, 3), keepdims=True)
    g = W * (largest == A)
    np.testing.assert_allclose(weights(A, g, "cam"), W)
    np.testing.assert_allclose(saliency(A, g, "cam"), 16 * saliency(A, g, "grad-cam"))
    assert np.count_nonzero(saliency(A, g, "hires-cam")) <= 3
    assert saliency(A, g, "hires-cam").sum() == pytest.approx((W * largest).sum())


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    name=st.sampled_from(sorted(METHODS)),
    space=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    factor=st.sampled_from([0.25, 2.0, -1.0, 8.0]),
    seed=st.integers(0, 99),
)
def test_the_map_scales_with_the_gradient_and_samples_do_not_mix(name, space, factor, seed):
    """The factors are exact in binary, and so is the equality."""
    A, g = arrays(3, 4, *space, seed=seed, dtype=np.float32)
    whole = saliency(A, g, name)
    assert np.array_equal(saliency(A, factor * g, name), factor * whole)
    for n in range(3):
        assert np.array_equal(saliency(A[n : n + 1], g[n : n + 1], name)[0], whole[n])


@pytest.mark.parametrize("entry", METHODS.values(), ids=list(METHODS))
def test_a_method_stays_a_plain_function(entry):
    A, g = arrays(1, 2, 3)
    result = entry.function(**{need: {"activations": A, "gradients": g}[need] for need in entry.needs})
    assert np.broadcast_shapes(result.shape, A.shape) == A.shape
    assert find(entry.name) is entry
