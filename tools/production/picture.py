"""The bundled network's maps in every form side by side: docs/images/production.jpg.

Above Grad-CAM at the last convolution, which every form must keep; below the gradient at the picture, which a
quantised form does not.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.sheet import TEXT, contrast, label, tile
from cam_onnx import CamOnnxError, Explainer
from cam_onnx.render import image
from tools.production.forms import FORMS, calibration, make
from tools.production.measure import CALIBRATED, EXPLAINED, ROOT
from tools.production.networks import NETWORKS

__all__ = ["ACROSS", "CELL", "NAMES", "OUT", "SIDE", "TEXT", "draw", "label", "place"]

OUT = ROOT / "docs" / "images" / "production.jpg"
NETWORK, METHODS = "EfficientNet-Lite0", ("grad-cam", "gradient")
NAMES = ["plain", *FORMS]
SIDE, GAP, ACROSS = 150, 2, 5
CELL = (TEXT + len(METHODS) * (SIDE + GAP) + 4, SIDE + 8)


def place(i: int) -> tuple[int, int]:
    """Return the top left corner of the i-th form's cell: a name, and a tile for each method below it."""
    return i // ACROSS * CELL[0], i % ACROSS * CELL[1] + 4


def draw() -> None:
    """Make every form, explain the picture in it, and write the sheet."""
    network = NETWORKS[NETWORK]
    source = network.path()
    plain = Explainer(source, preprocess=network.preprocess, providers="cpu")
    target, settings = int(plain.explain(EXPLAINED).target[0]), plain.contract.preprocess
    assert settings is not None
    sheet = np.full((-(-len(NAMES) // ACROSS) * CELL[0], ACROSS * CELL[1], 3), 255, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        feeds = calibration(CALIBRATED, onnx.load(source), settings)
        for i, form in enumerate(NAMES):
            path = source if form == "plain" else make(form, source, Path(folder) / "form.onnx", feeds)
            top, left = place(i)
            sheet[top : top + TEXT, left : left + SIDE] = label(form, SIDE)
            for row, method in enumerate(METHODS):
                at = top + TEXT + row * (SIDE + GAP)
                sheet[at : at + SIDE, left : left + SIDE] = _tile(path, network.preprocess, method, target)
            print(f"{form}: drawn", file=sys.stderr, flush=True)
    image.save(OUT, sheet)


def _tile(path: Path, preprocess: Any, method: str, target: int) -> Any:
    try:
        e = Explainer(path, method=method, preprocess=preprocess, providers="cpu").explain(EXPLAINED, target=target)
    except CamOnnxError:
        return np.vstack([label("refused", SIDE), np.full((SIDE - TEXT, SIDE, 3), 240, np.uint8)])
    return tile(e.overlay() if method == "grad-cam" else contrast(e), SIDE)
