"""What `cam-onnx verify` finds where a rule is broken on purpose, in one place: ``python -m benchmarks.power``.

A table is laid over the standard rules that treats one node otherwise; the network is converted by it and verified, at
a layer in its front half and at its input, both in front of the broken node. What does not agree is caught.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.networks import DEMO, resnet18
from cam_onnx import files
from cam_onnx.autodiff import rules as _rules  # noqa: F401  (fills the table)
from cam_onnx.autodiff.backward import mark
from cam_onnx.autodiff.model import load
from cam_onnx.autodiff.table import RULES, Table, Vjp
from cam_onnx.engine import natural
from cam_onnx.errors import did_you_mean
from cam_onnx.explainer import Explainer
from cam_onnx.graph.candidates import candidates
from cam_onnx.graph.convert import convert
from cam_onnx.graph.locate import find_score, picture_input
from models.builders import BUILDERS

__all__ = ["CORRUPTIONS", "NETWORKS", "Case", "broken", "cases", "main", "measure", "table"]

PAGE = Path(__file__).parent.parent / "docs" / "verify.md"
PLACES = 3  # nodes a network and corruption, spread over the path
LEAST = 1e-3  # part of the gradient's norm: what changes it by less is no error to be caught

Change = Callable[..., Any]


def _scaled(factor: float) -> Change:
    return lambda vjp, arguments, attributes: vjp(*arguments, **attributes) * factor


def _other_side(vjp: Change, arguments: Sequence[Any], attributes: dict[str, Any]) -> Any:
    """Call a convolution's rule as if all of its padding were on the other side, or on one where both have it."""
    pads = list(attributes["pads"])
    begin, end = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    moved = [(0, b + e) if b >= e else (b + e, 0) for b, e in zip(begin, end, strict=True)]
    return vjp(*arguments, **{**attributes, "pads": [b for b, _ in moved] + [e for _, e in moved]})


CORRUPTIONS: dict[str, Change] = {
    "flipped sign": _scaled(-1.0),
    "times 1.1": _scaled(1.1),
    "times 1.03": _scaled(1.03),
    "a lost branch": _scaled(0.0),
    "padding on the wrong side": _other_side,
}


def _small_resnet18() -> bytes:
    model = onnx.load_model_from_string(resnet18())
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 64
    data: bytes = model.SerializeToString()
    return data


NETWORKS: dict[str, Callable[[], bytes]] = {
    "EfficientNet-Lite0, trained": DEMO.read_bytes,
    "ResNet-18's shape at 64 x 64": _small_resnet18,
    **{name: functools.partial(lambda n: BUILDERS[n]().SerializeToString(), name)
       for name in ("silu_se", "densenet_like", "depthwise_asymmetric")},
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One node of a network (by its first output), the input whose rule is broken, and how."""

    network: str
    corruption: str
    op_type: str
    output: str
    index: int


@dataclass(frozen=True)
class Outcome:
    """What verification said at the layer and at the image; `changes`: parts of the gradient's norm."""

    network: str
    case: Case | None
    verdicts: tuple[str, str]
    changes: tuple[float, float] = (0.0, 0.0)


def places(model: bytes) -> tuple[str, str]:
    """Return the layer, a value with spatial extent at a fifth of the way, and the input."""
    loaded = load(model)
    found = [place.name for place in candidates(loaded, find_score(loaded, None))]
    picture = picture_input(loaded)
    assert picture is not None
    inner = [name for name in found if name != picture.name]
    return inner[len(inner) // 5], picture.name or ""


def cases(network: str, model: bytes) -> Iterator[Case]:
    """Yield what is broken in a network: for every corruption, nodes behind the layer, spread evenly."""
    loaded = load(model)
    layer = loaded.values[places(model)[0]]
    path = mark(loaded.graph, [layer], [loaded.values[find_score(loaded, None).name]], loaded.opset, RULES)
    ways: list[tuple[Any, int]] = []
    for node in path.nodes:
        rule = RULES.find(node.op_type, loaded.opset, node.domain)
        if rule is not None:
            ways += [
                (node, i) for i, x in enumerate(node.inputs) if x in path.values and isinstance(rule.entry(i), Vjp)
            ]
    consumers = [node.inputs[i] for node, i in ways]
    suited: dict[str, list[tuple[Any, int]]] = dict.fromkeys(CORRUPTIONS, ways)
    suited["a lost branch"] = [(n, i) for n, i in ways if consumers.count(n.inputs[i]) > 1]
    suited["padding on the wrong side"] = [(n, i) for n, i in ways if i == 0 and n.op_type == "Conv" and _padded(n)]
    for corruption, found in suited.items():
        for at in np.linspace(0, len(found) - 1, min(PLACES, len(found))).round().astype(int):
            node, index = found[at]
            yield Case(network, corruption, node.op_type, node.outputs[0].name, index)


def _padded(node: Any) -> bool:
    pads = node.attributes.get("pads")
    return pads is not None and any(pads.value)


def broken(case: Case, opset: int) -> Table:
    """Return the standard rules with one node's broken."""
    laid = Table(base=RULES)
    rule = RULES.find(case.op_type, opset)
    assert rule is not None
    change = CORRUPTIONS[case.corruption]

    def wrap(entry: Vjp, index: int) -> Vjp:
        vjp = entry.function

        @functools.wraps(vjp)  # the mechanism reads the names of its parameters
        def wrapped(op: Any, *arguments: Any, **attributes: Any) -> Any:
            own = arguments[0] if entry.each else index
            y = arguments[2 if entry.each else 1]
            name = (y[0] if isinstance(y, tuple) else y).name
            if name == case.output and own == case.index:
                return change(vjp, (op, *arguments), attributes)
            return vjp(op, *arguments, **attributes)

        return replace(entry, function=wrapped)

    entries = [wrap(entry, i) if isinstance(entry, Vjp) else entry for i, entry in enumerate(rule.entries)]
    laid.defvjp(case.op_type, *entries, several=rule.several)
    return laid


def measure(network: str, model: bytes, chosen: Sequence[Case]) -> Iterator[Outcome]:
    """Yield what verification says of the right conversion, then of every broken one that changes the gradient."""
    layers = places(model)
    settings: dict[str, Any] = {"providers": "cpu"}
    if network.startswith("EfficientNet"):
        settings["preprocess"] = DEMO.with_suffix(".json")
    right = Explainer(convert(model, layers=layers).to_bytes(), **settings)
    opset = next(entry.version for entry in load(model).proto.opset_import if not entry.domain)
    yield Outcome(network, None, _verdicts(right))
    for case in chosen:
        with Explainer(convert(model, layers=layers, table=broken(case, opset)).to_bytes(), **settings) as wrong:
            changes = _changes(right, wrong)
            if max(changes) > LEAST:
                yield Outcome(network, case, _verdicts(wrong), changes)


def _verdicts(explainer: Explainer) -> tuple[str, str]:
    at_layer, at_image = explainer.verify().gradients
    return at_layer.verdict, at_image.verdict


def _changes(right: Explainer, wrong: Explainer) -> tuple[float, float]:
    """Return by how much the gradients differ, in parts of their norm, for the picture that is verified."""
    assert right.contract.preprocess is not None
    picture = natural.picture(right.contract.preprocess)
    theirs, ours = (explainer.explain(picture).layers.values() for explainer in (right, wrong))
    at_layer, at_image = (
        float(np.linalg.norm(b - a) / np.linalg.norm(a))
        for a, b in zip((x.gradients for x in theirs), (x.gradients for x in ours), strict=True)
        if a is not None and b is not None
    )
    return at_layer, at_image


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the Markdown table: caught of all, at the layer and at the image."""
    rows = ["| in one place | at the layer | at the image |", "|---|---:|---:|"]
    sound = [outcome for outcome in outcomes if outcome.case is None]
    for name in CORRUPTIONS:
        mine = [o for o in outcomes if o.case is not None and o.case.corruption == name]
        rows.append(f"| {name} | {_caught(mine, 0)} | {_caught(mine, 1)} |")
    false = [sum(o.verdicts[at] != "agrees" for o in sound) for at in (0, 1)]
    rows.append(f"| nothing broken | alarm in {false[0]} of {len(sound)} | alarm in {false[1]} of {len(sound)} |")
    networks = [outcome.network for outcome in outcomes]
    counted = (f"{name} ({networks.count(name) - 1} breaks)" for name in dict.fromkeys(networks))
    return "\n".join([*rows, "", f"Networks: {', '.join(counted)}."])


def _caught(outcomes: Sequence[Outcome], at: int) -> str:
    real = [o for o in outcomes if o.changes[at] > LEAST]
    missed = [o.changes[at] for o in real if o.verdicts[at] == "agrees"]
    text = f"{len(real) - len(missed)} of {len(real)}"
    return f"{text} (missed: up to {max(missed):.1%} of the gradient)" if missed else text


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, and with --write put it into docs/verify.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.power", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NETWORK", help=f"default: all of {', '.join(NETWORKS)}")
    parser.add_argument("--write", action="store_true", help=f"into docs/{PAGE.name}")
    options = parser.parse_args(argv)
    for name in options.names:
        if name not in NETWORKS:
            parser.error(f"no network {name!r}{did_you_mean(name, NETWORKS)}; there are: {', '.join(NETWORKS)}")
    outcomes: list[Outcome] = []
    for network in options.names or NETWORKS:
        model = NETWORKS[network]()
        for outcome in measure(network, model, list(cases(network, model))):
            outcomes.append(outcome)
            what = "nothing" if outcome.case is None else f"{outcome.case.corruption} in {outcome.case.output}"
            changed = " ".join(f"{change:.1e}" for change in outcome.changes)
            print(f"{network}: {what}: {' '.join(outcome.verdicts)} ({changed})", file=sys.stderr, flush=True)
    print(table(outcomes))
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        pattern = re.compile(r"(<!-- power:begin -->\n).*?(<!-- power:end -->)", re.DOTALL)
        files.write(PAGE, pattern.sub(lambda m: f"{m[1]}{table(outcomes)}\n{m[2]}", text).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
