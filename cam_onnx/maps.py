"""From evidence to maps: what the method says of every layer, laid over every sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cam_onnx import smoothing
from cam_onnx.calls import Calls, Parts
from cam_onnx.contract import Layer
from cam_onnx.engine.batches import pick
from cam_onnx.engine.evidence import Evidence, LayerEvidence
from cam_onnx.engine.samples import Samples
from cam_onnx.explanation import Array, LayerExplanation
from cam_onnx.methods.normalize import fuse, saliency_map
from cam_onnx.methods.saliency import Result, apply
from cam_onnx.methods.table import Method

__all__ = ["Drawing", "draw"]


@dataclass(frozen=True)
class Drawing:
    """How maps are made: a method with its options, and what becomes of its result.

    `guided` returns dy/dx by guided backpropagation, (N, C, *S), for methods that need it; `again` the evidence of
    changed samples and the same classes.
    """

    method: Method
    options: Mapping[str, Any]
    parts: Parts
    relu: bool | None = None
    normalize: str | None = "minmax"
    fusion: str = "mean"
    guided: Callable[[Samples, Evidence, list[int]], Array] | None = None
    progress: Callable[[float, int], None] | None = None
    smooth: str | None = None
    again: Callable[[Samples, Evidence, list[int]], Evidence] | None = None


def draw(how: Drawing, evidence: Evidence, samples: Samples, owner: list[int]) -> tuple[Evidence, dict[str, Any]]:
    """Return the evidence (of fewer samples, where Ctrl-C came), and `layers`, `saliency_map`, `reasons`, `notes` and
    `interrupted` of an `Explanation`, entry i of which is about sample ``owner[i]``.
    """
    results, notes, stopped = _smoothed(how, evidence, samples, owner)
    if len(results) < len(evidence.layers):
        raise KeyboardInterrupt  # before any map was whole
    count = min(len(result.saliency) for result in results.values())
    evidence, owner = pick(evidence, range(count)), owner[:count]
    drop = how.method.relu if how.relu is None else how.relu
    sizes: Any = [samples.sizes[i] for i in owner]
    sizes = sizes[0] if len(set(sizes)) == 1 else sizes
    spread = [samples.boxes[i] for i in owner]
    layers, maps, reasons = {}, [], []
    for name, part in evidence.layers.items():
        raw = results[name].saliency[:count]
        shown, above = (_risen(raw), True) if how.method.level and how.relu is None and how.normalize else (raw, drop)
        drawn, why = saliency_map(_over(shown, sizes), relu=above, size=sizes, box=spread, normalize=how.normalize)
        layers[name] = LayerExplanation(part.activations, part.gradients, results[name].weights, raw)
        maps.append(drawn)
        reasons.append(why)
    read = _read(layers, count)
    if not read.all():
        notes.append(_left_out(list(layers), read))
    return evidence, {
        "layers": layers,
        "saliency_map": maps[0] if len(maps) == 1 else _fused(maps, how.fusion, read),
        "reasons": [None if None in column else column[0] for column in zip(*reasons, strict=True)],
        "notes": notes,
        "interrupted": stopped,
    }


def _over(maps: Array, sizes: Any) -> Array:
    """Return maps that a picture's size fits: a sequence lies along the width, as its letters do."""
    flat = maps.ndim == 2 and isinstance(sizes, tuple) and len(sizes) == 2
    return maps[:, None] if flat else maps


def _risen(maps: Array) -> Array:
    """Return maps above their smallest value; one that is constant stays, and its reason says what it is."""
    low = maps.min(axis=tuple(range(1, maps.ndim)), keepdims=True)
    risen: Array = np.where((maps > low).any(axis=tuple(range(1, maps.ndim)), keepdims=True), maps - low, maps)
    return risen


def _smoothed(
    how: Drawing, evidence: Evidence, samples: Samples, owner: list[int]
) -> tuple[dict[str, Result], list[str], bool]:
    if how.smooth is None or how.again is None:
        return _results(how, evidence, samples, owner)
    if how.smooth == "eigen":
        results, notes, stopped = _results(how, evidence, samples, owner)
        for name, result in results.items():
            activations = evidence.layers[name].activations[: len(result.saliency)]
            results[name] = smoothing.eigen(how.method.name, name, result, activations)
        return results, notes, stopped
    count, variants = smoothing.variants(how.smooth, samples, how.parts.contract)
    sums: dict[str, Array] = {}
    notes, done, stopped = [], 0, False
    for variant in variants:
        tell = None if how.progress is None else _part(how.progress, done, count)
        try:
            found = how.again(variant.samples, evidence, owner)
            results, said, stopped = _results(replace(how, progress=tell), found, variant.samples, owner)
        except KeyboardInterrupt:
            stopped = True
        if stopped and not done:
            raise KeyboardInterrupt
        if stopped:
            break
        done += 1
        if tell is not None:
            tell(len(owner), len(owner))
        notes += [note for note in said if note not in notes]
        for name, result in results.items():
            sums[name] = sums.get(name, 0) + variant.back(result.saliency)
    notes.append(f"smooth={how.smooth}: the mean of {done} maps" + (f", stopped before {count}" if stopped else ""))
    return {name: Result(total / done, None, ()) for name, total in sums.items()}, notes, stopped


def _part(progress: Callable[[float, int], None], before: int, count: int) -> Callable[[float, int], None]:
    return lambda done, total: progress((before * total + done) / count, total)


def _results(
    how: Drawing, evidence: Evidence, samples: Samples, owner: list[int]
) -> tuple[dict[str, Result], list[str], bool]:
    notes: list[str] = []
    if not how.method.calls:
        bent = how.guided if "guided" in how.method.needs else None
        guided = None if bent is None else bent(samples, evidence, owner)
        inside = {need: evidence.lists[need] for need in how.method.lists}
        found = {name: apply(how.method, **_arrays(how.method, part), **inside, guided=guided, **how.options)
                 for name, part in evidence.layers.items()}  # fmt: skip
        return found, list(dict.fromkeys(note for result in found.values() for note in result.notes)), False
    rows: dict[str, list[Result]] = {layer.name: [] for layer in how.parts.contract.layers}
    total = len(owner) * len(rows)
    for i, sample in enumerate(owner):
        feeds = {
            k: v[sample : sample + 1] if v.ndim and len(v) == samples.count else v for k, v in samples.feeds.items()
        }
        for j, layer in enumerate(how.parts.contract.layers):
            part = evidence.layers[layer.name].rows(slice(i, i + 1))
            tell = None if how.progress is None else _scaled(how.progress, i * len(rows) + j, len(rows), len(owner))
            target, closed = int(evidence.target[i]), _closed(layer, part, evidence.score[i])
            calls = Calls(how.parts, feeds, layer, target, how.method.anytime, tell, part.activations, closed)
            needs = _arrays(how.method, part)
            if "image" in how.method.needs and "image" not in needs:
                needs["image"] = calls.image
            needs |= {need: calls.of(need) for need in how.method.calls}
            result = apply(how.method, **needs, **how.options)
            rows[layer.name].append(result)
            if tell is not None and not calls.stopped:
                tell(1, 1)  # a closed form ran nothing
            who = f"{samples.names[sample]}: " if total > 1 else ""
            notes += [f"{who}{note}" for note in (*result.notes, calls.stopped) if note]
            if calls.stopped:
                return {name: _joined(found) for name, found in rows.items() if found}, notes, True
    return {name: _joined(found) for name, found in rows.items()}, notes, False


def _arrays(method: Method, part: LayerEvidence) -> dict[str, Any]:
    if method.at == "layer":
        return {"activations": part.activations, "gradients": part.gradients}
    given = {"image": part.activations, "image_gradients": part.gradients}
    return {need: value for need, value in given.items() if need in method.needs}


def _closed(layer: Layer, part: LayerEvidence, score: Any) -> tuple[float, Array] | None:
    """Return y, and y - y with A_k = 0 for every channel, where the head is pooling and one linear layer."""
    if layer.head == "other" or part.gradients is None:
        return None
    products = part.gradients[0] * part.activations[0]
    found: Array = products.sum(axis=tuple(range(1, products.ndim)), dtype=np.float64)
    return float(score), found


def _scaled(
    progress: Callable[[float, int], None], before: int, layers: int, samples: int
) -> Callable[[int, int], None]:
    return lambda done, count: progress((before + done / max(count, 1)) / layers, samples)


def _joined(results: list[Result]) -> Result:
    weights = [result.weights for result in results if result.weights is not None]
    return Result(
        np.concatenate([result.saliency for result in results]),
        np.concatenate(weights) if len(weights) == len(results) else None,
        (),
    )


def _read(layers: Mapping[str, LayerExplanation], count: int) -> NDArray[np.bool_]:
    """Return for every layer and entry whether its score depends on the layer; all of them, where it does on none.

    A box of a detector is read from one level of its pyramid: the others say nothing of it, not even that it is not
    there.
    """
    read = np.array([[one.gradients is None or bool(np.any(one.gradients[i])) for i in range(count)]
                     for one in layers.values()])  # fmt: skip
    everything: NDArray[np.bool_] = read | ~read.any(axis=0, keepdims=True)
    return everything


def _left_out(names: list[str], read: NDArray[np.bool_]) -> str:
    left = ", ".join(name for name, row in zip(names, read, strict=True) if not row.all())
    return f"the score reads nothing of {left}: the fused map is that of the other layers"


def _fused(maps: list[Any], how: str, read: NDArray[np.bool_]) -> Any:
    fused = [fuse([one[i] for one, row in zip(maps, read, strict=True) if row[i]], how) for i in range(len(maps[0]))]
    return fused if isinstance(maps[0], list) else np.stack(fused) if fused else maps[0]
