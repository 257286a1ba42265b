"""Which operators have a derivative, and how: of the standard, or of a model those on the way to its score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import onnx
import onnx.defs

from cam_onnx.autodiff import rules as _rules  # noqa: F401  (fills the table)
from cam_onnx.autodiff import spelling
from cam_onnx.autodiff.backward import mark
from cam_onnx.autodiff.functions import calls, key, reachable
from cam_onnx.autodiff.model import ModelLike, load
from cam_onnx.autodiff.order import order
from cam_onnx.autodiff.table import RULES, Rule, Vjp, zero
from cam_onnx.graph.held import DERIVATIVE
from cam_onnx.graph.locate import fed, find_score
from cam_onnx.limits import DEFAULTS, Limits

__all__ = ["Operator", "operators"]

RAISED = {"Scatter": "ScatterElements", "Upsample": "Resize"}  # a file is raised before a rule sees them
PUT_IN = ("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceMap", "SplitToSequence")


@dataclass(frozen=True)
class Operator:
    """What is known of one operator.

    Attributes
    ----------
    name, domain : str
    versions : tuple of int
        Of the standard, since the lowest opset that is read (7).
    how : str
        ``rule``; ``lowering`` (in terms of others, or through its subgraphs); ``body`` (through its function);
        ``raised`` (another operator, once the file is raised); ``zero``; ``none``.
    reason : str
        Why it is zero, or what it is raised to.
    inputs : tuple of str
        Which have a derivative; those of a body and a lowering are its own affair.
    order : int or "any"
        How often it can be differentiated: as far as what its rule emits has rules in turn, and what these emit.
    count : int or None
        How many nodes of the model lie on its path.
    """

    name: str
    domain: str
    versions: tuple[int, ...]
    how: str
    reason: str
    inputs: tuple[str, ...]
    order: int | str
    count: int | None = None


def operators(model: ModelLike | None = None, score: str | None = None, limits: Limits = DEFAULTS) -> list[Operator]:
    """Return the operators of ai.onnx, or those of a model between its inputs and its score.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto, optional
    score : str, optional
        See `cam_onnx.convert`.
    limits : Limits

    Raises
    ------
    InvalidModel
        The file is not a usable model.
    ScoreNotFound
        Nothing in it looks like a score: name one.
    """
    if model is None:
        return [_described(name, "", spelling.newest()) for domain, name in sorted(_history()) if not domain]
    loaded = load(model, limits)
    if loaded.opset < spelling.LOWEST:
        loaded = loaded.raise_to(spelling.LOWEST)
    found = find_score(loaded, score)
    path = mark(loaded.graph, fed(loaded), [loaded.values[found.name]], loaded.opset, DERIVATIVE)
    functions = {(f.domain, f.name): _called(f, loaded.proto) for f in loaded.proto.functions}
    counts = Counter((node.domain, node.op_type) for node in path.nodes)
    return [
        _described(name, domain, loaded.opset, count, functions.get((domain, name)))
        for (domain, name), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def _called(function: onnx.FunctionProto, proto: onnx.ModelProto) -> set[tuple[str, str]]:
    """Return the operators in the body of a function, and of those that it calls."""
    own = {key(f.domain, f.name, f.overload): f for f in proto.functions}
    bodies = [function, *reachable(function.node, own)]
    return {name[:2] for each in bodies for name in calls(each.node) if name not in own}


@cache
def _history() -> dict[tuple[str, str], list[int]]:
    """Return the versions of every operator that onnx knows."""
    found: dict[tuple[str, str], list[int]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        found.setdefault((schema.domain, schema.name), []).append(schema.since_version)
    return {key: sorted(versions) for key, versions in found.items()}


def _described(
    name: str, domain: str, opset: int, count: int | None = None, inside: Collection[tuple[str, str]] | None = None
) -> Operator:
    """Return one row; `inside`: what the body of a function of the model calls."""
    local = inside is not None
    domain = "" if domain == "ai.onnx" else domain
    history = _history().get((domain, name), [])
    read = tuple(v for i, v in enumerate(history) if i + 1 == len(history) or history[i + 1] > 7)
    rule, schema = RULES.find(name, opset, domain), spelling.schema(name, opset, domain)
    if schema is None and history:
        schema = spelling.schema(name, history[-1], domain)
    how, reason = _how(name, rule, schema, local)
    inputs = _inputs(rule, schema) if how == "rule" else ()
    if how == "zero" or name in PUT_IN:
        within: Collection[tuple[str, str]] = ()
    elif inside is not None:
        within = inside
    else:
        within = [("", RAISED[name]) if how == "raised" else (domain, name)]
    times = order(within, opset)
    return Operator(name, domain, read, how, reason, inputs, "any" if times is None else times, count)


def _how(name: str, rule: Rule | None, schema: onnx.defs.OpSchema | None, local: bool) -> tuple[str, str]:
    if local:
        return "body", ""
    if rule is not None:
        if not rule.entries:
            return "lowering", ""
        if any(isinstance(entry, Vjp) for entry in rule.entries):
            return "rule", ""
        reasons = [entry.reason for entry in rule.entries if isinstance(entry, zero)]
        return "zero", next(filter(None, reasons), "")
    if name in RAISED:
        return "raised", RAISED[name]
    if name in PUT_IN:
        return "lowering", "with SequenceAt and ConcatFromSequence"
    if schema is not None and (schema.has_function or schema.has_context_dependent_function):  # type: ignore[attr-defined]
        return "body", ""
    if schema is not None and schema.outputs and not any(_float(o.types) for o in schema.outputs):
        return "zero", "no output of a floating-point type"
    return "none", ""


def _float(types: set[str]) -> bool:
    return any(word in text for text in types for word in ("float", "double"))


def _inputs(rule: Rule | None, schema: onnx.defs.OpSchema | None) -> tuple[str, ...]:
    if rule is None or schema is None:
        return ()
    return tuple(formal.name for i, formal in enumerate(schema.inputs) if isinstance(rule.entry(i), Vjp))
