"""The registry of methods. One decorated function is one method: its parameters are what it needs.

A method stays a plain function of arrays, so that it can be called, tested and emitted without the registry;
the command line, the README's table and the tests iterate `METHODS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cam_onnx.errors import InputError, UnknownName, did_you_mean, shown

__all__ = ["METHODS", "Method", "find", "method"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Method:
    """One way to turn activations and gradients into a map.

    Parameters
    ----------
    name : str
    function : callable
        Takes the needs by name; returns weights that broadcast to (N, K, *S), or the map itself (N, *S).
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
    """

    name: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    paper: str
    relu: bool = True
    requires_pooled_head: bool = False
    summary: str = ""
    options: dict[str, Any] = field(default_factory=dict, hash=False)

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


def method(name: str, *, paper: str, relu: bool = True, requires_pooled_head: bool = False) -> Callable[[F], F]:
    """Register the decorated function under `name`; it stays a plain function.

    Raises
    ------
    ValueError
        A method of that name exists (a defect of the caller's program, hence no `CamOnnxError`).
    """

    def register(function: F) -> F:
        if any(_fold(name) == _fold(known) for known in METHODS):
            raise ValueError(f"method {name!r} is registered already")
        parameters = inspect.signature(function).parameters.values()
        METHODS[name] = Method(
            name=name,
            function=function,
            needs=tuple(p.name for p in parameters if p.default is p.empty),
            paper=paper,
            relu=relu,
            requires_pooled_head=requires_pooled_head,
            summary=(inspect.getdoc(function) or "").partition("\n")[0],
            options={p.name: p.default for p in parameters if p.default is not p.empty},
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
    raise UnknownName(f"no method {shown(name)!r}{near or '.'} There are: {', '.join(METHODS)}")


def _fold(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")
