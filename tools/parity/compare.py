"""One network: our maps in ONNX Runtime beside the libraries' in PyTorch; where they differ, beside their formula."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from cam_onnx import CamOnnxError, Explainer, Finer
from cam_onnx.methods import METHODS
from tools.parity.libraries import LIBRARIES, theirs
from tools.parity.networks import Case

__all__ = ["AGREES", "DEPARTURES", "Departure", "compare"]

AGREES = 1e-3  # of the map's norm; float32 in both, and a ReLU that rounding flips costs more at the input
Array = Any


class Departure(NamedTuple):
    """What another implementation computes instead: in words, and in NumPy of A, g and what goes back to the picture,
    or as a target of ours for Grad-CAM. `back`: which of our methods that is; without a ReLU the plain one.
    """

    text: str
    formula: Callable[[Array, Array, Array], Array] | None = None
    either_sign: bool = False
    target: Callable[[int], Any] | None = None
    back: str = ""


def _added_epsilon(A: Array, g: Array, guided: Array) -> Array:
    below = 2 * g**2 + A.sum((2, 3), keepdims=True) * g**3 + 1e-6
    weights = np.where(g != 0, g**2 / below, 0) * np.maximum(g, 0)
    return (weights.sum((2, 3), keepdims=True) * A).sum(1)


def _cubes(A: Array, g: Array, guided: Array) -> Array:
    return ((np.maximum(g, 0) ** 3).sum((2, 3), keepdims=True) * A).sum(1)


def _centred(values: Array) -> Array:
    flat = values.reshape(*values.shape[:2], -1).transpose(0, 2, 1)
    flat = flat - flat.mean(1, keepdims=True)
    first = np.linalg.svd(flat, full_matrices=False)[2][:, 0]
    return (flat @ first[..., None])[..., 0].reshape(len(values), *values.shape[2:])


def _nearest(A: Array, g: Array, guided: Array) -> Array:
    cam = np.maximum((g.mean((2, 3), keepdims=True) * A).sum(1), 0)
    rows, columns = (np.arange(n) * m // n for n, m in zip(guided.shape[2:], cam.shape[1:], strict=True))
    return (guided * cam[:, None, rows][..., columns]).sum(1)


def _summed(A: Array, g: Array, back: Array) -> Array:
    return back.sum(1)


EIGEN = "centres the positions before the decomposition (the paper does not), and the sign is what the SVD gives"
RELU6 = (
    "bends `nn.ReLU` alone: a ReLU6 (mobilenet_v2) keeps its derivative there, so that the map is the plain gradient"
)
DEPARTURES: dict[tuple[str, str], Departure] = {
    ("pytorch-grad-cam", "grad-cam++"): Departure(
        "adds 1e-6 to the denominator 2 g² + ΣA g³ of eq. 19, which is not small beside g² behind average pooling: the "
        "coefficients fade where gradients are small",
        _added_epsilon,
    ),
    ("torch-cam", "grad-cam++"): Departure(
        "divides a copy (`alpha[mask].div_`), so that the coefficients stay g² and the weights are Σ relu(g)³", _cubes
    ),
    ("pytorch-grad-cam", "eigen-cam"): Departure(EIGEN, lambda A, g, guided: _centred(A), True),
    ("pytorch-grad-cam", "eigen-grad-cam"): Departure(EIGEN, lambda A, g, guided: _centred(g * A), True),
    ("pytorch-grad-cam", "seg-eigen-cam"): Departure(
        "centres the positions of |g| A before the decomposition", lambda A, g, guided: _centred(abs(g) * A), True
    ),
    ("pytorch-grad-cam", "kpca-cam"): Departure("the sign is what the decomposition gives", None, True),
    ("pytorch-grad-cam", "score-cam"): Departure(
        "upsamples masks with `align_corners`, by another rule than the map is upsampled with"
    ),
    ("pytorch-grad-cam", "ablation-cam"): Departure(
        "where activations can be negative, a channel is set to its minimum - 1e7 and not to 0"
    ),
    ("pytorch-grad-cam", "finer-cam"): Departure(
        "adds 1e-9 to the sum of the other classes' probabilities, which is not small beside a confident network's"
    ),
    ("pytorch-grad-cam", "xgrad-cam"): Departure(
        "divides by ΣA + 1e-7 without a guard: where A can be negative and ΣA is nearly 0 a weight explodes; ours is "
        "kept above 1 % of Σ|A|",
        lambda A, g, guided: ((g * A / (A.sum((2, 3), keepdims=True) + 1e-7)).sum((2, 3), keepdims=True) * A).sum(1),
    ),
    ("torch-cam", "xgrad-cam"): Departure(
        "divides by ΣA + 1e-8 without a guard: where A can be negative and ΣA is nearly 0 a weight explodes",
        lambda A, g, guided: ((g * A / (A.sum((2, 3), keepdims=True) + 1e-8)).sum((2, 3), keepdims=True) * A).sum(1),
    ),
    ("torch-cam", "score-cam"): Departure("stretches a channel to [0, 1] before it is upsampled, eq. 5 after it"),
    ("torch-cam", "is-cam"): Departure(
        "sums the fractions up as it goes: 0.1, 0.3, 0.6, ... 5.5 in the place of 0.1, 0.2, ... 1 of the mask"
    ),
    ("torch-cam", "finer-cam"): Departure(
        "takes off 0.6 of the plain mean of the nearest classes, where the published code weights them by probability "
        "(`Finer(weighted=False, alpha=0.6)` is its target)",
        target=lambda c: Finer(cls=c, weighted=False, alpha=0.6),
    ),
    ("captum", "guided-backprop"): Departure(RELU6, _summed, back="guided-backprop"),
    ("captum", "deconvnet"): Departure(RELU6, _summed, back="deconvnet"),
    ("zennit", "guided-backprop"): Departure(RELU6, _summed, back="guided-backprop"),
    ("zennit", "deconvnet"): Departure(RELU6, _summed, back="deconvnet"),
    ("captum", "guided-grad-cam"): Departure(
        "upsamples Grad-CAM to the nearest position by default, and not bilinearly; and as guided-backprop",
        _nearest,
        back="guided-backprop",
    ),
}
"""By library and method: why a map differs from ours. A difference that stands in no entry is ours to explain."""

FEW = ("score-cam", "is-cam", "ablation-cam")
"""A run for every channel: on the large networks of resnet18 alone, the first two on the small ones alone."""


def compare(case: Case, done: set[tuple[str, str]], kept: dict[str, Array]) -> Iterator[dict[str, Any]]:
    """Yield a row for every library and method that is not `done`; the libraries' maps go into `kept`."""
    ours = _Ours(case)
    pairs = [(library, method) for library, (methods, _) in LIBRARIES.items() for method in methods]
    for library, method in sorted(pairs, key=lambda pair: pair[1] in LATE):
        few = case.name.startswith("textures") or (case.name, method) == ("resnet18", "ablation-cam")
        if (library, method) in done or (method in FEW and not few):
            continue
        row: dict[str, Any] = {"network": case.name, "library": library, "method": method}
        try:
            other = theirs(case, library, method)
        except Exception as error:  # noqa: BLE001  (whatever a library raises)
            yield {**row, "refused": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
            continue
        kept[f"{case.name}/{library}/{method}"] = other
        row |= _judge(ours, library, method, other)
        if row.get("error", 0) >= AGREES and (library, method) not in DEPARTURES and METHODS[method].at == "input":
            row |= _rounding(case.several(), library, method)
        yield row


def _rounding(case: Case, library: str, method: str) -> dict[str, Any]:
    """Say how far both are from float64, in the middle of several pictures: of one it is chance which ReLU flips."""
    double, own = case.double(), _Ours(case).explained(method).saliency
    far: dict[str, list[float]] = {"rounding": [], "ours to double": []}
    for i in range(len(own)):  # one by one: captum holds all nodes of a path at once
        exact = theirs(double.only(i), library, method)
        far["rounding"].append(distance(theirs(case.only(i), library, method), exact))
        far["ours to double"].append(distance(own[i : i + 1], exact))
    return {"pictures": len(own), **{key: float(np.median(values)) for key, values in far.items()}}


LATE = ("integrated-gradients", "eigen-grad-cam", "seg-eigen-cam", "kpca-cam")  # the dear ones, after the others


class _Ours:
    """Our maps by method, each once."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.found: dict[str, Any] = {}

    def with_target(self, kind: Callable[[int], Any]) -> Array:
        explainer = Explainer(self.case.data, method="grad-cam", providers="cpu", layers=self.case.value)
        name, x = explainer.contract.roles["image"], self.case.x.numpy()
        return np.concatenate([
            explainer.explain(inputs={name: x[i : i + 1]}, target=kind(c)).saliency
            for i, c in enumerate(self.case.classes)
        ])  # fmt: skip

    def explained(self, method: str) -> Any:
        if method not in self.found:
            at = METHODS[method].at
            options = {"steps": self.case.steps} if method == "integrated-gradients" else {}
            explainer = Explainer(
                self.case.data, method=method, providers="cpu", options=options,
                layers=None if at == "input" else self.case.value,
            )  # fmt: skip
            name = explainer.contract.roles["image"]
            self.found[method] = explainer.explain(inputs={name: self.case.x.numpy()}, target=self.case.classes)
            del explainer
            gc.collect()  # its sessions hang in cycles: of vgg11_bn a few would fill the memory
        return self.found[method]


def _judge(ours: _Ours, library: str, method: str, other: Array) -> dict[str, Any]:
    try:
        own = ours.explained(method).saliency
    except CamOnnxError as error:  # said on the page
        return {"ours refused": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    departure = DEPARTURES.get((library, method))
    row: dict[str, Any] = {"error": distance(own, other)}
    if departure is None:
        return row
    if departure.target is not None:
        row["formula"] = distance(ours.with_target(departure.target), other)
    elif departure.formula is not None:
        e = ours.explained("grad-cam")
        bent = departure.back if ours.case.bends else "gradient"
        back = ours.explained(bent).gradients if departure.back else None
        found = departure.formula(e.activations.astype(float), e.gradients.astype(float), back)
        row["formula"] = distance(found, other, departure.either_sign)
    elif departure.either_sign:
        row["formula"] = distance(own, other, True)
    return row


def distance(one: Array, other: Array, either_sign: bool = False) -> float:
    """Return the norm of the difference over the norm of `other`: the worst sample's."""
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        signs = (1, -1) if either_sign else (1,)
        size = float(np.linalg.norm(b)) or 1.0
        worst = max(worst, min(float(np.linalg.norm(s * a - b)) / size for s in signs))
    return worst
