"""Transformers of timm and transformers, seeded: what is shown at a place is found at that place of the map."""

from __future__ import annotations

import numpy as np
import pytest

from cam_onnx import Explainer

# network -> by how many pixels a place of its last grid is wide
TOWERS = {
    "vit_tiny_patch16_224": 16,
    "deit3_small_patch16_224": 16,
    "vit_small_patch14_reg4_dinov2": 14,
    "swin_tiny_patch4_window7_224": 32,
    "swinv2_tiny_window8_256": 32,
    "maxvit_pico_rw_256": 32,
    "clip": 8,
}


def exported(name):
    """The network's file, and the side of its pictures."""
    if name == "clip":
        from tools.production import towers

        return towers.export("clip", 64, 4, 3, 64, 8), 64
    from tools.zoo.export import export, make, pictures
    from tools.zoo.networks import Network

    network = Network("timm", name, "torchscript", 17)
    model = make(network)
    x = pictures(model, network)
    return export(model, network, x), x.shape[-1]


@pytest.mark.zoo
@pytest.mark.parametrize("name", TOWERS)
def test_a_patch_that_moves_moves_in_the_map(name):
    """Noise, and one place of it shown anew: what is explained changes most there, and so does the map."""
    for package in ("torch", "timm", "transformers"):
        pytest.importorskip(package)
    data, side = exported(name)
    step, rng = TOWERS[name], np.random.default_rng(0)
    rows = side // step
    places = [(y, x) for y in (0, rows // 2, rows - 1) for x in (0, rows // 2 + 1, rows - 1)]
    pictures = np.repeat(rng.standard_normal((1, 3, side, side)).astype(np.float32), len(places) + 1, axis=0)
    for i, (y, x) in enumerate(places):
        pictures[i, :, y * step : (y + 1) * step, x * step : (x + 1) * step] *= -2
    found = Explainer(data, providers="cpu").explain(inputs={"input": pictures}, target=3)
    assert found.saliency.shape[1:] == (rows, rows)
    assert (found.saliency.std(axis=(1, 2)) > 1e-3 * abs(found.saliency).max()).all(), "a flat map has no places"
    for what in (found.activations[:-1] - found.activations[-1], found.saliency[:-1, None] - found.saliency[-1]):
        change = np.sqrt((what**2).sum(axis=1)).reshape(len(places), -1)
        seen = np.stack(np.unravel_index(change.argmax(axis=1), (rows, rows)), axis=1)
        apart = abs(seen - places).max(axis=1)
        assert (apart == 0).sum() >= len(places) - 1
        assert apart.max() <= 1, "the place beside it, where windows mix"
