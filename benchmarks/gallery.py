"""The contact sheet: every method on the bundled network and pictures, into docs/images/gallery.jpg.

``python -m benchmarks.gallery`` (many minutes: the network runs thousands of times). With names of methods: these
alone, of the first picture, into build/gallery.png.
"""

from __future__ import annotations

import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cam_onnx import Explainer, convert
from cam_onnx.methods import METHODS
from cam_onnx.render import image

ROOT = Path(__file__).parent.parent
PICTURES = [ROOT / "models" / "pictures" / name for name in ("chelsea.png", "coffee.png")]
OUT = ROOT / "docs" / "images" / "gallery.jpg"
SIDE, TEXT, ACROSS = 112, 16, 8

FEWER: dict[str, dict[str, Any]] = {
    "ss-cam": {"samples": 1}, "is-cam": {"steps": 2}, "rise": {"masks": 500}, "expected-gradients": {"samples": 24},
    "smooth-grad": {"samples": 10}, "smooth-grad-squared": {"samples": 10}, "var-grad": {"samples": 10},
    "smooth-grad-cam++": {"samples": 6}, "integrated-gradients": {"steps": 16},
    "blur-integrated-gradients": {"steps": 16}, "guided-integrated-gradients": {"steps": 24},
}  # fmt: skip
"""Options with which a method is drawn, where its defaults take longer than a sheet is worth."""


FEW_CHANNELS = "getitem_141"
"""320 channels in the place of the default layer's 1280, for methods that run the network once for each."""


@cache
def _converted(method: str, layer: str | None) -> bytes:
    models = ROOT / "models"
    converted = convert(
        models / "efficientnet-lite0.onnx",
        method=method,
        layers=layer,
        preprocess=models / "efficientnet-lite0.json",
        labels=models / "imagenet_labels.txt",
    )
    return converted.to_bytes()


def _explainer(name: str) -> Explainer:
    """Return an Explainer of a file that several methods share."""
    entry = METHODS[name]
    layer = FEW_CHANNELS if {"activations", "forward"} <= set(entry.needs) else None
    plain = not (entry.table or entry.target or entry.needs == ("image", "forward"))
    shared = name if not plain else "gradient" if entry.at == "input" else "grad-cam"
    return Explainer(_converted(shared, layer), method=name, providers="cpu")


def tiles(name: str, pictures: list[Path]) -> list[Any]:
    """Return the overlays (heatmaps of signed maps) of one method, small."""
    explainer = _explainer(name)
    options = dict(FEWER.get(name, {}))
    if name == "expected-gradients":
        options["references"] = _other_pictures(explainer)
    found = []
    for picture in pictures:
        e = explainer.explain(picture, options=options)
        drawn = e.overlay() if METHODS[name].relu else e.heatmap()
        found.append(image.resize(drawn, (SIDE, SIDE), "area"))
        reason = f" blank: {e.reasons[0]}" if e.reasons[0] else ""
        print(f"{name}: {picture.stem}{reason}", file=sys.stderr, flush=True)
    return found


def _other_pictures(explainer: Explainer) -> Any:
    from cam_onnx.engine import preprocess

    settings = explainer.contract.preprocess
    assert settings is not None
    return np.concatenate([preprocess.apply(settings, image.load(path).pixels)[0] for path in PICTURES])


def main(names: list[str]) -> int:
    """Draw the sheet."""
    started = time.perf_counter()
    pictures, out = (PICTURES[:1], ROOT / "build" / "gallery.png") if names else (PICTURES, OUT)
    out.parent.mkdir(exist_ok=True)
    cells = {name: tiles(name, pictures) for name in names or METHODS}
    down = -(-len(cells) // ACROSS)
    height, width = len(pictures) * (SIDE + 2) + TEXT + 6, SIDE + 8
    sheet = np.full((down * height, ACROSS * width, 3), 255, np.uint8)
    for i, (name, drawn) in enumerate(cells.items()):
        y, x = i // ACROSS * height, i % ACROSS * width + 4
        sheet[y : y + TEXT, x : x + SIDE] = _label(name)
        for j, picture in enumerate(drawn):
            top = y + TEXT + j * (SIDE + 2)
            sheet[top : top + SIDE, x : x + SIDE] = picture
    image.save(out, sheet)
    print(f"{out.name}: {len(cells)} methods in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return 0


def _label(words: str) -> Any:
    from cam_onnx.render import drawing

    height = 9
    while drawing.text_size(words, height)[0] > SIDE:
        height -= 1
    strip = np.full((TEXT, SIDE, 3), 255, np.uint8)
    drawing.text(strip, words, (0, TEXT - 5), height, (0, 0, 0))
    return strip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
