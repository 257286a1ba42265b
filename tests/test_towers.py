"""Small networks of the package transformers as ONNX Runtime's optimiser of transformers writes them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from cam_onnx import Explainer

# model type: width, heads, layers, side of the picture, of a patch
SMALL = {"vit": (64, 4, 3, 64, 8), "clip": (64, 4, 3, 64, 8), "swin": (32, 2, 2, 64, 4)}
WRITTEN = {
    ("vit", False): {"Attention", "BiasGelu", "SkipLayerNormalization"},
    ("vit", True): {"MultiHeadAttention", "BiasGelu", "SkipLayerNormalization"},
    ("clip", False): {"Attention", "QuickGelu", "SkipLayerNormalization"},
    ("swin", False): {"BiasGelu", "SkipLayerNormalization"},
}


@pytest.mark.zoo
@pytest.mark.parametrize(("kind", "separate"), WRITTEN)
def test_a_tower_that_was_optimised_has_the_gradient_of_the_plain_one(kind, separate, tmp_path):
    """At the layer that is found in both, and at the picture; `separate`: queries, keys, values by own nodes."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tools.production.forms import by_transformers
    from tools.production.towers import export

    width, heads, _, side, _ = SMALL[kind]
    source, made = tmp_path / "plain.onnx", tmp_path / "optimised.onnx"
    source.write_bytes(export(kind, *SMALL[kind]))
    told = (kind, 0, 0) if kind == "swin" else (kind, heads, width)
    by_transformers(told, separate)(source, made, [])
    own = Counter(node.op_type for node in onnx.load(made).graph.node if node.domain == "com.microsoft")
    assert set(own) == WRITTEN[kind, separate]
    assert own.get("Attention", 3) == own.get("MultiHeadAttention", 3) == 3, "in every layer"
    feeds = {"input": np.random.default_rng(0).standard_normal((2, 3, side, side)).astype(np.float32)}
    for layer in (None, "input"):
        plain, optimised = (
            Explainer(file, layers=layer, providers="cpu").explain(inputs=feeds, target=3) for file in (source, made)
        )
        assert plain.layer == optimised.layer
        assert plain.gradients.any()
        np.testing.assert_allclose(optimised.gradients, plain.gradients, atol=1e-4 * np.abs(plain.gradients).max())
