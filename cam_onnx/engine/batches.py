"""Many samples through a model in runs that it takes: its fixed batch, or chunks that keep memory bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from cam_onnx.contract import Contract
from cam_onnx.engine import Array, Engine
from cam_onnx.engine.evidence import Evidence, LayerEvidence, gather

__all__ = ["chunks", "join", "pick", "run"]

LARGEST = 16  # samples a run, where the model leaves it open


def run(engine: Engine, contract: Contract, feeds: Mapping[str, Array], targets: Sequence[int]) -> Evidence:
    """Return the evidence of N samples, one target each.

    Raises
    ------
    InputError, ContractError, RunFailed
        See `cam_onnx.engine.evidence.gather`.
    """
    found, at = [], 0
    for part, count in chunks(engine, feeds, len(targets), contract.roles["target"]):
        size = max(count, _fixed(engine, part, contract.roles["target"]) or 0)
        padded = [*targets[at : at + count], *[targets[at]] * (size - count)]
        found.append(pick(gather(engine, contract, part, padded), range(count)))
        at += count
    return join(found)


def chunks(
    engine: Engine, feeds: Mapping[str, Array], samples: int, target: str = ""
) -> Iterator[tuple[dict[str, Array], int]]:
    """Yield feeds of as many samples as one run takes, and how many of them count.

    A fixed batch that is not full is filled up with its last sample.
    """
    fixed = _fixed(engine, feeds, target)
    step = fixed or LARGEST
    if samples <= step and fixed in (None, samples):
        yield dict(feeds), samples
        return
    for start in range(0, samples, step):
        rows = np.minimum(np.arange(start, start + (fixed or min(step, samples - start))), samples - 1)
        part = {name: v[rows] if v.ndim and len(v) == samples else v for name, v in feeds.items()}
        yield part, min(step, samples - start)


def _fixed(engine: Engine, feeds: Mapping[str, Array], target: str) -> int | None:
    """Return the batch that the model fixes, if it does."""
    for tensor in engine.inputs:
        if tensor.name in feeds and tensor.name != target and tensor.shape:
            return tensor.shape[0] if isinstance(tensor.shape[0], int) else None
    return None


def join(parts: Sequence[Evidence]) -> Evidence:
    """Concatenate evidence along the samples."""
    if len(parts) == 1:
        return parts[0]
    layers = {
        name: LayerEvidence(
            np.concatenate([part.layers[name].activations for part in parts]),
            np.concatenate([part.layers[name].gradients for part in parts]),
        )
        for name in parts[0].layers
    }
    arrays = {f.name: _stacked(parts, f.name) for f in fields(Evidence) if f.name != "layers"}
    return Evidence(layers=layers, **arrays)


def _stacked(parts: Sequence[Evidence], name: str) -> Any:
    return np.concatenate([getattr(part, name) for part in parts])


def pick(evidence: Evidence, samples: Sequence[int]) -> Evidence:
    """Return the evidence of some samples, in that order."""
    rows = list(samples)
    if rows == list(range(len(evidence.target))):
        return evidence
    return replace(
        evidence,
        logits=evidence.logits[rows],
        target=evidence.target[rows],
        score=evidence.score[rows],
        layers={n: LayerEvidence(v.activations[rows], v.gradients[rows]) for n, v in evidence.layers.items()},
    )
