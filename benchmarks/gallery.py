"""The contact sheet: every method on the bundled network and pictures, into docs/images/gallery.jpg.

``python -m benchmarks.gallery`` (minutes: the network runs tens of thousands of times). What was drawn stays in
build/gallery/ until ``--again``, so that one more method costs one more tile. With names of methods: these alone, anew.
"""

from __future__ import annotations

import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sheet import TEXT, contrast, label, tile
from cam_onnx import Detection, Explainer, convert, files
from cam_onnx.engine import preprocess
from cam_onnx.methods import METHODS
from cam_onnx.render import image
from models.synthetic import Scene, textured

__all__ = ["ACROSS", "CELL", "OUT", "SIDE", "detection", "place", "scenes"]

ROOT = Path(__file__).parent.parent
PICTURES = [ROOT / "models" / "pictures" / name for name in ("chelsea.png", "coffee.png")]
OUT, KEPT = ROOT / "docs" / "images" / "gallery.jpg", ROOT / "build" / "gallery"
SIDE, GAP, ACROSS, QUALITY = 128, 2, 7, 82
CELL = (TEXT + len(PICTURES) * (SIDE + GAP) + 4, SIDE + 8)

FEWER: dict[str, dict[str, Any]] = {
    "ss-cam": {"samples": 1}, "is-cam": {"steps": 2}, "expected-gradients": {"samples": 24},
    "smooth-grad": {"samples": 10}, "smooth-grad-squared": {"samples": 10}, "var-grad": {"samples": 10},
    "smooth-grad-cam++": {"samples": 6}, "integrated-gradients": {"steps": 16},
    "blur-integrated-gradients": {"steps": 16}, "guided-integrated-gradients": {"steps": 24},
    "d-rise": {"masks": 1000, "grid": 5},
}  # fmt: skip
"""Options with which a method is drawn, where its defaults take longer than a sheet is worth; of D-RISE also cells of
nearly the object's size, where its own are finer than the texture."""

TARGETS = {"rise": "probability"}
"""What is explained, where a paper says other than the logit and it shows."""


SMALL = {
    **dict.fromkeys(("attention-rollout", "grad-rollout", "legrad"), "textures-tokens"), "d-rise": "texture-boxes",
}  # fmt: skip
"""Methods of transformers and of detectors, by the small network that they are drawn with, on pictures of its own."""


def scenes() -> tuple[Scene, Scene]:
    """Return what the small networks are shown: one object, and two of which the first is explained."""
    return textured(0, "bars"), textured(8, "bars", "checks")


@cache
def _converted(method: str, target: str | None) -> bytes:
    models = ROOT / "models"
    converted = convert(
        models / "efficientnet-lite0.onnx",
        method=method,
        target=target,
        preprocess=models / "efficientnet-lite0.json",
        labels=models / "imagenet_labels.txt",
    )
    return converted.to_bytes()


def _explainer(name: str) -> Explainer:
    """Return an Explainer of a file that several methods share."""
    entry = METHODS[name]
    plain = not (entry.table or entry.target or "biases" in entry.needs or entry.needs == ("image", "forward"))
    shared = name if not plain else "gradient" if entry.at == "input" else "grad-cam"
    return Explainer(_converted(shared, TARGETS.get(name)), method=name, providers="cpu")


@cache
def detection(i: int) -> Detection:
    """Return what the small detector finds of the first class in one of `scenes`."""
    models = ROOT / "models"
    detector = Explainer(models / "texture-boxes.onnx", preprocess=models / "synthetic.json", providers="cpu")
    [box] = detector.explain(scenes()[i].pixels, target=0).boxes
    return Detection(*box, cls=0)


def _small(name: str, i: int) -> Any:
    models = ROOT / "models"
    explainer = Explainer(
        models / f"{SMALL[name]}.onnx", method=name, preprocess=models / "synthetic.json", providers="cpu",
        target=detection(i) if METHODS[name].target == "detection" else None, options=FEWER.get(name, {}),
    )  # fmt: skip
    return explainer.explain(scenes()[i].pixels, target=0)


def tiles(name: str) -> list[Any]:
    """Return the overlays of one method, small; of a signed map the heatmap."""
    if name in SMALL:
        return [tile(_small(name, i).overlay(), SIDE) for i in range(len(scenes()))]
    entry, explainer = METHODS[name], _explainer(name)
    options = dict(FEWER.get(name, {}))
    if name == "expected-gradients":
        options["references"] = _both_pictures(explainer)
    found = []
    for picture in PICTURES:
        e = explainer.explain(picture, options=options)
        found.append(tile(e.overlay() if entry.relu or entry.level else contrast(e), SIDE))
        reason = f" blank: {e.reasons[0]}" if e.reasons[0] else ""
        print(f"{name}: {picture.stem}{reason}", file=sys.stderr, flush=True)
    return found


def _both_pictures(explainer: Explainer) -> Any:
    settings = explainer.contract.preprocess
    assert settings is not None
    return np.concatenate([preprocess.apply(settings, image.load(path).pixels)[0] for path in PICTURES])


def _kept(name: str, again: bool) -> Any:
    """Return the method's tiles, one below the other, from build/ where they are there."""
    path = KEPT / f"{name}.png"
    if again or not path.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        image.save(path, np.vstack(tiles(name)))
    return image.load(path).pixels


def place(i: int) -> tuple[int, int]:
    """Return the top left corner of the sheet's i-th cell: a name, and a tile for each picture below it."""
    return i // ACROSS * CELL[0], i % ACROSS * CELL[1] + 4


def main(arguments: list[str]) -> int:
    """Draw the sheet."""
    started = time.perf_counter()
    names = [name for name in arguments if name != "--again"]
    sheet = np.full((-(-len(METHODS) // ACROSS) * CELL[0], ACROSS * CELL[1], 3), 255, np.uint8)
    for i, name in enumerate(METHODS):
        top, left = place(i)
        sheet[top : top + TEXT, left : left + SIDE] = label(name, SIDE)
        drawn = _kept(name, name in names or (not names and "--again" in arguments))
        for j in range(len(PICTURES)):
            at = top + TEXT + j * (SIDE + GAP)
            sheet[at : at + SIDE, left : left + SIDE] = drawn[j * SIDE : (j + 1) * SIDE]
    files.write(OUT, _jpeg(sheet))
    took = time.perf_counter() - started
    print(f"{OUT.name}: {len(METHODS)} methods, {OUT.stat().st_size:,} bytes, in {took:.0f} s", file=sys.stderr)
    return 0


def _jpeg(picture: Any) -> bytes:
    import cv2

    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert done
    return bytes(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
