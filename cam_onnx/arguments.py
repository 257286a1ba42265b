"""Options of the command line as what the library takes."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from cam_onnx.contract import Preprocess
from cam_onnx.errors import InputError, shown
from cam_onnx.limits import Limits
from cam_onnx.options import Settings, read_preprocess
from cam_onnx.places import Place
from cam_onnx.words import from_word

if TYPE_CHECKING:
    from cam_onnx.explainer import Explainer

__all__ = [
    "explainer",
    "explanations",
    "limits",
    "method_options",
    "preprocess",
    "providers",
    "subject",
    "subjects",
    "targets",
    "tensors",
]


def explainer(options: argparse.Namespace) -> Explainer:
    """Return the model that was named, with all that was said of it."""
    import cam_onnx

    said: dict[str, Any] = dict(
        layers=options.layer, score=options.score, method=options.method, preprocess=preprocess(options),
        labels=options.labels, backend=options.backend, providers=providers(options), limits=limits(options),
        options=method_options(options), fallback=options.fallback,
    )  # fmt: skip
    try:
        return cam_onnx.Explainer(options.model, **said)
    except cam_onnx.ScoreNotFound:  # what is asked for may have been said: as a kind, unless a class is called so
        kinds = [from_word(text) for text in _words(options, *options.images[:1])]
        if not kinds or None in kinds:
            raise
        return cam_onnx.Explainer(options.model, target=kinds[0], **said)


def providers(options: argparse.Namespace) -> list[Any] | None:
    """Return the execution providers that were named, with the options that were said of them."""
    names = options.providers.split(",") if options.providers else []
    told: dict[str, dict[str, str]] = {}
    for text in getattr(options, "provider_option", None) or ():
        key, is_one, value = text.partition("=")
        name, _, key = key.partition(".")
        if not (is_one and key and name in names):
            listed = f"one of {', '.join(map(shown, names))}" if names else "named by --providers"
            raise InputError(f"--provider-option {shown(text)!r}: expected P.KEY=VALUE, P {listed}")
        told.setdefault(name, {})[key] = value
    return [(name, told[name]) if name in told else name for name in names] or None


def targets(options: argparse.Namespace, picture: str = "") -> Any:
    """Return the targets: one is one for every picture; several are several of each. `picture`: which is explained."""
    found = [_target(text) for text in _words(options, picture) or ["-1"]]
    return found[0] if len(found) == 1 else [found]


def _words(options: argparse.Namespace, picture: str = "") -> list[str]:
    """Return the targets as given; `similar` alone, where two pictures are explained, is likeness to the other one."""
    found = list(options.target or ())
    pair = getattr(options, "images", ())
    if len(pair) == 2 and picture in pair:
        other = pair[1 - pair.index(picture)]
        found = [f"similar:{other}" if text == "similar" else text for text in found]
    return found


def explanations(options: argparse.Namespace) -> int:
    """Return how many explanations each picture has."""
    from cam_onnx.targets import count

    return sum(map(count, options.target or ["-1"]))


def _target(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def limits(options: argparse.Namespace) -> Limits:
    """Return the limits in force: those that were given, else the defaults."""
    given = {f.name: getattr(options, f.name, None) for f in fields(Limits)}
    return Limits(**{name: value for name, value in given.items() if value is not None})


def preprocess(options: argparse.Namespace) -> Settings:
    """Return the preprocessing: a preset or a file, with the fields changed that were given by themselves; or these."""
    base = read_preprocess(options.preprocess)
    given = {f.name: getattr(options, f.name) for f in fields(Preprocess)}
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(base, Preprocess):
        return replace(base, **given)
    return given or None


def tensors(options: argparse.Namespace) -> dict[str, str]:
    """Return the .npy files of ``--input NAME=FILE``, by the names of the model's inputs.

    Raises
    ------
    InputError
        Another form, or a name given twice.
    """
    found: dict[str, str] = {}
    for text in getattr(options, "input", None) or ():
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise InputError(f"--input {shown(text)}: expected NAME=FILE.npy (cam-onnx inspect lists the names)")
        if name in found:
            raise InputError(f"--input: {shown(name)!r} is given twice")
        found[name] = path
    return found


def method_options(options: argparse.Namespace) -> dict[str, str]:
    """Return the method's options of ``--option NAME=VALUE``, as text: the method knows their types.

    Raises
    ------
    InputError
        Another form, or a name given twice.
    """
    found: dict[str, str] = {}
    for text in getattr(options, "option", None) or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InputError(f"--option {shown(text)}: expected NAME=VALUE (cam-onnx methods lists the names)")
        if name in found:
            raise InputError(f"--option: {shown(name)!r} is given twice")
        found[name] = value
    return found


def subjects(options: argparse.Namespace) -> tuple[list[str], bool]:
    """Return what is explained, by the names that results are called after, and whether one has several results."""
    from cam_onnx.engine import npy

    names = list(options.images) or list(tensors(options).values())[:1]
    if not names:
        raise InputError("nothing to explain: give a picture, or the model's tensors with --input NAME=FILE.npy")
    held = [npy.header(name).shape[:1] for name in names if not options.images or name.lower().endswith(".npy")]
    return names, explanations(options) > 1 or any(shape > (1,) for shape in held)


def subject(options: argparse.Namespace, place: Place) -> dict[str, Any]:
    """Return the argument of `Explainer.explain` for one of `subjects`."""
    files = tensors(options)
    without_picture = files and not options.images
    pictures = {} if without_picture else {"images": place.picture}
    return {**pictures, "inputs": files} if files else pictures
