"""Many samples through a model in runs that it takes: its fixed batch, or chunks that keep memory bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Protocol

import numpy as np

from cam_onnx.contract import Contract
from cam_onnx.engine import Array, Engine, check_feeds
from cam_onnx.engine.evidence import Evidence, LayerEvidence, gather
from cam_onnx.engine.layout import picture_size

__all__ = ["Cut", "chunks", "join", "pick", "run", "run_head"]

LARGEST = 16  # samples a run, where the model leaves it open

Progress = Callable[[int, int], None]  # called after every run with the samples that are done, and all


class Cut(Protocol):
    """What is needed of a model that is cut at its target layers (`cam_onnx.graph.head.Head`)."""

    @property
    def crossing(self) -> tuple[str, ...]:
        """Names of the values that cross the cut."""

    @property
    def repeats(self) -> bool:
        """Whether they may be repeated along the batch."""

    @property
    def contract(self) -> Contract:
        """Of the head."""


def run(
    engine: Engine,
    contract: Contract,
    feeds: Mapping[str, Array],
    targets: Sequence[int],
    progress: Progress | None = None,
    size: Sequence[int] | None = None,
) -> Evidence:
    """Return the evidence of N samples, one target each; `size` as for `gather`.

    Raises
    ------
    InputError, ContractError, RunFailed
        See `cam_onnx.engine.evidence.gather`.
    """
    found, at = [], 0
    fixed = _fixed(engine, feeds, len(targets), contract.roles["target"])
    for part, count in chunks(engine, feeds, len(targets), contract.roles["target"]):
        full = max(count, fixed or 0)
        padded = [*targets[at : at + count], *[targets[at]] * (full - count)]
        found.append(pick(gather(engine, contract, part, padded, size), range(count)))
        at += count
        if progress is not None:
            progress(at, len(targets))
    return join(found)


def chunks(
    engine: Engine, feeds: Mapping[str, Array], samples: int, target: str = ""
) -> Iterator[tuple[dict[str, Array], int]]:
    """Yield feeds of as many samples as one run takes, and how many of them count.

    A fixed batch that is not full is filled up with its last sample.
    """
    fixed = _fixed(engine, feeds, samples, target)
    step = fixed or LARGEST
    if samples <= step and fixed in (None, samples):
        yield dict(feeds), samples
        return
    for start in range(0, samples, step):
        rows = np.minimum(np.arange(start, start + (fixed or min(step, samples - start))), samples - 1)
        part = {name: v[rows] if v.ndim and len(v) == samples else v for name, v in feeds.items()}
        yield part, min(step, samples - start)


def _fixed(engine: Engine, feeds: Mapping[str, Array], samples: int, target: str) -> int | None:
    """Return the batch that the model fixes, if it does; an input that is no list of samples says nothing of it."""
    for tensor in engine.inputs:
        given = feeds.get(tensor.name)
        if given is not None and given.shape[:1] == (samples,) and tensor.name != target and tensor.shape:
            return tensor.shape[0] if isinstance(tensor.shape[0], int) else None
    return None


def join(parts: Sequence[Evidence]) -> Evidence:
    """Concatenate evidence along the samples."""
    if len(parts) == 1:
        return parts[0]
    layers = {
        name: LayerEvidence(
            np.concatenate([part.layers[name].activations for part in parts]),
            None
            if parts[0].layers[name].gradients is None
            else np.concatenate(
                [gradients for part in parts if (gradients := part.layers[name].gradients) is not None]
            ),
        )
        for name in parts[0].layers
    }
    arrays = {f.name: _stacked(parts, f.name) for f in fields(Evidence) if f.name not in ("layers", "lists")}
    lists = {
        need: [np.concatenate(each) for each in zip(*(part.lists[need] for part in parts), strict=True)]
        for need in parts[0].lists
    }
    return Evidence(layers=layers, lists=lists, **arrays)


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
        layers={name: layer.rows(rows) for name, layer in evidence.layers.items()},
        lists={need: [value[rows] for value in values] for need, values in evidence.lists.items()},
        boxes=evidence.boxes[rows],
    )


def run_head(
    trunk: Engine,
    head: Engine,
    cut: Cut,
    feeds: Mapping[str, Array],
    wanted: Sequence[Sequence[int]],
    progress: Progress | None = None,
) -> Evidence:
    """Return the evidence of several targets per sample: one pass of the trunk, and the head once per target.

    Where the values that cross the cut have the batch axis they are repeated along it; else (a fixed batch) the
    head runs once for every first target, once for every second one, and so on.
    """
    parts = [
        (trunk.run(check_feeds(trunk, part), cut.crossing), count) for part, count in chunks(trunk, feeds, len(wanted))
    ]
    of_picture = picture_size(cut.contract, feeds)
    if cut.repeats:
        owner = [i for i, group in enumerate(wanted) for _ in group]
        crossing = {name: np.concatenate([part[name][:count] for part, count in parts])[owner] for name in cut.crossing}
        return run(head, cut.contract, crossing, [target for group in wanted for target in group], progress, of_picture)
    runs = []
    total = sum(map(len, wanted))
    for k in range(max(map(len, wanted))):
        column, found = [group[min(k, len(group) - 1)] for group in wanted], []
        for part, count in parts:
            mine, column = column[:count], column[count:]
            size = 1 if cut.contract.single else len(part[cut.crossing[0]])
            evidence = gather(head, cut.contract, part, mine + mine[-1:] * (size - count), of_picture, cut.crossing)
            found.append(pick(evidence, range(count)))
        runs.append(join(found))
        if progress is not None:
            progress(sum(min(k + 1, len(group)) for group in wanted), total)
    return join([pick(runs[k], [i]) for i, group in enumerate(wanted) for k in range(len(group))])
