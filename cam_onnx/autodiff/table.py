"""The rule table: which operator has which derivative. Mechanism knows no operator; content knows no mechanism.

A rule is one function (a *vjp*, vector-Jacobian product) per input::

    defvjp("Sigmoid", lambda op, g, y, x: g * y * (1.0 - y))

`op` emits nodes, `g` is the cotangent of the output `y`, `x` the inputs, attributes are keyword arguments with
their defaults filled in. A rule names every attribute it is handed (``**_`` says: the rest does not matter), so
that an attribute which a new opset adds is an error and not a wrong map. What it returns has the shape of its
input; broadcasting, accumulation, types, names and old spellings are the mechanism's.

Three kinds of nothing stay apart: `defzero` (the derivative is zero), `None` (there is none: an index, a shape)
and `missing("why")` (nobody wrote it). A path through the last two is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

__all__ = [
    "RULES",
    "Rule",
    "Table",
    "broadcast",
    "defbroadcast",
    "defflow",
    "deflowering",
    "defvjp",
    "defzero",
    "each",
    "missing",
    "zero",
]

Function = Callable[..., Any]


@dataclass(frozen=True)
class Vjp:
    """The derivative with respect to one input.

    `broadcast`: the result has the output's shape, and the mechanism sums it back to the input's. `each`: one
    function for all inputs from here on, which takes the input's index behind `op`.
    """

    function: Function
    broadcast: bool = False
    each: bool = False

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names behind ``op, g, y``: inputs first, then attributes; of custom operators these are keyword-only."""
        found = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in found if p.kind not in (p.VAR_KEYWORD, p.KEYWORD_ONLY))[4 if self.each else 3 :]


@dataclass(frozen=True)
class missing:  # noqa: N801 (a word in a rule)
    """No rule was written for this input, and why; a path through it is refused in these words."""

    reason: str


@dataclass(frozen=True)
class zero:  # noqa: N801
    """The derivative with respect to this input is zero wherever it is defined, and why."""

    reason: str = ""


Entry = Vjp | missing | zero | None


@dataclass(frozen=True)
class Flow:
    """How an operator runs its subgraphs, and its derivative as a whole.

    `regions(bodies, node)` returns one `cam_onnx.autodiff.path.Region` a subgraph; `vjp(op, node, gs, inside, ...)`
    returns pairs of a value that the node reads and its cotangent.
    """

    regions: Function
    vjp: Function


@dataclass(frozen=True)
class Rule:
    """All of one operator. `before`: for models below that opset, where the operator meant something else.

    `several`: the vjps take tuples of cotangents and outputs (a cotangent may be None). `lowering`: no derivative, but
    the operator in terms of others. `flow`: an operator that computes by subgraphs. `inside`: where the
    output is not cut off.
    """

    op_type: str
    entries: tuple[Entry, ...]
    before: int | None = None
    several: bool = False
    lowering: Function | None = None
    flow: Flow | None = None
    domain: str = ""
    inside: Function | None = None

    def entry(self, index: int) -> Entry:
        """Return what is said of input `index`."""
        if index < len(self.entries):
            return self.entries[index]
        last = self.entries[-1] if self.entries else None
        if isinstance(last, zero) or (isinstance(last, Vjp) and last.each):
            return last
        return missing(f"with respect to input {index}")


class Table:
    """A set of rules; `base` answers for operators that this table does not name.

    Attributions that bend the backward pass are tables laid over the standard one. What these carry back need not be
    what they are asked for: ``arriving(op, x, g)`` makes that of the cotangent of a wanted value.
    """

    def __init__(self, base: Table | None = None, arriving: Function | None = None) -> None:
        self.base, self.arriving = base, arriving
        self._rules: dict[tuple[str, str], list[Rule]] = {}

    def defvjp(
        self,
        op_type: str,
        *vjps: Function | Entry,
        domain: str = "",
        before: int | None = None,
        several: bool = False,
        inside: Function | None = None,
    ) -> None:
        """Enter an operator.

        Parameters
        ----------
        op_type : str
        *vjps : callable, None, missing or zero
            One per input. ``vjp(op, g, y, *inputs, **attributes)`` returns the cotangent of its input; `op` emits
            nodes, `g` is the cotangent of the output `y`.
        domain : str
            Empty: ai.onnx.
        before : int, optional
            Only for models below this opset, where the operator meant something else.
        several : bool
            The operator has several outputs: `g` and `y` are tuples, and a cotangent may be None.
        inside : callable, optional
            ``inside(op, y, x)`` says where the output is within the operator's range, of its first input; elsewhere
            the cotangent of the output is zero.

        Raises
        ------
        ValueError
            The operator has a rule already.
        """
        entries = tuple(v if v is None or isinstance(v, (Vjp, missing, zero)) else Vjp(v) for v in vjps)
        self._enter((domain, op_type), Rule(op_type, entries, before, several, domain=domain, inside=inside))

    def _enter(self, key: tuple[str, str], new: Rule) -> None:
        rules = self._rules.setdefault(key, [])
        if any(rule.before == new.before for rule in rules):
            raise ValueError(f"{new.op_type} (before={new.before}) has a rule already")
        rules.append(new)
        rules.sort(key=lambda rule: rule.before or 10**9)

    def deflowering(self, op_type: str, lowering: Function, domain: str = "") -> None:
        """Enter an operator as others: ``lowering(op, *inputs, **attributes)`` returns its outputs.

        The derivative goes through what it emits; of that, what the derivative reads is in the file.
        """
        self._enter((domain, op_type), Rule(op_type, (), lowering=lowering, domain=domain))

    def defflow(self, op_type: str, regions: Function, vjp: Function) -> None:
        """Enter an operator with subgraphs."""
        self._enter(("", op_type), Rule(op_type, (), flow=Flow(regions, vjp)))

    def defbroadcast(self, op_type: str, *vjps: Function | Entry, **options: Any) -> None:
        """Enter an operator whose inputs broadcast: what a vjp returns is summed back to its input's shape."""
        wrapped = (v if v is None or isinstance(v, (Vjp, missing, zero)) else broadcast(v) for v in vjps)
        self.defvjp(op_type, *wrapped, **options)

    def defzero(self, *op_types: str, why: str = "", domain: str = "") -> None:
        """Enter operators whose derivative is zero wherever it is defined, and `why` it is."""
        for op_type in op_types:
            self.defvjp(op_type, zero(why), domain=domain)

    def find(self, op_type: str, opset: int, domain: str = "") -> Rule | None:
        """Return the rule in force at `opset`, or None."""
        domain = "" if domain == "ai.onnx" else domain
        for rule in self._rules.get((domain, op_type), ()):
            if rule.before is None or opset < rule.before:
                return rule
        return self.base.find(op_type, opset, domain) if self.base else None

    def of(self, op_type: str) -> list[Rule]:
        """Return the rules of a standard operator, of every opset."""
        return self._rules.get(("", op_type)) or (self.base.of(op_type) if self.base else [])

    def __iter__(self) -> Iterator[Rule]:
        """Iterate over this table's own rules, sorted by operator."""
        for key in sorted(self._rules):
            yield from self._rules[key]


def broadcast(function: Function) -> Vjp:
    """Mark a vjp whose result has the output's shape: it is summed back to its input's."""
    return Vjp(function, broadcast=True)


def each(function: Function, broadcast: bool = False) -> Vjp:
    """Mark a vjp for all inputs from here on: it takes the input's index behind `op`."""
    return Vjp(function, broadcast=broadcast, each=True)


RULES = Table()
defvjp, defbroadcast, defzero = RULES.defvjp, RULES.defbroadcast, RULES.defzero
deflowering, defflow = RULES.deflowering, RULES.defflow
