"""The pictures of docs/what-it-shows.md, one a section: ``python -m benchmarks.shows [NAME...]``, into docs/images/.

The small networks of models/ on synthetic pictures, where it is known to the pixel what a map should mark; and the
bundled network on a photograph. Seconds, without a training framework.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sheet import contrast, strip
from cam_onnx import Explainer
from cam_onnx.methods import METHODS
from cam_onnx.render import image
from models.synthetic import TEXTURES, Scene, sized, textured

__all__ = ["ROWS", "draw", "explainer"]

ROOT = Path(__file__).parent.parent
MODELS, OUT = ROOT / "models", ROOT / "docs" / "images"
CAT = MODELS / "pictures" / "chelsea.png"
SIDE = 144


@cache
def explainer(network: str, method: str) -> Explainer:
    """Return an Explainer of a network of models/, on the CPU."""
    small = network != "efficientnet-lite0"
    labels = {"disc-size": None, "efficientnet-lite0": MODELS / "imagenet_labels.txt"}
    return Explainer(
        MODELS / f"{network}.onnx",
        layers="features" if small and METHODS[method].at == "layer" else None,
        method=method,
        preprocess=MODELS / ("synthetic.json" if small else "efficientnet-lite0.json"),
        labels=labels.get(network, MODELS / "textures.txt"),
        providers="cpu",
    )


def _scenes(*seeds: int) -> list[Any]:
    return [textured(seed, TEXTURES[seed % 4]).pixels for seed in seeds]


def _overlays(network: str, method: str, pictures: list[Any]) -> list[Any]:
    drawn: list[Any] = explainer(network, method).explain(pictures).overlay(alpha=0.7)
    return drawn


def cam() -> Any:
    """CAM behind average pooling and a linear layer: texture, and where the network sees it."""
    pictures = _scenes(0, 1, 2, 3)
    e = explainer("textures-average", "cam").explain(pictures)
    columns = zip(e.target, pictures, e.overlay(alpha=0.7), strict=True)
    return strip([(e.label(int(c)), [picture, overlay]) for c, picture, overlay in columns], SIDE)


def pooling() -> Any:
    """Average against max pooling, by CAM and by HiResCAM."""
    pictures = _scenes(0, 1, 6)
    columns = [("picture", pictures)]
    for method in ("cam", "hires-cam"):
        for network in ("average", "max"):
            columns.append((f"{network}: {method}", _overlays(f"textures-{network}", method, pictures)))
    return strip(columns, SIDE)


def weights() -> Any:
    """CAM and Grad-CAM: one map."""
    pictures = _scenes(4, 5, 7)
    columns = [(method, _overlays("textures-average", method, pictures)) for method in ("cam", "grad-cam")]
    return strip([("picture", pictures), *columns], SIDE)


def linear() -> Any:
    """Grad-CAM in front of fully connected layers."""
    pictures = _scenes(0, 1, 2, 3)
    e = explainer("textures-linear", "grad-cam").explain(pictures)
    columns = zip(e.target, pictures, e.overlay(alpha=0.7), strict=True)
    return strip([(e.label(int(c)), [picture, overlay]) for c, picture, overlay in columns], SIDE)


def signed() -> Any:
    """A picture with two classes: rectified maps beside signed ones."""
    scene, kinds = _two(), ("bars", "checks")
    given = explainer("textures-average", "grad-cam")
    rectified = [given.explain(scene.pixels, target=kind) for kind in kinds]
    both = [given.explain(scene.pixels, target=kind, relu=False) for kind in kinds]
    return strip(
        [
            ("picture", [scene.pixels] * 2),
            ("rectified: bars, checks", [e.heatmap() for e in rectified]),
            ("signed: bars, checks", [e.heatmap() for e in both]),
            ("signed, on the picture", [e.overlay(alpha=0.8) for e in both]),
        ],
        SIDE,
    )


def _two() -> Scene:
    return textured(8, "bars", "checks")


def guided() -> Any:
    """Guided backpropagation, Grad-CAM, and their product: a cat, and two classes of one picture."""
    two = _two().pixels
    columns = [("cat; bars; checks", [image.load(CAT).pixels, two, two])]
    for method in ("guided-backprop", "grad-cam", "guided-grad-cam"):
        found = [explainer("efficientnet-lite0", method).explain(CAT)]
        found += [explainer("textures-average", method).explain(two, target=kind) for kind in ("bars", "checks")]
        columns.append((method, [e.overlay() if method == "grad-cam" else contrast(e) for e in found]))
    return strip(columns, 150)


def colours() -> Any:
    """The heat map alone, and over the picture in several colour maps."""
    e = explainer("efficientnet-lite0", "grad-cam").explain(CAT)
    columns = [("heat map", [e.heatmap()]), ("over the picture: jet", [e.overlay()])]
    columns += [(name, [e.overlay(colormap=name)]) for name in ("viridis", "inferno")]
    return strip(columns, 170)


def figure() -> Any:
    """The figure with a colour bar."""
    e = explainer("efficientnet-lite0", "grad-cam").explain(CAT)
    written = io.BytesIO()
    e.figure().savefig(written, format="png", dpi=70)
    return image.load(written.getvalue()).pixels


def attention() -> Any:
    """A transformer: what its attention mixes, with and without the class, relevance, and Grad-CAM of its tokens."""
    pictures, classes = [*_scenes(0, 2), _two().pixels], [0, 2, 0]
    columns = [("picture", pictures)]
    for method in ("attention-rollout", "grad-rollout", "legrad", "lrp", "grad-cam"):
        e = explainer("textures-tokens", method).explain(pictures, target=classes)
        drawn = [contrast(e[i]) for i in range(len(e))] if method == "lrp" else e.overlay(alpha=0.7)
        columns.append((method, drawn))
    return strip(columns, 132)


def regression() -> Any:
    """A network with one output: what its value depends on."""
    scenes = [sized(seed) for seed in (0, 1, 2, 8)]
    e = explainer("disc-size", "grad-cam").explain([scene.pixels for scene in scenes])
    columns = zip(scenes, e.score, e.overlay(alpha=0.7), strict=True)
    return strip([(f"{s.value:.1f} %, said: {y:.1f} %", [s.pixels, overlay]) for s, y, overlay in columns], SIDE)


ROWS: dict[str, Callable[[], Any]] = {
    function.__name__: function
    for function in (cam, pooling, weights, linear, signed, guided, attention, colours, figure, regression)
}
"""The pictures by name: docs/images/shows-NAME.jpg."""


def draw(name: str) -> Any:
    """Return one picture, RGB u8."""
    return np.ascontiguousarray(ROWS[name]())


def main(names: list[str]) -> int:
    """Draw and write."""
    for name in names or ROWS:
        path = OUT / f"shows-{name}.jpg"
        image.save(path, draw(name))
        print(f"{path.name}: {path.stat().st_size:,} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
