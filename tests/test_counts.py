"""What an explanation costs, counted: added nodes, forward values computed twice, sessions per call."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest

import cam_onnx
from benchmarks.counts import added
from benchmarks.networks import resnet18
from models.builders import BUILDERS, inputs
from tests.running import MODEL

# network, layer: nodes that a conversion adds. More needs a reason here; fewer is a new figure.
ADDED = {
    ("efficientnet-lite0", None): 25,
    ("efficientnet-lite0", "image"): 259,
    ("resnet18", None): 25,
    ("resnet18", "image"): 186,
    ("vgg_like", "image"): 139,
    ("silu_se", "image"): 62,
    ("depthwise_asymmetric", "image"): 44,
    ("densenet_like", "image"): 81,
}


@cache
def network(name: str) -> onnx.ModelProto:
    if name == "efficientnet-lite0":
        return onnx.load(MODEL)
    return onnx.load_from_string(resnet18()) if name == "resnet18" else BUILDERS[name]()


@pytest.mark.parametrize(("name", "layer"), ADDED)
def test_no_more_nodes_are_added(name: str, layer: str | None):
    model = network(name)
    counts = added(model, cam_onnx.convert(model, layers=layer).model)
    assert counts["added"] <= ADDED[name, layer]
    assert counts["twice"] == 0


@pytest.mark.parametrize("name", BUILDERS)
def test_no_forward_value_is_computed_twice(name: str):
    """A file that is raised is compared with its raised form."""
    model = BUILDERS[name]()
    converted = cam_onnx.convert(model, layers=model.graph.input[0].name)
    count = len(converted.model.graph.node) - added(model, converted.model)["added"]
    raised = onnx.ModelProto()
    raised.CopyFrom(converted.model)
    del raised.graph.node[count:]
    assert added(raised, converted.model)["twice"] == 0


def test_a_call_opens_no_session_after_the_first(monkeypatch):
    opened = []
    whole = onnxruntime.InferenceSession

    def noted(*args, **options):
        opened.append(1)
        return whole(*args, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    explainer = cam_onnx.Explainer(BUILDERS["residual"](), providers="cpu")
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert len(opened) == 1, "one for the converted model"
    explainer.explain(picture)
    explainer.explain([picture, picture], target=1)
    assert len(opened) == 1
    explainer.explain(picture, target=[[0, 1, 2]])
    assert len(opened) == 3, "and one for each half, the first time that one picture has several targets"
    explainer.explain(picture, target=[[2, 1]])
    assert len(opened) == 3


@pytest.mark.parametrize(
    ("name", "method", "sessions"),
    [
        ("gap_linear", "ablation-cam", 1),  # in closed form: nothing is run again
        ("gap_linear", "recipro-cam", 2),  # the head, on what was seen of the layer
        ("vgg_like", "ablation-cam", 2),
        ("vit_class", "recipro-cam", 3),  # the class token's residual crosses the cut: what gives it is run as well
        ("gap_linear", "rise", 2),
        ("gap_linear", "smooth-grad", 1),
        ("gap_linear", "integrated-gradients", 2),  # the scores of both ends go forwards alone
    ],
)
def test_a_method_that_runs_parts_opens_those_that_it_needs(monkeypatch, name, method, sessions):
    opened = []
    whole = onnxruntime.InferenceSession

    def session(*given, **options):
        opened.append(1)
        return whole(*given, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    model = BUILDERS[name]()
    few = {"rise": {"masks": 4}, "smooth-grad": {"samples": 2}, "integrated-gradients": {"steps": 2}}
    explainer = cam_onnx.Explainer(model, method=method, providers="cpu", options=few.get(method))
    for _ in range(2):
        explainer.explain(inputs=inputs(model, 2), target=1)
    assert len(opened) == sessions
