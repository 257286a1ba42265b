"""Sums of cotangents: what lies side by side and fills the value is joined, all else is added."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cam_onnx import autodiff
from tests.autodiff.test_backward import gradients, model_of
from tests.running import evaluate

X = np.arange(24, dtype=np.float32).reshape(4, 6)


def kinds(model) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node if any(y.startswith("grad/") for y in n.output))


ATTENTION = "q = Gather<axis=1>(x, i0)  k = Gather<axis=1>(x, i1)  v = Gather<axis=1>(x, i2)"
SIDE_BY_SIDE = {
    "single entries": (f"{ATTENTION}  p = Mul(q, k)  y = Mul(p, v)", {"i0": [0, 1], "i1": [2, 3], "i2": [4, 5]}),
    "in another order": (f"{ATTENTION}  p = Mul(q, k)  y = Mul(p, v)", {"i0": [4, 5], "i1": [-6, 1], "i2": [2, 3]}),
    "slices": (
        "q = Slice(x, i0, i1, a)  k = Slice(x, i1, i2, a)  y = Mul(q, k)",
        {"i0": [0], "i1": [3], "i2": [6], "a": [1]},
    ),
}
ADDED = {
    "they overlap": (f"{ATTENTION}  p = Mul(q, k)  y = Mul(p, v)", {"i0": [0, 1], "i1": [1, 2], "i2": [3, 4]}),
    "a gap": (f"{ATTENTION}  p = Mul(q, k)  y = Mul(p, v)", {"i0": [0, 1], "i1": [2, 3], "i2": [2, 3]}),
    "two axes": (
        "q = Slice(x, i0, i1, a)  k = Slice(x, i1, i2, b)  s = ReduceSum<keepdims=0>(q)  y = Mul(k, s)",
        {"i0": [0], "i1": [3], "i2": [6], "a": [1], "b": [0]},
    ),
    "with another": (
        "q = Slice(x, i0, i1, a)  k = Slice(x, i1, i2, a)  p = Mul(q, k)  s = ReduceSum<keepdims=0>(x)  y = Mul(p, s)",
        {"i0": [0], "i1": [3], "i2": [6], "a": [1]},
    ),
}


def differences(model, seed):
    """Central differences of an expression of low degree, in float64."""

    def at(x):
        return float(np.vdot(seed, evaluate(model, {"x": x.astype(np.float32)})[0]))

    base, step = X / 8, 0.25
    found = np.zeros_like(base)
    for index in np.ndindex(*base.shape):
        moved = np.zeros_like(base)
        moved[index] = step
        found[index] = (at(base + moved) - at(base - moved)) / (2 * step)
    return base, found


@pytest.mark.parametrize("case", [*SIDE_BY_SIDE, *ADDED])
def test_a_sum_of_slices(case):
    nodes, constants = {**SIDE_BY_SIDE, **ADDED}[case]
    model = model_of("(float[4,6] x) => (float[m,n] y)", nodes, **{k: np.array(v) for k, v in constants.items()})
    shape = (1, 6) if case == "two axes" else (4, 3) if "Slice" in nodes else (4, 2)
    seed = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    base, expected = differences(model, seed)
    [found] = gradients(model, ["x"], ["y"], {"x": base}, {"y": seed})
    # at most quadratic in each entry: central differences are exact but for float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    emitted = kinds(autodiff.gradient(model, ["x"], ["y"]))
    assert (emitted["Concat"] == 1 and not emitted["Pad"]) == (case in SIDE_BY_SIDE), emitted


def test_one_slice_that_is_the_whole_stays():
    model = model_of("(float[4,6] x) => (float[4,6] y)", "q = Gather<axis=1>(x, i)  y = Mul(q, q)", i=np.arange(6))
    [found] = gradients(model, ["x"], ["y"], {"x": X}, {"y": np.ones_like(X)})
    np.testing.assert_allclose(found, 2 * X)


def test_a_gather_of_distinct_constants_scatters_nothing():
    model = model_of(
        "(float[4,6] x) => (float[4,3] y)", "q = Gather<axis=1>(x, i)  y = Mul(q, q)", i=np.array([5, 0, 3])
    )
    [found] = gradients(model, ["x"], ["y"], {"x": X}, {"y": np.ones((4, 3), np.float32)})
    expected = np.zeros_like(X)
    expected[:, [5, 0, 3]] = 2 * X[:, [5, 0, 3]]
    np.testing.assert_allclose(found, expected)
    assert not kinds(autodiff.gradient(model, ["x"], ["y"]))["ScatterElements"]


def test_a_gather_of_one_entry_twice_adds():
    model = model_of("(float[4,6] x) => (float[4,3] y)", "y = Gather<axis=1>(x, i)", i=np.array([2, -4, 3]))
    [found] = gradients(model, ["x"], ["y"], {"x": X}, {"y": np.ones((4, 3), np.float32)})
    np.testing.assert_array_equal(found, np.tile([0, 0, 2, 1, 0, 0], (4, 1)))
