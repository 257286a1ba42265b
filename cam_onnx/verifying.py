"""Is the gradient in the converted file right, on this machine, for this input? And are the outputs still the model's?

The rules are tested one by one elsewhere; here the whole file is on trial, as it is and as this runtime runs it. The
gradients that one run of the converted file gives are compared with differences of the score: the part of the model
behind the layer is cut out without any gradient and run on the exposed activations plus steps. Both files are run side
by side on the same input as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cam_onnx.beside import CLAUSES, Compared, compare
from cam_onnx.contract import Contract, Layer
from cam_onnx.differences import INCONCLUSIVE, WRONG, Finding, examine
from cam_onnx.engine import Array, Engine, Tensor, batches, check_feeds, natural
from cam_onnx.engine.samples import Samples, given
from cam_onnx.errors import ContractError, InputError, shown
from cam_onnx.limits import Limits
from cam_onnx.verification import GradientCheck, Verification

__all__ = ["Subject", "prepare", "verify"]

Open = Callable[[bytes], Engine]
Progress = Callable[[int, int], None]

SEEDED = "seeded input"
STAIRCASE = (
    "a staircase: behind this layer the quantised model rounds to integers, and its steps are not what the gradient "
    "says; verify the float model that it was made of"
)
ANOTHER = 0.01  # difference of two scores, in parts of their size: it is not one function


@dataclass(frozen=True)
class Subject:
    """The converted model, and how an engine is opened on it and on its parts."""

    data: bytes
    folder: str | None
    contract: Contract
    open: Open


def prepare(
    images: Any,
    inputs: Mapping[str, Any] | None,
    contract: Contract,
    tensors: Sequence[Tensor],
    limits: Limits,
) -> list[Samples]:
    """Return what is verified as samples of one each, with noise on what the picture's input gets.

    Raises
    ------
    InputError
        Both are given, or neither and the model's input is not of a kind that one can be made up for.
    """
    name = contract.roles.get("image", "")
    if isinstance(images, (list, tuple)) and images and inputs is None:
        # one by one: their sizes may differ
        each = [given(image, None, contract, tensors, limits) for image in images]
        found = [_pick(whole, i) for whole in each for i in range(whole.count)]
    elif images is not None or inputs is not None:
        whole = given(images, inputs, contract, tensors, limits)
        found = [_pick(whole, i) for i in range(whole.count)]
    elif contract.preprocess is not None:
        drawn = given(natural.picture(contract.preprocess), None, contract, tensors, limits)
        found = [replace(drawn, names=[SEEDED])]
    else:
        tensor = next((t for t in tensors if t.name == name), None)
        if tensor is None:
            raise InputError(
                "no input can be made up for this model: give its tensors (inputs=, --input NAME=FILE.npy)"
            )
        found = [Samples({name: natural.tensor(tensor)}, 1, [SEEDED], [None], [None], [None])]
    return [
        replace(one, feeds={n: natural.noisy(v) if n == name else v for n, v in one.feeds.items()}) for one in found
    ]


def _pick(whole: Samples, i: int) -> Samples:
    if whole.count == 1:
        return whole
    feeds = {n: v[i : i + 1] if v.ndim and len(v) == whole.count else v for n, v in whole.feeds.items()}
    return Samples(feeds, 1, [whole.names[i]], [None], [None], [None])


def verify(
    subject: Subject,
    samples: Sequence[Samples],
    wanted: Sequence[Sequence[int]],
    exact: bool = False,
    progress: Progress | None = None,
    notes: Sequence[str] = (),
) -> Verification:
    """Verify a converted model; see `Explainer.verify`.

    Parameters
    ----------
    subject : Subject
    samples : sequence of Samples
        One sample each.
    wanted : sequence of sequences of int
        Targets of each sample.
    exact : bool
    progress : callable, optional
        Called as ``progress(done, total)`` after every check of a gradient.
    notes : sequence of str
        Of the Explainer.

    Raises
    ------
    LayerNotFound
        The model does not have what its contract names.
    InputError, RunFailed
    """
    contract, converted = subject.contract, subject.open(subject.data)
    names = contract.names()
    if absent := [name for name in names if name not in {output.name for output in converted.outputs}]:
        raise ContractError(
            f"the contract names an output {shown(absent[0])!r} that the model lacks: convert the original again"
        )
    runs = [
        _run(converted, contract, one, target)
        for one, targets in zip(samples, wanted, strict=True)
        for target in targets
    ]
    compared, said = _side_by_side(subject, runs)
    checks: dict[tuple[int, int], GradientCheck] = {}
    for at, layer in enumerate(contract.layers):
        for i, check in enumerate(_layer(subject, layer, runs)):
            checks[i, at] = check
            if progress is not None:
                progress(len(checks), len(runs) * len(contract.layers))
    if contract.raised:
        changes = " and ".join(f"{what} {old} to {new}" for what, (old, new) in sorted(contract.raised.items()))
        said.append(f"the file had to be raised ({changes.replace('_', ' ')}): compared with its raised form")
    if converted.provider.startswith("CUDA"):
        said.append("TensorFloat-32 is off in this check; where it is on, as by default, CUDA rounds to 10 bits")
    return Verification(
        gradients=tuple(checks[key] for key in sorted(checks)),
        outputs="not compared" if compared is None else compared.clause,
        output="" if compared is None else compared.output,
        difference=0.0 if compared is None else compared.difference,
        exact=exact,
        provider=converted.provider,
        notes=(*notes, *said),
    )


@dataclass(frozen=True)
class _Run:
    """A sample and what the converted file said of it: `feeds` without the target, `found` by output."""

    name: str
    feeds: dict[str, Array]
    found: dict[str, Array]


def _run(engine: Engine, contract: Contract, one: Samples, target: int) -> _Run:
    role = contract.roles["target"]
    [(feeds, _)] = batches.chunks(engine, one.feeds, 1, role)  # a fixed batch is filled up with the one sample
    fed = check_feeds(engine, {**feeds, role: np.array([target], np.int64)})
    return _Run(one.names[0], {name: value for name, value in fed.items() if name != role}, engine.run(fed))


def _side_by_side(subject: Subject, runs: Sequence[_Run]) -> tuple[Compared | None, list[str]]:
    from cam_onnx.graph.plain import plain

    try:
        known = plain(subject.data, subject.contract)
    except ContractError as error:
        return None, [f"the plain file is not known: {error}"]
    engine, weakest = subject.open(known.model), Compared()
    notes: list[str] = []
    for run in runs:
        theirs = engine.run(run.feeds)
        compared = compare(theirs, run.found, known)
        weakest = max(weakest, compared, key=lambda c: (CLAUSES.index(c.clause), c.difference))
        if compared.output and not notes and (again := compare(theirs, engine.run(run.feeds), known)).output:
            notes.append(
                f"{engine.provider} does not repeat itself: two runs of the plain file differ ({again.output!r} by "
                f"{again.difference:.1e} of its largest entry)"
            )
    return weakest, notes


def _layer(subject: Subject, layer: Layer, runs: Sequence[_Run]) -> Iterator[GradientCheck]:
    """Check one layer's gradient, run after run. Its sessions are gone before the next layer's are made."""
    from cam_onnx.graph.parts import halves
    from cam_onnx.graph.plain import is_quantised

    cut = halves(subject.data, subject.folder, subject.contract, layer)
    head = subject.open(cut.head.SerializeToString())
    at, inner = cut.crossing[0], [name for name in cut.crossing[1:] if name not in runs[0].feeds]
    trunk = subject.open(cut.trunk.SerializeToString()) if inner else None
    staircase = is_quantised(cut.head)
    for run in runs:
        crossing = dict(run.feeds)
        if trunk is not None:
            crossing |= trunk.run(check_feeds(trunk, run.feeds), inner)
        finding = _check(head, at, subject.contract, layer, crossing, run)
        if staircase and finding.verdict == WRONG and not math.isnan(finding.error):
            finding = replace(finding, verdict=INCONCLUSIVE, text=STAIRCASE)
        yield GradientCheck(
            layer=layer.name,
            sample=run.name,
            target=int(run.found[subject.contract.roles["class"]].reshape(-1)[0]),
            verdict=finding.verdict,
            error=finding.error,
            runs=finding.runs,
            text=finding.text,
        )


def _check(
    head: Engine, at: str, contract: Contract, layer: Layer, crossing: Mapping[str, Array], run: _Run
) -> Finding:
    """Compare the gradient with differences of the head's score, which is fed the layer's value as `at`."""
    found, roles = run.found, contract.roles
    classes = found[roles["class"]].reshape(-1)
    fed, gives = ({tensor.name for tensor in tensors} for tensors in (head.inputs, head.outputs))
    given = {name: value for name, value in {**crossing, roles["target"]: classes}.items() if name in fed}

    def values(point: Array, name: str) -> Array:
        [value] = head.run({**given, at: np.ascontiguousarray(point)}, [name]).values()
        return np.asarray(value, np.float64)

    def score(point: Array) -> float:
        # of all samples: what a fixed batch is filled up with counts as well, in the gradient too
        return float(values(point, roles["score"]).sum())

    point, said = found[layer.activations], float(found[roles["score"]].astype(np.float64).sum())
    size = float(np.abs(values(point, roles["score"])).sum())
    if contract.score in gives:  # a score near 0 is judged by how far the others lie
        logits = values(point, contract.score)
        samples = logits.reshape(1, -1) if contract.single else np.moveaxis(logits, contract.batch_axis, 0).reshape(
            logits.shape[contract.batch_axis], -1
        )  # fmt: skip
        size = max(size, float(samples.std(axis=1).sum()))
    if abs(score(point) - said) > ANOTHER * size:
        return Finding(
            INCONCLUSIVE,
            text=f"the part behind the layer, run alone, gives the score {score(point):.6g} where the file gives "
            f"{said:.6g}: it is random, or its runtime rounds it that much",
        )
    kind = found[roles["logits"]].dtype
    precision = float(np.finfo(kind).eps) / 2 if kind.kind == "f" else 2.0**-8  # bfloat16
    image = layer.name in run.feeds
    return examine(score, point, found[layer.gradients], layer.axes, size, image=image, precision=precision)
