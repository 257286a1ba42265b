"""Gradients of gradients: for which rules a Hessian-vector product is the finite difference of the first gradient."""

from __future__ import annotations

import numpy as np
import pytest

from cam_onnx import autodiff
from cam_onnx.autodiff.skeleton import MADE
from cam_onnx.autodiff.table import RULES
from tests.autodiff.cases import CASES, Case
from tests.autodiff.check import Trial
from tests.autodiff.graphs import GRAPHS

# Operators whose gradient cannot be differentiated again, and why. It only shrinks: one that can fails the test.
FIRST_ORDER_ONLY: dict[str, str] = {}


def rows() -> list[Case]:
    """One row an operator, the first that runs in float64 with static sizes; of bodies, every row."""
    first: dict[str, Case] = {}
    for case in CASES:
        if not case.reference and RULES.find(case.op_type, case.opset) is not None:
            first.setdefault(case.op_type, case)
    return [*first.values(), *(case for case in GRAPHS if not case.single)]


def hessian_vector_products(case: Case) -> tuple[float, float]:
    """Return v' H u by a second differentiation, and by the difference of the first gradient along u."""
    trial = Trial(case)
    once, wrt = trial.gradient, trial.wrt
    names = [f"grad/{name}" for name in wrt]
    twice = autodiff.gradient(once, wrt, names)
    rng = np.random.default_rng(3)
    values = trial.run(trial.model, trial.feeds)
    seeds = {f"cotangent/{n}": np.asarray(rng.standard_normal(v.shape)) for n, v in zip(case.of, values, strict=True)}
    v = {n: np.asarray(rng.standard_normal(trial.feeds[n].shape)) for n in wrt}
    u = {n: np.asarray(rng.standard_normal(trial.feeds[n].shape)) for n in wrt}

    def first(step: float) -> float:
        moved = {n: trial.feeds[n] + step * u[n] for n in wrt}
        found = trial.run(once, {**trial.feeds, **seeds, **moved})[-len(wrt) :]
        return sum(float(np.vdot(grad, v[n])) for n, grad in zip(wrt, found, strict=True))

    given = {f"cotangent/grad/{n}": v[n] for n in wrt}
    found = trial.run(twice, {**trial.feeds, **seeds, **given})[-len(wrt) :]
    ours = sum(float(np.vdot(grad, u[n])) for n, grad in zip(wrt, found, strict=True))
    return ours, (first(1e-5) - first(-1e-5)) / 2e-5


@pytest.mark.parametrize("case", rows(), ids=str)
def test_a_gradient_is_differentiable_again(case: Case):
    if case.op_type in FIRST_ORDER_ONLY:
        with pytest.raises(Exception):  # noqa: B017  (the reason stands in the list)
            hessian_vector_products(case)
        return
    ours, theirs = hessian_vector_products(case)
    assert abs(ours - theirs) <= 1e-5 * (abs(theirs) + 1)


def test_no_size_that_inference_named_is_written():
    """A second inference gives the same names to other sizes, and ONNX Runtime shares memory among equal ones."""
    [case] = (c for c in GRAPHS if str(c).startswith("SequenceAt: what an iteration put behind what was there, from"))
    trial = Trial(case)
    twice = autodiff.gradient(trial.gradient, trial.wrt, [f"grad/{name}" for name in trial.wrt])
    kinds = [value.type.tensor_type for value in (*twice.graph.value_info, *twice.graph.output)]
    assert kinds
    assert not [dim for kind in kinds for dim in kind.shape.dim if dim.dim_param.startswith(MADE)]
