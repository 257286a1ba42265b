"""Transformers of timm and transformers, seeded: what is shown at a place is found at that place of the map."""

from __future__ import annotations

import numpy as np
import pytest

from tools.zoo.patches import TOWERS, moved


@pytest.mark.zoo
@pytest.mark.parametrize("name", TOWERS)
def test_a_patch_that_moves_moves_in_the_map(name):
    """Noise, and one place of it shown anew: what is explained changes most there, and so does the map."""
    for package in ("torch", "timm", "transformers"):
        pytest.importorskip(package)
    places, pictures, found = moved(name)
    rows = pictures.shape[-1] // TOWERS[name]
    assert found.saliency.shape[1:] == (rows, rows)
    assert (found.saliency.std(axis=(1, 2)) > 1e-3 * abs(found.saliency).max()).all(), "a flat map has no places"
    for what in (found.activations[:-1] - found.activations[-1], found.saliency[:-1, None] - found.saliency[-1]):
        change = np.sqrt((what**2).sum(axis=1)).reshape(len(places), -1)
        seen = np.stack(np.unravel_index(change.argmax(axis=1), (rows, rows)), axis=1)
        apart = abs(seen - places).max(axis=1)
        assert (apart == 0).sum() >= len(places) - 1
        assert apart.max() <= 1, "the place beside it, where windows mix"
