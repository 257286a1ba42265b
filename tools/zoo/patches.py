"""Transformers of timm and transformers, seeded, and noise in which one place is shown anew: does a map follow it?"""

from __future__ import annotations

from typing import Any

import numpy as np

from cam_onnx import Explainer, Explanation

__all__ = ["TOWERS", "moved"]

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


def moved(name: str) -> tuple[list[tuple[int, int]], np.ndarray[Any, Any], Explanation]:
    """Explain noise in which one place is shown anew.

    Returns
    -------
    places : list of (row, column)
        Of the network's last grid: corners, edges and the middle.
    pictures : array (len(places) + 1, 3, H, W)
        The last one is the noise itself.
    explanation : Explanation
        Of all of them, with no option.
    """
    data, side = _exported(name)
    step, rng = TOWERS[name], np.random.default_rng(0)
    rows = side // step
    places = [(y, x) for y in (0, rows // 2, rows - 1) for x in (0, rows // 2 + 1, rows - 1)]
    pictures = np.repeat(rng.standard_normal((1, 3, side, side)).astype(np.float32), len(places) + 1, axis=0)
    for i, (y, x) in enumerate(places):
        pictures[i, :, y * step : (y + 1) * step, x * step : (x + 1) * step] *= -2
    return places, pictures, Explainer(data, providers="cpu").explain(inputs={"input": pictures}, target=3)


def _exported(name: str) -> tuple[bytes, int]:
    """Return the network's file, and the side of its pictures."""
    if name == "clip":
        from tools.production import towers

        return towers.export("clip", 64, 4, 3, 64, 8), 64
    from tools.zoo.export import export, make, pictures
    from tools.zoo.networks import Network

    network = Network("timm", name, "torchscript", 17)
    model = make(network)
    x = pictures(model, network)
    return export(model, network, x), x.shape[-1]
