"""The registry of methods. One decorated function is one method: its parameters are what it needs.

A method stays a plain function, so that it can be called, tested and emitted without the registry; the command line,
the README's table and the tests iterate `METHODS`. `cam_onnx.methods.needs` has the words that a parameter may have.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple, TypeVar

from cam_onnx.errors import InputError, UnknownName, did_you_mean, shown
from cam_onnx.methods.needs import CALLS, GRADIENTS, LISTS, NEEDS

__all__ = [
    "METHODS",
    "Method",
    "Noted",
    "at_least",
    "find",
    "method",
    "without_gradient",
]

F = TypeVar("F", bound=Callable[..., Any])


class Noted(NamedTuple):
    """A method's result with what its reader should know, such as how far a sum is from complete."""

    result: Any
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Method:
    """One way to make a map of what a network did.

    Parameters
    ----------
    name : str
    function : callable
        Takes the needs by name; returns weights that broadcast to (N, K, *S), or the map itself (N, *S), or a
        `Noted` of either.
    needs : tuple of str
        The function's parameters without a default.
    paper : str
    relu : bool
        Whether the map is drawn after a ReLU (the CAM family) or signed.
    requires_pooled_head : bool
        Defined only where pooling and one linear layer lie between the layer and the score.
    summary : str
        First line of the function's docstring.
    options : dict
        The function's parameters with a default, and that default.
    cost : str
        What it runs beside one pass forwards and back to the layer; "" for nothing.
    at : {"layer", "input"}
        "input": the target layer is the picture itself, and attributions stay signed.
    table : str
        The rule table of the pass backwards; "" for the derivative. An option in braces is filled in, others that are
        not at their default stand behind it: ``table:name=value``.
    target : str
        What kind of score is explained unless another is asked for; "" for the logit.
    anytime : bool
        Its calls may end early: the map is then that of what came back.
    level : bool
        The map stands on a level of its own, such as the mean score, and zero means nothing in it: it is drawn from its
        smallest value to its largest, without a ReLU.
    choices : dict
        Of options that have them: the values.
    """

    name: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    paper: str
    relu: bool = True
    requires_pooled_head: bool = False
    summary: str = ""
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    cost: str = ""
    at: str = "layer"
    table: str = ""
    target: str = ""
    anytime: bool = False
    level: bool = False
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)

    @property
    def calls(self) -> tuple[str, ...]:
        """Those of its needs that run the network."""
        return tuple(need for need in self.needs if need in CALLS)

    @property
    def lists(self) -> tuple[str, ...]:
        """Those of its needs that are read inside the network."""
        return tuple(need for need in self.needs if need in LISTS)

    @property
    def needs_gradient(self) -> bool:
        """Whether any of its needs is a derivative."""
        return not GRADIENTS.isdisjoint(self.needs)

    def settle(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return options by name, each checked against the type of its default; text is read as that type.

        Raises
        ------
        InputError
            No such option, or a value of another type.
        """
        settled = {}
        for name, value in given.items():
            if name not in self.options:
                has = ", ".join(f"{key}={default!r}" for key, default in self.options.items()) or "none"
                raise InputError(
                    f"{self.name} has no option {shown(name)!r}{did_you_mean(name, self.options)}; its options: {has}"
                )
            settled[name] = _typed(self.name, name, value, self.options[name])
            if settled[name] not in self.choices.get(name, [settled[name]]):
                near = did_you_mean(str(value), self.choices[name])
                raise InputError(
                    f"{self.name}: option {name} is {shown(value)!r}{near or ','} expected one of "
                    f"{', '.join(self.choices[name])}"
                )
        return settled

    def rules(self, options: Mapping[str, Any]) -> str:
        """Return the name of the rule table with these options."""
        if not self.table:
            return ""
        settled = {**self.options, **self.settle(options)}
        others = [name for name in settled if f"{{{name}}}" not in self.table and settled[name] != self.options[name]]
        return self.table.format(**settled) + "".join(f":{name}={settled[name]!r}" for name in others)

    def takes(self, table: str, options: Mapping[str, Any]) -> bool:
        """Whether a file with this rule table serves; an option that is not given may be any."""
        said = {name: value for name, _, value in (each.partition("=") for each in table.split(":")[1:])}
        if not set(said) <= set(self.options):
            return False
        open_ = {name: values for name, values in self.choices.items() if name not in options}
        picked = [dict(zip(open_, values, strict=True)) for values in product(*open_.values())]
        return table in {self.rules({**said, **options, **each}) for each in picked}

    def check(self, head: str, layer: str) -> None:
        """Refuse a network for which the method is not defined.

        Parameters
        ----------
        head : str
            What lies between the layer and the score, as the contract says it.
        layer : str
            The layer's name, for the message.

        Raises
        ------
        InputError
        """
        if self.requires_pooled_head and head == "other":
            raise InputError(
                f"{self.name} is defined where only a global pooling and one linear layer lie between the layer and "
                f"the score; behind {shown(layer)!r} lies more. Use grad-cam, which is the same map there and is "
                "defined everywhere"
            )


METHODS: dict[str, Method] = {}
"""Every method by name, in the order of registration."""


def method(
    name: str,
    *,
    paper: str,
    relu: bool = True,
    requires_pooled_head: bool = False,
    cost: str = "",
    at: str = "layer",
    table: str = "",
    target: str = "",
    anytime: bool = False,
    level: bool = False,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> Callable[[F], F]:
    """Register the decorated function under `name`; it stays a plain function. Parameters: see `Method`.

    Raises
    ------
    ValueError
        A method of that name exists, or a parameter is no need (a defect of the caller's program, hence no
        `CamOnnxError`).
    """

    def register(function: F) -> F:
        if any(_fold(name) == _fold(known) for known in METHODS):
            raise ValueError(f"method {name!r} is registered already")
        parameters = inspect.signature(function).parameters.values()
        if unknown := [p.name for p in parameters if p.default is p.empty and p.name not in NEEDS]:
            raise ValueError(f"method {name!r}: {unknown[0]!r} is no need{did_you_mean(unknown[0], NEEDS)}: see NEEDS")
        METHODS[name] = Method(
            name=name,
            function=function,
            needs=tuple(p.name for p in parameters if p.default is p.empty),
            paper=paper,
            relu=relu,
            requires_pooled_head=requires_pooled_head,
            summary=(inspect.getdoc(function) or "").partition("\n")[0],
            options={p.name: p.default for p in parameters if p.default is not p.empty},
            cost=cost,
            at=at,
            table=table,
            target=target,
            anytime=anytime,
            level=level,
            choices=choices or {},
        )
        return function

    return register


def find(name: str) -> Method:
    """Return the method called `name`; case, ``-`` and ``_`` do not matter.

    Raises
    ------
    UnknownName
        The message lists every method and the nearest one.
    """
    folded = _fold(str(name))
    for known, entry in METHODS.items():
        if _fold(known) == folded:
            return entry
    near = did_you_mean(str(name), METHODS)
    some = ", ".join(list(METHODS)[:8])
    raise UnknownName(
        f"no method {shown(name)!r}{near or '.'} There are {len(METHODS)}: {some}, ... (`cam-onnx methods` lists all)"
    )


def _fold(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


def without_gradient() -> list[str]:
    """Return the methods that any network has all for, without a derivative; first those that depend on the class."""
    free = [e for e in METHODS.values() if not e.needs_gradient and not e.lists and not e.target]
    return [entry.name for entry in sorted(free, key=lambda entry: not entry.calls)]


def at_least(least: float, **options: float) -> None:
    """Refuse (InputError) an option below `least`, or NaN."""
    for name, value in options.items():
        if not value >= least:
            raise InputError(f"option {name} is {value!r}, expected at least {least!r}")


def _typed(method: str, name: str, value: Any, default: Any) -> Any:
    kind = type(default)
    if default is None:
        return value
    try:
        if isinstance(value, str) and kind is bool:
            return {"true": True, "false": False}[value.casefold()]
        if isinstance(value, str) and kind is not str:
            return kind(value)
    except (KeyError, ValueError):
        pass
    else:
        real = isinstance(value, (int, float)) and not isinstance(value, bool)
        if kind is float and real:
            return float(value)
        if isinstance(value, kind) and (kind is not int or real):
            return value
    expected = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
    raise InputError(f"{method}: option {name} is {shown(value)!r}, expected {expected} (default: {default!r})")
