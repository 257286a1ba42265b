"""What is made once and shared: the bundled network's sessions and conversions, which take a second each."""

from __future__ import annotations

import pytest
from hypothesis import settings

import cam_onnx
from cam_onnx.autodiff.model import load
from cam_onnx.graph.candidates import candidates
from cam_onnx.graph.locate import find_score
from tests.running import CAT, MODEL, SETTINGS

settings.register_profile("nightly", max_examples=3000, deadline=None)


@pytest.fixture(scope="session")
def demo():
    """The bundled network's Explainer in ONNX Runtime, from the plain file."""
    with cam_onnx.Explainer(MODEL, **SETTINGS, providers="cpu") as explainer:
        yield explainer


@pytest.fixture(scope="session")
def cat(demo):
    """The explanation of the cat's predicted class."""
    return demo.explain(CAT)


@pytest.fixture(scope="session")
def converted_demo(tmp_path_factory):
    """The bundled network's converted file, with preprocessing and labels inside."""
    path = tmp_path_factory.mktemp("demo") / "model.cam.onnx"
    cam_onnx.convert(MODEL, **SETTINGS).save(path)
    return path


@pytest.fixture(scope="session")
def demo_candidates():
    """Names of every value of the bundled network that may be a target layer."""
    model = load(MODEL)
    return [place.name for place in candidates(model, find_score(model, None))]
