"""Each method against a twin: slow, literal, indices as in the paper, one sample A[k], g[k] of any rank."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cam_onnx.methods import METHODS, find, saliency, weights

TWINS: dict[str, Callable] = {}
PLAIN = {name: e for name, e in METHODS.items() if set(e.needs) <= {"activations", "gradients"} and not e.target}


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


def relu(v):
    return max(v, 0)


@twin_of("element-wise-grad-cam")
def element_wise(A, g, position):
    return sum(relu(g[k][position] * A[k][position]) for k in range(len(A)))


@twin_of("layer-cam")
def layer_cam(A, g, position):
    return sum(relu(g[k][position]) * A[k][position] for k in range(len(A)))


@twin_of("xgrad-cam")
def xgrad_cam(A, g, position):
    total = 0
    for k in range(len(A)):
        places = list(np.ndindex(A[k].shape))
        below, size = sum(A[k][p] for p in places), sum(abs(A[k][p]) for p in places)
        below = below if abs(below) > 0.01 * size else (-1 if below < 0 else 1) * 0.01 * size
        total += sum(g[k][p] * A[k][p] for p in places) / below * A[k][position]
    return total


@twin_of("grad-cam++")
def grad_cam_plus_plus(A, g, position):
    total = 0
    for k in range(len(A)):
        places = list(np.ndindex(A[k].shape))
        whole = sum(A[k][p] for p in places)
        a = {p: g[k][p] ** 2 / (2 * g[k][p] ** 2 + whole * g[k][p] ** 3) if g[k][p] else 0 for p in places}
        total += sum(a[p] * relu(g[k][p]) for p in places) * A[k][position]
    return total


@twin_of("activation-map")
def activation_map(A, g, position):
    return sum(A[k][position] for k in range(len(A))) / len(A)


@twin_of("random-cam")
def random_cam(A, g, position):
    w = np.random.default_rng(0).uniform(-1, 1, len(A))
    return sum(w[k] * A[k][position] for k in range(len(A)))


@twin_of("fem")
def fem(A, g, position):
    total = 0
    for k in range(len(A)):
        values = [A[k][p] for p in np.ndindex(A[k].shape)]
        mean = sum(values) / len(values)
        deviation = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
        total += sum(v > mean + 2 * deviation for v in values) / len(values) * A[k][position]
    return total


def first_component(B, position):
    """By singular values of (positions, K), the sign by the mean."""
    rows = np.array([[B[k][p] for k in range(len(B))] for p in np.ndindex(B[0].shape)])
    component = rows @ np.linalg.svd(rows)[2][0]
    sign = 1 if sum(component * rows.mean(axis=1)) >= 0 else -1
    return sign * component[list(np.ndindex(B[0].shape)).index(position)]


@twin_of("eigen-cam")
def eigen_cam(A, g, position):
    return first_component(A, position)


@twin_of("eigen-grad-cam")
def eigen_grad_cam(A, g, position):
    return first_component(g * A, position)


@twin_of("seg-eigen-cam")
def seg_eigen_cam(A, g, position):
    whole = [first_component(abs(g) * A, p) for p in np.ndindex(A[0].shape)]
    sign = -1 if abs(min(whole)) > abs(max(whole)) else 1
    return sign * first_component(abs(g) * A, position)


@twin_of("kpca-cam")
def kpca_cam(A, g, position):
    places = list(np.ndindex(A[0].shape))
    rows = np.array([[A[k][p] for k in range(len(A))] for p in places])
    x, n = rows - rows.mean(axis=0), len(rows)
    kernel = np.array([[np.tanh(sum(x[i] * x[j]) / len(A) + 1) for j in range(n)] for i in range(n)])
    centring = np.eye(n) - np.ones((n, n)) / n
    values, vectors = np.linalg.eigh(centring @ kernel @ centring)
    component = vectors[:, -1] * values[-1] ** 0.5
    sign = 1 if sum(component * rows.mean(axis=1)) >= 0 else -1
    return sign * component[places.index(position)]


def arrays(*shape, seed=0, dtype=np.float64):
    random = np.random.default_rng(seed)
    return random.normal(size=shape).astype(dtype), random.normal(size=shape).astype(dtype)


def test_every_method_of_activations_and_gradients_has_a_twin():
    assert set(PLAIN) - set(TWINS) == set()


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


LINEAR = {"cam", "grad-cam", "hires-cam", "xgrad-cam"}
POSITIVE = {"element-wise-grad-cam", "layer-cam", "eigen-grad-cam", "seg-eigen-cam"}  # by positive factors only
WITHOUT_THE_CLASS = {"activation-map", "eigen-cam", "fem", "kpca-cam", "random-cam"}
NOT_PROPORTIONAL = {"grad-cam++"}  # its coefficients depend on the size of the gradient


def test_of_every_method_it_is_said_how_it_scales():
    assert set(PLAIN) == LINEAR | POSITIVE | WITHOUT_THE_CLASS | NOT_PROPORTIONAL


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(PLAIN)),
    space=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
    factor=st.sampled_from([0.25, 2.0, -1.0, 8.0]),
    seed=st.integers(0, 99),
)
def test_the_map_scales_with_the_gradient_and_samples_do_not_mix(name, space, factor, seed):
    A, g = arrays(3, 4, *space, seed=seed, dtype=np.float32)
    whole = saliency(A, g, name)
    scaled = saliency(A, factor * g, name)
    if name in LINEAR:  # the factors are exact in binary, and so is the equality
        assert np.array_equal(scaled, factor * whole)
    elif name in POSITIVE and factor > 0:
        # eigenvectors are found by iteration: float32 rounding of the largest value
        np.testing.assert_allclose(scaled, factor * whole, rtol=1e-4, atol=1e-5 * factor * np.abs(whole).max())
    elif name in WITHOUT_THE_CLASS:
        assert np.array_equal(scaled, whole)
    for n in range(3):
        assert np.array_equal(saliency(A[n : n + 1], g[n : n + 1], name)[0], whole[n])


def test_grad_cam_plus_plus_is_zero_without_a_gradient_and_where_it_is_not_defined():
    A = np.ones((1, 1, 2))
    assert np.array_equal(weights(A, np.zeros((1, 1, 2)), "grad-cam++"), np.zeros((1, 1, 1)))
    assert np.isfinite(weights(A, np.full((1, 1, 2), -1.0), "grad-cam++")).all()  # 2 + sum(A) g = 0


def test_xgrad_cam_does_not_explode_where_activations_cancel():
    A = np.array([[[1.0, -1.0 + 1e-9]]])
    assert abs(weights(A, np.array([[[1.0, 0.0]]]), "xgrad-cam")).max() == pytest.approx(50)  # 1 / (0.01 * 2)
    assert np.array_equal(weights(np.zeros((1, 1, 2)), np.ones((1, 1, 2)), "xgrad-cam"), np.zeros((1, 1, 1)))


@pytest.mark.parametrize("name", ["eigen-cam", "eigen-grad-cam", "kpca-cam"])
def test_the_sign_of_a_principal_component_agrees_with_the_mean(name):
    A, g = arrays(4, 6, 3, 5, seed=3)
    products = g * A if name == "eigen-grad-cam" else A
    agreement = (saliency(A, g, name) * products.mean(axis=1)).sum(axis=(1, 2))
    assert (agreement >= 0).all()


@pytest.mark.parametrize("entry", PLAIN.values(), ids=list(PLAIN))
def test_a_method_stays_a_plain_function(entry):
    A, g = arrays(1, 2, 3)
    result = entry.function(**{need: {"activations": A, "gradients": g}[need] for need in entry.needs})
    assert np.broadcast_shapes(result.shape, A.shape) == A.shape
    assert find(entry.name) is entry
