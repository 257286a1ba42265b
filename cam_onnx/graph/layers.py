"""The target layers: those that are asked for, or the default."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from cam_onnx.autodiff.model import Model
from cam_onnx.errors import InputError, LayerNotFound, shown
from cam_onnx.graph.asked_layers import Asked
from cam_onnx.graph.candidates import Place, candidates, listed, on_path
from cam_onnx.graph.default_layer import choose, extent_of
from cam_onnx.graph.locate import Score
from cam_onnx.graph.roles import follow
from cam_onnx.graph.stages import stages
from cam_onnx.graph.strides import strides

__all__ = ["find_layers", "find_stages"]

_INDEX = re.compile(r"[+-]?[0-9]{1,9}")


def find_layers(model: Model, names: Sequence[str | int] | str | int | None, score: Score) -> list[Place]:
    """Return the target layers, or the default.

    Parameters
    ----------
    names : str, int or sequence of them, optional
        A value's name, else a node's (its first output). What is neither in the file: an index of the candidates,
        "last-conv", "all-stages", a glob, or a module of the framework (the last candidate that it gives).

    Raises
    ------
    LayerNotFound
        Unknown name, a layer without spatial extent, or no good default (none with spatial extent, or attention
        behind the last one): the message lists candidates.
    """
    if names is None:
        return _of_known_type(model, _default(model, score))
    asked = Asked(model, score)
    given = [names] if isinstance(names, (str, int)) else list(names)
    if not given:
        raise InputError("layers: an empty list; name at least one layer, or None for the default")
    found: dict[str, Place] = {}
    named: set[str] = set()
    for each in given:
        one = asked.exact(each) if isinstance(each, str) else None
        if one is not None and one.name in named:
            raise InputError(f"layers: {', '.join(map(shown, given))} name one value twice")
        if one is not None:
            named.add(one.name)
        for place in [one] if one is not None else _meant(model, asked, each, score):
            found.setdefault(place.name, place)
    return _of_known_type(model, list(found.values()))


def find_stages(model: Model, score: Score) -> list[Place]:
    """Return the last value of every stage: of every stride on the way to the default layer."""
    found = {model.values[place.name]: place for place in candidates(model, score)}
    axes = {value: place.axes for value, place in found.items()}
    roles, ends = follow(model.graph), score.values(model)
    extent = extent_of(model, ends, axes, roles)
    chosen, _ = choose(extent, ends, axes, roles)
    return [found[each] for each in stages(extent, chosen, axes, strides(model.graph, roles))]


def _default(model: Model, score: Score) -> list[Place]:
    found = candidates(model, score)
    if not found:
        raise LayerNotFound(
            f"{model.name}: no value with spatial extent lies between the input and {shown(score.name)!r}; "
            f"values on the way: {listed([v.name or '' for v in on_path(model, score)])}. Methods of the input need no "
            "such layer: integrated-gradients, occlusion, rise (method=, --method)"
        )
    axes = {model.values[p.name]: p.axes for p in found}
    roles, ends = follow(model.graph), score.values(model)
    chosen, why = choose(extent_of(model, ends, axes, roles), ends, axes, roles)
    if not chosen:
        raise LayerNotFound(
            f"{model.name}: {why}; name the layer that you mean (layers=, --layer); candidates: "
            f"{listed([place.name for place in found])}"
        )
    return [replace(place, why=why) for place in found if model.values[place.name] in chosen]


def _of_known_type(model: Model, places: list[Place]) -> list[Place]:
    for place in places:
        if model.values[place.name].dtype is None:
            raise LayerNotFound(
                f"{model.name}: the element type of layer {shown(place.name)!r} is not known: an operator before it is "
                "not of the standard; export the model with the types of its inner values (value_info)"
            )
    return places


def _meant(model: Model, asked: Asked, given: str | int, score: Score) -> list[Place]:
    """Return what is meant by what is no name of a value or a node."""
    if not isinstance(given, str) or _INDEX.fullmatch(given):
        return [asked.at(int(given))]
    if given == "last-conv":
        return [asked.last_conv()]
    if given == "all-stages":
        return find_stages(model, score) or [asked.at(-1)]
    if any(mark in given for mark in "*?["):
        return asked.matching(given)
    place = asked.module(given)
    if place is None:
        raise asked.unknown(given)
    return [place]
