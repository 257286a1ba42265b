"""Maps that stand on a level, RISE and both Recipro-CAMs: zero means nothing in them, so what is drawn begins at the
smallest value, whatever the score's sign. The raw map keeps its level."""

from __future__ import annotations

import numpy as np
import pytest

from cam_onnx import Explainer
from cam_onnx.maps import _risen
from cam_onnx.methods import METHODS
from models.builders import gap_linear, inputs

pytest.importorskip("onnxruntime")
LEVEL: dict[str, dict[str, int]] = {
    "rise": {"masks": 30}, "d-rise": {"masks": 30, "grid": 7}, "recipro-cam": {}, "vit-recipro-cam": {},
}  # fmt: skip


def shifted(by):
    """The network with `by` added to every logit."""
    from onnx import numpy_helper

    model = gap_linear()
    [bias] = [tensor for tensor in model.graph.initializer if tensor.name == "b3"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(by), "b3"))
    return model, {"image": inputs(model)["image"][:1]}


def test_these_are_the_methods_with_a_level():
    assert {name for name, entry in METHODS.items() if entry.level} == set(LEVEL)
    assert not any(entry.relu for entry in METHODS.values() if entry.level)


@pytest.mark.parametrize("by", [-20, 20], ids=["scores below 0", "scores above 0"])
@pytest.mark.parametrize("name", LEVEL)
def test_the_map_is_drawn_from_its_smallest_value(name, by):
    model, feeds = shifted(by)
    explainer = Explainer(model, method=name, target="class", options=LEVEL[name], providers="cpu")
    e = explainer.explain(inputs=feeds)
    [m], [raw] = e.saliency_map, e.saliency
    assert (m.min(), m.max()) == (0, 1)
    assert e.reasons == [None]
    assert np.sign(raw).min() == np.sign(raw).max() == np.sign(by), "the raw map keeps its level"
    if name == "rise":  # at the picture's resolution already
        np.testing.assert_allclose(m, (raw - raw.min()) / np.ptp(raw), atol=1e-5)
    assert m.std() > 0.1, "and uses the range"


def test_what_is_asked_for_is_kept():
    model, feeds = shifted(20)
    explainer = Explainer(model, method="recipro-cam", providers="cpu")
    signed = explainer.explain(inputs=feeds, relu=False).saliency_map[0]
    assert signed.min() > 0.5, "zero stays zero"
    raw = explainer.explain(inputs=feeds, normalize=None)
    assert raw.saliency_map.min() == pytest.approx(raw.saliency.min(), rel=0.05)


def test_a_constant_map_is_not_stretched_and_keeps_what_it_is():
    maps = np.stack([np.full((3, 4), 3.0), np.arange(12.0).reshape(3, 4) - 5])
    risen = _risen(maps)
    assert (risen[0] == 3).all()
    assert (risen[1] == np.arange(12.0).reshape(3, 4)).all()
