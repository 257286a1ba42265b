"""Maps change when the network forgets: last layers shuffled in the file of a small trained network, 20 pictures.

`python -m benchmarks.sanity` does it to the bundled network, for all methods, and writes docs/sanity.md. Score-CAM is
read from that page alone: in a synthetic picture the object is all that any layer is active for, and its weights are
positive.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import sanity
from cam_onnx import Explainer
from cam_onnx.methods import METHODS
from models.synthetic import TEXTURES, textured

pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parent.parent
COUNT, LAST = 20, 3  # the two linear layers and a convolution, of six
PAGE = (ROOT / "docs" / "sanity.md").read_text(encoding="utf-8")


@cache
def network(seed=None):
    model = onnx.load(ROOT / "models" / "textures-linear.onnx")
    return model if seed is None else sanity.shuffled(model, seed, LAST)


@cache
def pictures():
    scenes = [textured(seed, TEXTURES[seed % 4]) for seed in range(COUNT)]
    return (np.stack([s.pixels.transpose(2, 0, 1) for s in scenes]).astype(np.float32) - 128) / 64


def maps(name, seed=None):
    layers = "features" if METHODS[name].at == "layer" else None
    explainer = Explainer(network(seed), method=name, layers=layers, providers="cpu")
    return explainer.explain(inputs={"image": pictures()}, target=[i % 4 for i in range(COUNT)]).saliency


def alike(name):
    return np.mean([sanity.correlation(a, b) for a, b in zip(maps(name), maps(name, seed=0), strict=True)])


@pytest.mark.parametrize("name", sorted({*sanity.REQUIRED} - {"score-cam"}))
def test_a_map_changes_with_what_the_network_has_learnt(name):
    assert alike(name) < sanity.MOST


def test_only_the_last_weights_are_shuffled_and_keep_their_values():
    before, after = network(), network(0)
    changed = []
    for one, other in zip(before.graph.initializer, after.graph.initializer, strict=True):
        a, b = onnx.numpy_helper.to_array(one), onnx.numpy_helper.to_array(other)
        np.testing.assert_array_equal(np.sort(a.ravel()), np.sort(b.ravel()))
        if (a != b).any():
            changed.append(one.name)
    weights = [node.input[1] for node in before.graph.node if node.op_type in ("Conv", "Gemm")]
    assert sorted(changed) == sorted(weights[-LAST:])
    assert [n.SerializeToString() for n in before.graph.node] == [n.SerializeToString() for n in after.graph.node]


def test_the_correlation_is_that_of_ranks():
    values = np.array([[3.0, 1, 2], [10, 5, 4]])
    assert sanity.correlation(values, np.exp(values)) == pytest.approx(1)
    assert sanity.correlation(values, -(values**3)) == pytest.approx(-1)
    assert sanity.correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert sanity.correlation([1, 1, 2, 2], [1, 2, 3, 4]) == pytest.approx(0.894427, abs=1e-6), "ties share a rank"
    assert sanity.correlation(values, values * 0) == 0


def test_the_page_has_every_method_the_required_ones_change_and_the_others_have_a_reason():
    rows = re.findall(r"^\| (\*\*)?`([^`]+)`(?:\*\*)? \| (-?[\d.]+)[^|]*\|", PAGE, re.MULTILINE)
    assert [name for _, name, _ in rows] == list(METHODS), "run: python -m benchmarks.sanity"
    assert {name for bold, name, _ in rows if bold} == set(sanity.REQUIRED)
    assert all(float(mean) < sanity.MOST for bold, _, mean in rows if bold)
    assert "NOT EXPLAINED" not in PAGE
