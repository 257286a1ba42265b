"""Every case of onnx's own backend test data against finite differences: what the rules are worth, by data of others.

    python -m tools.conformance                 all cases, resumed where it was left; says what would change
    python -m tools.conformance --write         write docs/conformance.md and docs/conformance.json
    python -m tools.conformance --only Resize   the cases whose name holds a word, in full

A case is a model with its inputs and the outputs that it must have. Its gradient is built by `autodiff.gradient`
with respect to every floating-point input, with a random cotangent for every floating-point output. It runs in ONNX
Runtime where that gives the outputs of the case, else in the reference evaluator, in float64 where either has the
kernels. It must agree with central differences of the same engine along random directions. A step of 1 is tried
too: it is exact for what is linear. Where it does not agree, and does so at a point a little beside, the case sits
on a kink.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.loader
from onnx import TensorProto, numpy_helper

from cam_onnx import autodiff, files
from cam_onnx.errors import CamOnnxError

ROOT = Path(__file__).parent.parent
PAGE, DATA = ROOT / "docs" / "conformance.md", ROOT / "docs" / "conformance.json"
DONE = ROOT / "build" / "conformance.jsonl"
KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
NARROW = FLOATS - {TensorProto.DOUBLE}
COMPLEX = {TensorProto.COMPLEX64, TensorProto.COMPLEX128}
RANDOM = {"Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial"}
BUCKETS = {  # what becomes of a case: in the table's head
    "agree": "agrees with finite differences",
    "zero": "zero by definition",
    "input": "no differentiable input",
    "type": "input type has no derivative",
    "forward": "forward runs in neither engine",
    "random": "random output",
    "kink": "sits on a kink",
    "refused": "refused",
    "disagree": "disagrees",
}
Engine = Callable[[dict[str, np.ndarray]], list[Any]]


@dataclass
class Verdict:
    """What became of a case: a bucket, and in words why."""

    bucket: str
    why: str = ""
    engine: str = ""


@dataclass
class Trial:
    """A case at one precision in one engine."""

    model: onnx.ModelProto
    feeds: dict[str, Any]
    engine: str
    double: bool
    forward: Engine
    wrt: list[str] = field(default_factory=list)
    of: list[str] = field(default_factory=list)


def cases() -> Iterator[Any]:
    """Iterate over onnx's cases of ai.onnx."""
    for kind in KINDS:
        for case in onnx.backend.test.loader.load_model_tests(kind=kind):
            if case.model is None or any(node.domain in ("", "ai.onnx") for node in case.model.graph.node):
                yield case


def loaded(case: Any) -> tuple[onnx.ModelProto, dict[str, Any], list[Any]]:
    """Return model, inputs by name and expected outputs."""
    if case.model is not None:
        model, (inputs, outputs) = case.model, case.data_sets[0]
    else:
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        inputs, outputs = (_read(folder / "test_data_set_0", kind, model) for kind in ("input", "output"))
    weights = {t.name for t in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in weights or len(inputs) == len(model.graph.input)]
    return model, dict(zip(names, inputs, strict=False)), list(outputs)


def _read(folder: Path, kind: str, model: onnx.ModelProto) -> list[Any]:
    infos = getattr(model.graph, kind)
    found: list[Any] = []
    for i in range(len(list(folder.glob(f"{kind}_*.pb")))):
        data = (folder / f"{kind}_{i}.pb").read_bytes()
        which = infos[i].type.WhichOneof("value") if i < len(infos) else "tensor_type"
        if which == "sequence_type":
            found.append(numpy_helper.to_list(onnx.SequenceProto.FromString(data)))
        elif which == "optional_type":
            found.append(numpy_helper.to_optional(onnx.OptionalProto.FromString(data)))
        else:
            found.append(numpy_helper.to_array(onnx.TensorProto.FromString(data)))
    return found


def runtime(model: onnx.ModelProto) -> Engine:
    """Return a session of ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.use_deterministic_compute = True
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = {i.name for i in session.get_inputs()}
    return lambda feeds: session.run(None, {k: v for k, v in feeds.items() if k in names})


def reference(model: onnx.ModelProto) -> Engine:
    """Return onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model)
    return lambda feeds: list(evaluator.run(None, feeds))


ENGINES = {"ONNX Runtime": runtime, "reference": reference}


def doubled(model: onnx.ModelProto, feeds: dict[str, Any]) -> tuple[onnx.ModelProto, dict[str, Any]] | None:
    """Return the model with float64 for its floating-point types, if the types then still fit one another."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    fixed = _fixed(model)
    for info in (*copy.graph.input, *copy.graph.output, *copy.graph.value_info):
        if info.type.tensor_type.elem_type in NARROW and info.name not in fixed:
            info.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in copy.graph.initializer:
        if tensor.data_type in NARROW and tensor.name not in fixed:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for node in copy.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype") and attribute.i in NARROW:
                attribute.i = TensorProto.DOUBLE
            elif attribute.HasField("t") and attribute.t.data_type in NARROW:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float64)))
    try:
        onnx.shape_inference.infer_shapes(copy, check_type=True, strict_mode=True)
    except Exception:  # noqa: BLE001  (onnx raises what it likes)
        return None
    wide = {
        k: v.astype(np.float64)
        if isinstance(v, np.ndarray) and v.dtype.name in ("float32", "float16", "bfloat16") and k not in fixed
        else v
        for k, v in feeds.items()
    }
    return copy, wide


def _fixed(model: onnx.ModelProto) -> set[str]:
    """Return the values of a one-node model whose type does not follow the first output's (scales, statistics)."""
    if len(model.graph.node) != 1:
        return set()
    node, opset = model.graph.node[0], next((o.version for o in model.opset_import if not o.domain), 1)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return set()
    if not schema.outputs:
        return set()
    wide = {c.type_param_str for c in schema.type_constraints if "tensor(double)" in c.allowed_type_strs}
    both = [(node.input, schema.inputs), (node.output, schema.outputs)]
    return {
        name for names, formal in both for i, name in enumerate(names)
        if formal and formal[min(i, len(formal) - 1)].type_str not in wide
    }  # fmt: skip


def same(ours: list[Any], theirs: list[Any]) -> bool:
    """Whether an engine's outputs are the case's."""
    for a, b in zip(ours, theirs, strict=False):
        if isinstance(b, np.ndarray) and b.dtype.kind in "fiub":
            a, b = np.asarray(a, np.float64), b.astype(np.float64)
            if a.shape != b.shape or not np.allclose(a, b, rtol=2e-2, atol=2e-3, equal_nan=True):
                return False
    return True


def trials(model: onnx.ModelProto, feeds: dict[str, Any], expected: list[Any]) -> Iterator[Trial]:
    """Iterate over what runs a case forwards and gives its outputs, best first."""
    wide = doubled(model, feeds)
    for engine, build in ENGINES.items():
        for double in (True, False):
            if double and wide is None:
                continue
            used = wide if double and wide is not None else (model, feeds)
            try:
                run = build(used[0])
                found = run(used[1])
            except Exception:  # noqa: BLE001
                continue
            if same(found, expected):
                yield Trial(*used, engine, double, run)


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
    if "known at run time only" in refused:  # axes as inputs: as the constants that exporters write
        model, feeds = constants(model, feeds)
        differentiable, refused = wanted(model, floats, targets)
    if refused:
        return Verdict("refused", refused)
    if not differentiable:
        return Verdict("input")
    last = Verdict("forward")
    for trial in trials(model, feeds, expected):
        trial.wrt, trial.of = differentiable, targets
        try:
            last = compare(trial)
        except Exception as error:  # noqa: BLE001
            last = Verdict("forward", f"{trial.engine}: {type(error).__name__}: {str(error)[:200]}")
            continue
        if last.bucket != "disagree":
            return last
    return last


def constants(model: onnx.ModelProto, feeds: dict[str, Any]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the model with its whole-number inputs as initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    whole = {n: v for n, v in feeds.items() if isinstance(v, np.ndarray) and v.dtype.kind in "iu"}
    copy.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in whole.items())
    kept = [i for i in copy.graph.input if i.name not in whole]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    return copy, {n: v for n, v in feeds.items() if n not in whole}


def wanted(model: onnx.ModelProto, floats: list[str], targets: list[str]) -> tuple[list[str], str]:
    """Return the inputs that have a derivative, and why the gradient is refused if it is."""
    try:
        autodiff.gradient(model, floats, targets)
        return floats, ""
    except CamOnnxError as error:
        every = str(error)
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
    if not any(f"cotangent/{name}" in node.input for name in trial.of for node in added):
        return Verdict("zero", engine=trial.engine)
    run = ENGINES[trial.engine](model)
    found = differences(trial, run, trial.feeds)
    said = f"{trial.engine}, {'float64' if trial.double else 'float32'}"
    if not found:
        return Verdict("agree", engine=said)
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
                return Verdict("kink", found, said)
        except Exception:  # noqa: BLE001
            continue
    return Verdict("disagree", found, said)


def differences(trial: Trial, run: Engine, feeds: dict[str, Any]) -> str:
    """Return "" where every input's gradient is the difference, else both in words."""
    rng = np.random.default_rng(0)
    names = [o.name for o in trial.model.graph.output]

    def floats(found: list[Any]) -> dict[str, np.ndarray]:
        return {n: np.asarray(v).astype(np.float64) for n, v in zip(names, found, strict=True) if n in trial.of}

    plain = floats(trial.forward(feeds))
    cotangents = {n: np.asarray(rng.standard_normal(v.shape)) for n, v in plain.items()}
    typed = {
        f"cotangent/{n}": g.astype(np.float64 if _is_double(trial.model, n) else np.float32)
        for n, g in cotangents.items()
    }
    grads = run({**feeds, **typed})[len(names) :]

    def score(changed: dict[str, Any]) -> float:
        found = floats(trial.forward({**feeds, **changed}))
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
        steps = (1e-5, 1e-4, 1e-2, 1.0) if x.dtype == np.float64 else (0.25, 1.0) if half else (1e-2, 3e-3, 3e-2, 1.0)
        tol = 1e-5 if x.dtype == np.float64 else 2e-2 if half else 2e-3
        missed = []
        for step in steps:
            missed.append("")
            for seed in range(3):
                v = np.random.default_rng(seed).standard_normal(x.shape)
                ahead, behind = (np.asarray(x + sign * step * v).astype(x.dtype) for sign in (1, -1))
                moved = (ahead.astype(np.float64) - behind.astype(np.float64)) / (2 * step)
                theirs = (score({name: ahead}) - score({name: behind})) / (2 * step)
                ours = float(np.vdot(grad, moved))
                if not abs(ours - theirs) <= tol * (abs(theirs) + float(np.linalg.norm(grad * moved)) + 1e-2):
                    missed[-1] = f"{name}: gradient {ours:.6g}, difference {theirs:.6g}"
                    break
            if not missed[-1]:
                break
        else:
            return missed[0]
    return ""


def _is_double(model: onnx.ModelProto, name: str) -> bool:
    return any(o.name == name and o.type.tensor_type.elem_type == TensorProto.DOUBLE for o in model.graph.output)


def operator_of(case: Any) -> str:
    """Return the operator of a case, or what else it is."""
    model = case.model if case.model is not None else onnx.load(Path(case.model_dir) / "model.onnx")
    nodes = {node.op_type for node in model.graph.node if node.op_type != "Constant"}
    return nodes.pop() if len(nodes) == 1 else "(several)"


def fingerprint() -> str:
    """Return what results depend on: the rules and the installed onnx."""
    digest = hashlib.sha256(onnx.__version__.encode())
    for path in sorted((ROOT / "cam_onnx" / "autodiff").rglob("*.py")):
        digest.update(path.read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:16]


def collect(only: str | None) -> dict[str, dict[str, str]]:
    """Judge every case that is not judged yet; what ends the process is found by its name when it goes on."""
    mark = fingerprint()
    done: dict[str, dict[str, str]] = {}
    begun = ""
    if DONE.exists() and only is None:
        for line in DONE.read_text().splitlines():
            entry = json.loads(line)
            if entry.get("mark") == mark:
                begun = entry.get("begun", "")
                if "bucket" in entry:
                    done[entry["name"]] = entry
    if begun:
        done[begun] = {"name": begun, "operator": "?", "bucket": "forward", "why": "ended the process", "engine": ""}
    DONE.parent.mkdir(exist_ok=True)
    with DONE.open("a") if only is None else open("/dev/null", "w") as out:
        for number, case in enumerate(cases()):
            if case.name in done or (only is not None and only.lower() not in case.name.lower()):
                continue
            print(json.dumps({"mark": mark, "begun": case.name}), file=out, flush=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with np.errstate(all="ignore"):
                    verdict = judge(case)
            entry = {"name": case.name, "operator": operator_of(case), "bucket": verdict.bucket, "why": verdict.why}
            entry["engine"] = verdict.engine
            done[case.name] = entry
            print(json.dumps({"mark": mark, **entry}), file=out, flush=True)
            if only is not None or verdict.bucket in ("disagree", "refused"):
                print(f"{number:5} {case.name}: {verdict.bucket} {verdict.engine} {verdict.why}", file=sys.stderr)
    return done


def page(done: dict[str, dict[str, str]]) -> str:
    """Return docs/conformance.md."""
    total = Counter(entry["bucket"] for entry in done.values())
    by: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in done.values():
        by[entry["operator"]][entry["bucket"]] += 1
    head = list(BUCKETS)
    lines = [
        "# The rules against onnx's own test data",
        "",
        "`python -m tools.conformance --write` makes this page. It takes every case of onnx's backend test data",
        f"(onnx {onnx.__version__}; kinds {', '.join(KINDS)}), builds its gradient with",
        "`autodiff.gradient`, and compares it with central differences along random directions, in the engine that",
        "gives the outputs of the case: ONNX Runtime, else onnx's reference evaluator; in float64 where it has the",
        "kernels.",
        "",
        *(f"- **{name}**: {text}: {total[name]}" for name, text in BUCKETS.items()),
        "",
        "A case that sits on a kink (a tie, a bound, a whole number) agrees at a point a little beside. Axes that a",
        "rule must know at conversion are constants, where the case has them as inputs. `(several)` are cases of more",
        "than one operator: expanded function bodies, and small networks.",
        "",
        f"| operator | {' | '.join(head)} |",
        f"|---|{'---|' * len(head)}",
    ]
    lines += [f"| {name} | {' | '.join(str(by[name][b] or '') for b in head)} |" for name in sorted(by)]
    for bucket in ("disagree", "refused", "kink"):
        rows = [e for e in done.values() if e["bucket"] == bucket]
        if rows:
            lines += ["", f"## {BUCKETS[bucket].capitalize()}", ""]
            lines += [f"- `{e['name']}`: {_one_line(e['why'])}" for e in sorted(rows, key=lambda e: e["name"])]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    lines = text.splitlines() or [""]
    return " ".join((lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]).split())[:200]


def data(done: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Return docs/conformance.json: the names of the cases, by bucket."""
    by: dict[str, list[str]] = {bucket: [] for bucket in BUCKETS}
    for name, entry in sorted(done.items()):
        by[entry["bucket"]].append(name)
    return {"onnx": onnx.__version__, "cases": by}


def main(arguments: list[str] | None = None) -> int:
    """Collect, and write or print the totals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/conformance.md and .json")
    parser.add_argument("--only", metavar="WORD", help="only cases whose name holds WORD")
    options = parser.parse_args(arguments)
    done = collect(options.only)
    print(json.dumps(Counter(entry["bucket"] for entry in done.values())))
    if options.write and options.only is None:
        files.write(PAGE, page(done).encode())
        files.write(DATA, (json.dumps(data(done), indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
