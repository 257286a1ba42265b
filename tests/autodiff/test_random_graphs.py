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


def has_kink(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> bool:
    """Whether a single node has another slope ahead than behind where these feeds bring it.

    Kinks can cancel: ``Min(Relu(u), u)`` is ``u``, smooth at 0, and no rule for a node can know that.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    made = [y for node in whole.graph.node for y in node.output]
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, None) for n in made)
    values = feeds | dict(zip(made, evaluate(whole, feeds), strict=True))
    rng = np.random.default_rng(1)
    for node in whole.graph.node:
        alone = cut_out(whole, node)
        read = {x.name: values[x.name] for x in alone.graph.input}
        toward = {name: rng.standard_normal(value.shape) for name, value in read.items()}
        behind, here, ahead = (
            evaluate(alone, {name: value + step * toward[name] for name, value in read.items()})
            for step in (-STEP, 0.0, STEP)
        )
        for a, b, c in zip(behind, here, ahead, strict=True):
            if np.any(np.abs((c - b) - (b - a)) > TOLERANCE * STEP * (1 + np.abs(c - a) / STEP)):
                return True
    return False


def cut_out(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """Return a node as a model of its own, with its weights."""
    stored = [w for w in model.graph.initializer if w.name in node.input]
    read = [x for x in dict.fromkeys(node.input) if x and x not in {w.name for w in stored}]
    inputs, outputs = (
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in names]
        for names in (read, node.output)
    )
    graph = onnx.helper.make_graph([node], "one", inputs, outputs, stored)
    return onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


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
        agrees = abs((left + right) / 2 - np.vdot(grad, direction)) < TOLERANCE * scale
        assume(agrees or not has_kink(graph.model, graph.feeds))
        assert agrees, name


def test_a_kink_that_another_cancels_is_seen():
    cancels = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 20]>
        g (double[1] x) => (double[1] y) { r = Relu(x) y = Min(r, x) }""")
    assert has_kink(cancels, {"x": np.zeros(1)})
    assert not has_kink(cancels, {"x": np.ones(1) * -1})
