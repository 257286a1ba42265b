"""Do maps change when the network forgets? Weights are shuffled in the file; ``python -m benchmarks.sanity``.

The check of Adebayo et al. 2018 (arXiv:1810.03292): from the classifier upwards, layers of the bundled network get
their own weights in another order (10 seeds on two pictures, fewer where no figure is required), and each method's map
for the class that the sound network predicts is compared with its map of before by Spearman's rank correlation. Methods
of attention and of detections, and those that would run the bundled network tens of thousands of times, have a small
trained network instead. Written into docs/sanity.md; what was measured stays in docs/sanity.json until it is named, or
until ``--again``: one more method costs minutes, all of them half an hour.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.gallery import FEWER, PICTURES, detection, scenes
from cam_onnx import Detection, Explainer, convert, files
from cam_onnx.engine import preprocess
from cam_onnx.methods import METHODS, Method
from cam_onnx.render import image

__all__ = ["MOST", "REASONS", "REQUIRED", "correlation", "shuffled"]

ROOT = Path(__file__).parent.parent
MODEL = "efficientnet-lite0"
PAGE, KEPT = ROOT / "docs" / "sanity.md", ROOT / "docs" / "sanity.json"
SEEDS, MOST = 10, 0.5
BUNDLED, AVERAGE, TOKENS, BOXES, SHALLOW = 20, 3, 9, 4, 2  # weights, of 50, 5, 14, 7 and of any
DEEP = {MODEL: BUNDLED, "textures-average": AVERAGE, "textures-tokens": TOKENS, "texture-boxes": BOXES}
ON = (
    dict.fromkeys(("ss-cam", "is-cam"), "textures-average")
    | dict.fromkeys(("vit-recipro-cam", "attention-rollout", "grad-rollout", "legrad"), "textures-tokens")
    | {"d-rise": "texture-boxes"}
)
FEWER_SEEDS = dict.fromkeys(("occlusion", "rise", "guided-integrated-gradients"), 1)
OPTIONS: dict[str, dict[str, Any]] = {**FEWER, "rise": {"masks": 300}, "ss-cam": {}, "is-cam": {}}

REQUIRED = ("grad-cam", "hires-cam", "xgrad-cam", "layer-cam", "score-cam", "ablation-cam", "gradient")
"""Methods whose mean correlation must be below `MOST`."""

POSITIVE = "positive weights alone: any of them give nearly the mean activation, and its place stays"
ALONE = "activations alone: it does not depend on the class, and a shuffled layer is active where the picture has edges"
PICTURE = "the picture is a factor of it"
SIZES = "sizes without signs: the gradient is large where the picture has edges, whatever the weights"
WAY_BACK = "what goes back is cut to what is positive: it shows the picture more than the network"

REASONS: dict[str, str] = {
    **dict.fromkeys(
        ("element-wise-grad-cam", "layer-cam", "grad-cam++", "smooth-grad-cam++", "score-cam", "ss-cam", "is-cam"),
        POSITIVE,
    ),
    **dict.fromkeys(("activation-map", "fem", "eigen-cam", "kpca-cam"), ALONE),
    "eigen-grad-cam": "the first direction of g A is nearly that of A; its sign is the class's",
    "seg-eigen-cam": "of abs(g) A, which has lost the sign that tells classes apart",
    **dict.fromkeys(
        (
            "input-x-gradient", "integrated-gradients", "expected-gradients", "blur-integrated-gradients",
            "guided-integrated-gradients",
        ),
        PICTURE,
    ),
    **dict.fromkeys(("gradient", "smooth-grad", "smooth-grad-squared", "var-grad"), SIZES),
    "full-grad": "absolute values of every layer's part, the first layers' among them",
    "lrp": "the picture is a factor of it, and positive relevance goes where positive contributions are",
    **dict.fromkeys(("guided-backprop", "deconvnet", "guided-grad-cam"), WAY_BACK),
    "attention-rollout": "attention alone: it does not depend on the class",
    **dict.fromkeys(("grad-rollout", "legrad"), "positive parts alone, of attention whose early layers stay"),
    "vit-recipro-cam": "the score of nothing lies in every position, so that absolute values say little",
    "rise": "the same masks before and after, with a score that hardly falls below its mean: their own unevenness",
}  # fmt: skip
"""Why a method's maps stay alike: of all that do in any of the three ways."""


def shuffled(model: onnx.ModelProto, seed: int, last: int = 2) -> onnx.ModelProto:
    """Return a copy in which the weights of the last `last` convolutions or linear layers are in another order."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    tensors = {tensor.name: tensor for tensor in changed.graph.initializer}
    weights = [
        tensors[node.input[1]]
        for node in changed.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in tensors
    ]
    rng = np.random.default_rng(seed)
    for tensor in weights[-last:]:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(rng.permuted(values.ravel()).reshape(values.shape), tensor.name))
    return changed


def correlation(one: Any, other: Any) -> float:
    """Return Spearman's rank correlation of two maps; ties share their mean rank, and a constant map counts as 0."""
    a, b = _ranks(one), _ranks(other)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else 0.0


def _ranks(values: Any) -> Any:
    _, where, counts = np.unique(np.ravel(values), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[where]


@lru_cache(2 * SEEDS)
def _converted(network: str, seed: int | None, last: int, shared: str, target: Detection | None) -> bytes:
    model = onnx.load(ROOT / "models" / f"{network}.onnx")
    return convert(
        model if seed is None else shuffled(model, seed, last),
        method=shared,
        target=target,
        preprocess=ROOT / "models" / f"{network if network == MODEL else 'synthetic'}.json",
    ).to_bytes()


def _shared(entry: Method) -> str:
    plain = not (entry.table or entry.target or entry.lists or entry.needs == ("image", "forward"))
    return entry.name if not plain else "gradient" if entry.at == "input" else "grad-cam"


def _maps(entry: Method, seed: int | None, last: int, classes: list[int] | None) -> tuple[list[Any], list[int]]:
    if ON.get(entry.name, MODEL) == MODEL:
        return _explained(entry, seed, last, list(PICTURES), classes)
    pictures = [scene.pixels for scene in scenes()]
    if entry.target != "detection":
        return _explained(entry, seed, last, pictures, classes)
    each = [_explained(entry, seed, last, [p], [0], detection(i)) for i, p in enumerate(pictures)]
    return [maps[0] for maps, _ in each], [0] * len(each)


def _explained(
    entry: Method, seed: int | None, last: int, pictures: list[Any], classes: list[int] | None, target: Any = None
) -> tuple[list[Any], list[int]]:
    network = ON.get(entry.name, MODEL)
    explainer = Explainer(_converted(network, seed, last, _shared(entry), target), method=entry.name, providers="cpu")
    options = dict(OPTIONS.get(entry.name, {}))
    if entry.name == "expected-gradients":
        settings = explainer.contract.preprocess
        assert settings is not None
        both = [preprocess.apply(settings, image.load(path).pixels)[0] for path in PICTURES]
        options["references"] = np.concatenate(both)
    e = explainer.explain(pictures, target=classes or -1, options=options)
    found = list(e.saliency), [int(c) for c in e.target]
    del explainer, e
    gc.collect()  # sessions hang in cycles, and what they hold is nothing that Python counts
    return found


def measure(name: str) -> dict[str, Any]:
    """Return the method's correlations: of the signed maps at both depths, and of the absolute values at the deep one.

    Methods that run the whole network are measured at the deep one alone.
    """
    entry, started, network = METHODS[name], time.perf_counter(), ON.get(name, MODEL)
    before, classes = _maps(entry, None, 0, None)
    row: dict[str, Any] = {"method": name, "network": network, "deep": [], "shallow": [], "absolute": []}
    whole = bool({"forward", "backward", "probe"} & set(entry.needs))
    for seed in range(FEWER_SEEDS.get(name, SEEDS if name in REQUIRED or network != MODEL else 3)):
        for one, other in zip(before, _maps(entry, seed, DEEP[network], classes)[0], strict=True):
            row["deep"].append(correlation(one, other))
            row["absolute"].append(correlation(abs(one), abs(other)))
        if not whole:
            pairs = zip(before, _maps(entry, seed, SHALLOW, classes)[0], strict=True)
            row["shallow"] += [correlation(one, other) for one, other in pairs]
    return {**row, "seconds": round(time.perf_counter() - started, 1)}


HEAD = f"""# Do maps change when the network forgets?

A map that stays the same when what the network has learnt is destroyed shows the picture, not the network (Adebayo et
al. 2018, arXiv:1810.03292). Here weights of the bundled network are shuffled *in the file*, each tensor's own values in
another order, from the classifier upwards, and the maps of the class that the sound network predicts are compared by
Spearman's rank correlation: 1 is the same order of all positions, 0 none in common. {SEEDS} seeds on {len(PICTURES)}
pictures; where it were fewer pairs, their number stands in brackets. Methods of attention are measured with the
transformer `textures-tokens` of `models/`, D-RISE with the detector `texture-boxes`, and those that would run the
bundled network tens of thousands of times with `textures-average`, on two of their pictures.

- *last {BUNDLED}*: of the signed maps (before ReLU), the last {BUNDLED} of 50 layers shuffled; mean and range. Of the
  small networks {TOKENS} of 14, {AVERAGE} of 5 and {BOXES} of 7. Below {MOST} is required of the seven in bold,
  reported of all.
- *absolute*: the same of the maps' absolute values, since the sign of an attribution to pixels flickers.
- *last {SHALLOW}*: only the classifier and the convolution in front of it; not of methods that run the whole network.

`python -m benchmarks.sanity` measures again.

| method | last {BUNDLED} | range | absolute | last {SHALLOW} | why it stays alike |
|---|---|---|---|---|---|
"""


def page(rows: dict[str, dict[str, Any]]) -> str:
    """Return docs/sanity.md."""
    lines = []
    for name, row in rows.items():
        deep, sizes, shallow = (np.array(row[key]) for key in ("deep", "absolute", "shallow"))
        cells = [
            f"**`{name}`**" if name in REQUIRED else f"`{name}`",
            f"{deep.mean():.2f}{_aside(row)}",
            f"{deep.min():.2f} to {deep.max():.2f}",
            f"{sizes.mean():.2f}",
            f"{shallow.mean():.2f}" if len(shallow) else "",
            REASONS.get(name, "NOT EXPLAINED") if alike(row) else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return HEAD + "\n".join(lines) + "\n"


def _aside(row: dict[str, Any]) -> str:
    """Return what is another way with this row: how many pairs, which network."""
    count, network = len(row["deep"]), row.get("network", MODEL)
    said = [str(count)] * (count != SEEDS * len(PICTURES)) + [f"`{network}`"] * (network != MODEL)
    return f" ({', '.join(said)})" if said else ""


def alike(row: dict[str, Any]) -> bool:
    """Return whether a method's maps stay alike in any of the three ways."""
    return any(len(row[key]) and float(np.mean(row[key])) >= MOST for key in ("deep", "absolute", "shallow"))


def main(arguments: list[str]) -> int:
    """Measure and write. Exit 1 if a method that must change does not."""
    rows = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in [name for name in arguments if name in METHODS] or list(METHODS):
        if name in rows and name not in arguments and "--again" not in arguments:
            continue
        row = rows[name] = measure(name)
        rows = {known: rows[known] for known in METHODS if known in rows}
        files.write(KEPT, (json.dumps(_rounded(rows), indent=0) + "\n").encode())
        means = ", ".join(f"{key} {np.mean(row[key] or np.nan):.2f}" for key in ("deep", "absolute", "shallow"))
        print(f"{name}: {means}; {row['seconds']} s", file=sys.stderr, flush=True)
    files.write(PAGE, page(rows).encode())
    return int(any(np.mean(rows[name]["deep"]) >= MOST for name in REQUIRED if name in rows))


def _rounded(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        name: {key: [round(v, 4) for v in value] if isinstance(value, list) else value for key, value in row.items()}
        for name, row in rows.items()
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
