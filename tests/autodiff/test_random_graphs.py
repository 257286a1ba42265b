"""Random graphs: the gradient is the directional difference, whatever is composed with whatever.

Some hundred examples here; ``pytest --hypothesis-profile=nightly tests/autodiff/test_random_graphs.py`` runs thousands.
"""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import HealthCheck, assume, given, settings

from cam_onnx import autodiff
from tests.autodiff.graphs_at_random import Graph, graphs
from tests.running import evaluate

STEP = 1e-6
TOLERANCE = 3e-5  # curvature within a step; a kink below it does no harm
EXAMPLES = 3 * settings().max_examples


def cut_at(model: onnx.ModelProto, value: str) -> onnx.ModelProto:
    """Return the model in which an inner value is an input."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    for node in cut.graph.node:
        for i, y in enumerate(node.output):
            if y == value:
                node.output[i] = f"{value}_before"
    cut.graph.input.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.DOUBLE, None))
    return cut


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs())
def test_gradient_is_the_directional_difference(graph: Graph):
    added = autodiff.gradient(graph.model, graph.wrt, graph.of)
    inner = [name for name in graph.wrt if name not in graph.feeds]
    exposed = onnx.ModelProto()
    exposed.CopyFrom(graph.model)
    names = list(dict.fromkeys([*graph.of, *inner]))
    del exposed.graph.output[:]
    exposed.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, None) for n in names)
    values = dict(zip(names, evaluate(exposed, graph.feeds), strict=True))
    rng = np.random.default_rng(0)
    seeds = {name: np.asarray(rng.standard_normal(values[name].shape)) for name in graph.of}
    given_seeds = {f"cotangent/{name}": seed for name, seed in seeds.items()}
    grads = evaluate(added, graph.feeds | given_seeds, [f"grad/{name}" for name in graph.wrt])
    for name, grad in zip(graph.wrt, grads, strict=True):
        start = {**values, **graph.feeds}[name]
        assert grad.shape == start.shape
        assert np.isfinite(grad).all()
        model = exposed if name in graph.feeds else cut_at(exposed, name)
        direction = np.asarray(rng.standard_normal(start.shape))

        def moved(step: float) -> float:
            outputs = evaluate(model, graph.feeds | {name: start + step * direction}, graph.of)  # noqa: B023
            return sum(float(np.vdot(seeds[n], y)) for n, y in zip(graph.of, outputs, strict=True))

        behind, here, ahead = (moved(step) for step in (-STEP, 0.0, STEP))
        left, right = (here - behind) / STEP, (ahead - here) / STEP
        scale = 1 + abs(left) + np.abs(grad * direction).sum()
        assume(abs(left - right) < TOLERANCE * scale)  # else a kink: nothing can be said
        assert abs((left + right) / 2 - np.vdot(grad, direction)) < TOLERANCE * scale, name
