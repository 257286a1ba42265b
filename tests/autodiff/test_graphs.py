"""Functions, If, Loop and Scan against finite differences, on every row of the graphs' table."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.autodiff.check import Trial
from tests.autodiff.graphs import GRAPHS, Graph
from tests.running import evaluate


@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize("case", GRAPHS, ids=str)
def test_gradient_is_the_finite_difference(case: Graph, symbolic: bool):
    if symbolic and case.static:
        pytest.skip(case.static)
    assert Trial(case, "float32" if case.single else "float64", symbolic).disagreements() == {}


@pytest.mark.parametrize("case", GRAPHS, ids=str)
def test_the_reference_evaluator_computes_the_same(case: Graph):
    if case.reference:
        pytest.skip(case.reference)
    trial = Trial(case)
    g, theirs = trial.vjp()
    values = evaluate(trial.model, trial.feeds)
    parts = np.split(g.ravel(), np.cumsum([v.size for v in values])[:-1])
    seeds = {f"cotangent/{n}": p.reshape(v.shape) for n, p, v in zip(case.of, parts, values, strict=True)}
    ours = evaluate(trial.gradient, {**trial.feeds, **seeds}, [f"grad/{n}" for n in trial.wrt])
    for grad, name in zip(ours, trial.wrt, strict=True):
        np.testing.assert_allclose(grad, theirs[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", GRAPHS, ids=str)
def test_gradient_graph_passes_the_full_check(case: Graph):
    onnx.checker.check_model(Trial(case, dtype="float32").gradient, full_check=True)
