"""What becomes of a case: its gradient against central differences of the same engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from cam_onnx import autodiff
from cam_onnx.autodiff import spelling
from cam_onnx.autodiff.mark import mark
from cam_onnx.autodiff.model import Model, load
from cam_onnx.autodiff.path import Path
from cam_onnx.autodiff.table import RULES
from cam_onnx.errors import CamOnnxError
from tools.conformance.cases import constants, loaded
from tools.conformance.engines import COMPLEX, ENGINES, FLOATS, Engine, Trial, trials

__all__ = ["Verdict", "judge"]

RANDOM = {"Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial"}
OPEN = ("known at run time only", "shape inference did not find")
# the last is exact for what is linear
STEPS = {"float64": (1e-5, 1e-4, 1e-7, 1e-2, 1.0), "float32": (1e-2, 3e-3, 3e-2, 3e-4, 1.0), "half": (0.25, 1.0)}
ROUGH = ", which changes with the step"  # there is a kink, or less precision inside than outside
SLOW = 4096  # elements: the reference evaluator then has one direction and two steps


@dataclass
class Verdict:
    """What became of a case: a bucket, and in words why."""

    bucket: str
    why: str = ""
    engine: str = ""
    engines: dict[str, str] = field(default_factory=dict)  # what each engine and precision that was tried says
    through: list[str] = field(default_factory=list)  # operators that the derivative passes, with their versions


def judge(case: Any) -> Verdict:
    """Return what becomes of one case."""
    model, feeds, expected = loaded(case)
    operators = {node.op_type for node in model.graph.node}
    kinds = {i.name: i.type.tensor_type.elem_type for i in model.graph.input}
    floats = [
        n for n, v in feeds.items() if kinds.get(n) in FLOATS and isinstance(v, np.ndarray) and v.dtype.kind in "fV"
    ]
    targets = [o.name for o in model.graph.output if o.type.tensor_type.elem_type in FLOATS]
    if not floats or not targets:
        names = [i.type.WhichOneof("value") for i in model.graph.input]
        odd = any(n != "tensor_type" for n in names) or any(
            k in COMPLEX or k > TensorProto.BFLOAT16 for k in kinds.values()
        )
        return Verdict("type" if odd else "input")
    if operators & RANDOM or (operators == {"Dropout"} and "training" in case.name):
        return Verdict("random")
    differentiable, refused = wanted(model, floats, targets)
    if any(text in refused for text in OPEN):  # axes as inputs: as the constants that exporters write
        model, feeds = constants(model, feeds)
        differentiable, refused = wanted(model, floats, targets)
    if "is below 7" in refused:
        return Verdict("old")
    if refused:
        runs = any(True for _ in trials(model, feeds, expected))
        return Verdict("refused" if runs else "forward", refused)
    if not differentiable:
        return Verdict("input")
    decided, said = Verdict("forward"), dict[str, str]()
    for trial in trials(model, feeds, expected):
        trial.wrt, trial.of = differentiable, targets
        try:
            found = compare(trial)
        except Exception as error:  # noqa: BLE001
            text = str(error).strip().splitlines() or [""]
            found = Verdict("refused", f"gradient does not run: {type(error).__name__}: {text[-1][:300]}", trial.said)
        said[trial.said] = found.bucket
        if not trial.given:  # ONNX Runtime, where its outputs are not those of the case: the rules follow it
            if found.bucket in ("agree", "zero", "kink"):
                decided = Verdict("other", f"{decided.engine}: {decided.why}", trial.said)
            continue
        # what runs decides, float64 first: but GroupNormalization of float64 computes in float32 (stash_type)
        if decided.bucket in ("forward", "refused") or (decided.bucket == "disagree" and ROUGH in decided.why):
            decided = found
        if decided.bucket in ("agree", "zero", "kink"):
            break
    decided.engines = said
    decided.through = through(model, differentiable, targets)
    return decided


def through(model: onnx.ModelProto, wrt: list[str], of: list[str]) -> list[str]:
    """Return the operators between `wrt` and `of`, with their versions: ``Conv-11``."""
    found = load(model)
    opset = found.opset

    def marked(given: Model) -> Path:
        sources, targets = ([given.values[name] for name in names] for names in (wrt, of))
        return mark(given.graph, sources, targets, given.opset, RULES)

    try:
        path = marked(found)
    except Exception:  # noqa: BLE001  (what only a raised model has)
        path = marked(found.raise_to(spelling.LOWEST))
    names = {node.op_type for node in (n.meta.get("outermost", n) for n in path.nodes) if not node.domain}
    schemas = {name: spelling.schema(name, opset) for name in names}
    return sorted(f"{name}-{schema.since_version}" for name, schema in schemas.items() if schema is not None)


def wanted(model: onnx.ModelProto, floats: list[str], targets: list[str]) -> tuple[list[str], str]:
    """Return the inputs that have a derivative, and why the gradient is refused if it is."""
    try:
        autodiff.gradient(model, floats, targets)
        return floats, ""
    except CamOnnxError as error:
        every = str(error)
    except Exception as error:  # noqa: BLE001  (a fault of ours: named as one, and the others go on)
        return [], f"raises {type(error).__name__}: {error}"
    kept = []
    for name in floats:
        try:
            autodiff.gradient(model, [name], targets)
        except CamOnnxError as error:
            if "has no derivative)" not in str(error):
                return [], str(error)
        else:
            kept.append(name)
    return kept, "" if kept or "has no derivative)" in every else every


def compare(trial: Trial) -> Verdict:
    """Compare the gradient with differences along random directions."""
    model = autodiff.gradient(trial.model, trial.wrt, trial.of)
    added = model.graph.node[len(trial.model.graph.node) :]
    said = b"".join(node.SerializeToString() for node in added)  # subgraphs too
    if not any(f"cotangent/{name}".encode() in said for name in trial.of):
        return Verdict("zero", engine=trial.said)
    run = ENGINES[trial.engine](model)
    found = differences(trial, run, trial.feeds)
    if not found:
        return Verdict("agree", engine=trial.said)
    rng = np.random.default_rng(7)
    for size in (1e-2, 1e-1):  # a kink is where something is not smooth: beside it, it is
        beside = {**trial.feeds}
        for name in trial.wrt:
            x = np.asarray(trial.feeds[name])
            beside[name] = np.asarray(x + size * rng.uniform(0.3, 1.0, x.shape) * rng.choice([-1, 1], x.shape)).astype(
                x.dtype
            )
        try:
            if not differences(trial, run, beside):
                return Verdict("kink", found, trial.said)
        except Exception:  # noqa: BLE001
            continue
    return Verdict("disagree", found, trial.said)


def differences(trial: Trial, run: Engine, feeds: dict[str, Any]) -> str:
    """Return "" where every input's gradient is the difference, else both in words."""
    rng = np.random.default_rng(0)
    names = [o.name for o in trial.model.graph.output]

    def floats(found: list[Any]) -> dict[str, np.ndarray]:
        return {n: np.asarray(v).astype(np.float64) for n, v in zip(names, found, strict=True) if n in trial.of}

    slow = trial.engine == "reference" and sum(np.size(feeds[n]) for n in trial.wrt) > SLOW
    plain = floats(trial.forward(feeds))
    # infinity has no difference: what is infinite is neither moved nor asked for
    cotangents = {n: np.where(np.isfinite(v), rng.standard_normal(v.shape), 0.0) for n, v in plain.items()}
    typed = {
        f"cotangent/{n}": g.astype(np.float64 if _is_double(trial.model, n) else np.float32)
        for n, g in cotangents.items()
    }
    grads = run({**feeds, **typed})[len(names) :]

    def score(changed: dict[str, Any]) -> float:
        found = floats(trial.forward({**feeds, **changed}))
        if any(found[n].shape != g.shape for n, g in cotangents.items()):
            return float("nan")  # a size that follows the values: a kink
        return sum(float(np.vdot(g, np.where(np.isfinite(found[n]), found[n], 0))) for n, g in cotangents.items())

    for name, grad in zip(trial.wrt, grads, strict=True):
        x, grad = np.asarray(feeds[name]), np.asarray(grad).astype(np.float64)
        if grad.shape != x.shape:
            return f"{name}: shape {grad.shape} for {x.shape}"
        if x.size == 0:
            continue
        if not np.isfinite(grad).all():
            return f"{name}: not finite"
        half = x.dtype.itemsize < 4
        steps = STEPS["half" if half else x.dtype.name][: 2 if slow else None]
        tol = 1e-5 if x.dtype == np.float64 else 2e-2 if half else 2e-3
        missed, seen = [], dict[tuple[float, int], float]()
        for step in steps:
            missed.append("")
            for seed in range(1 if slow else 3):
                v = np.random.default_rng(seed).standard_normal(x.shape)
                ahead, behind = (np.asarray(x + sign * step * v).astype(x.dtype) for sign in (1, -1))
                moved = np.array((ahead.astype(np.float64) - behind.astype(np.float64)) / (2 * step))
                moved[~np.isfinite(moved)] = 0.0
                theirs = (score({name: ahead}) - score({name: behind})) / (2 * step)
                seen[step, seed] = theirs
                ours = float(np.vdot(grad, moved))
                if not abs(ours - theirs) <= tol * (abs(theirs) + float(np.linalg.norm(grad * moved)) + 1e-2):
                    missed[-1] = f"{name}: gradient {ours:.6g}, difference {theirs:.6g}"
                    break
            if not missed[-1]:
                break
        else:
            fine, coarse = (seen[step, 0] for step in steps[:2])
            steady = abs(fine - coarse) <= tol * (abs(fine) + 1e-2)
            return missed[0] + ("" if steady else ROUGH)
    return ""


def _is_double(model: onnx.ModelProto, name: str) -> bool:
    return any(o.name == name and o.type.tensor_type.elem_type == TensorProto.DOUBLE for o in model.graph.output)
