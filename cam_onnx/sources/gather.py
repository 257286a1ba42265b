"""What is known of a model's preprocessing and labels, put together of what its sources say.

A group of fields that belong together is taken whole from the first source that says any of it: a mean of one origin
with a scale of another would be nobody's. What no source says is the model's own (sizes, layout, type) or a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import lcm
from typing import Any

from cam_onnx import bundled, files
from cam_onnx.contract import Preprocess
from cam_onnx.errors import CamOnnxError, InputError, shown
from cam_onnx.inputs import extents, guess, resolve, sized
from cam_onnx.sources.beside import Unusable
from cam_onnx.sources.lists import lines
from cam_onnx.sources.order import SOURCES
from cam_onnx.sources.table import Said, Subject

__all__ = ["GIVEN", "Known", "known", "spoken"]

GROUPS = {
    "values": ("scale", "mean", "std"),
    "channels": ("channels",),
    "fit": ("fit", "crop_pct", "fill", "interpolation"),
    "size": ("size",),
    "layout": ("layout",),
    "dtype": ("dtype",),
    "multiple": ("multiple",),
}
DEFAULTS = {each.name: each.default for each in fields(Preprocess)}
GIVEN, STRIDES = "given", "the graph's strides"
IMAGENET = 1000


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes
    ----------
    preprocess : Preprocess or None
        None: nobody said anything, and the shape of the input is all there is to guess from.
    labels : tuple of str or None
    origin : dict
        "preprocess" and "labels": where they are from, for people; "guess": that values are guessed.
    notes : list of str
        What could not be used and why, and guesses.
    """

    preprocess: Preprocess | None = None
    labels: tuple[str, ...] | None = None
    origin: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def known(
    subject: Subject,
    given: Preprocess | Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
    graph: Said | None = None,
    recorded: Said | None = None,
    hint: Said | None = None,
    multiple: int = 1,
) -> Known:
    """Ask every source.

    Parameters
    ----------
    subject : Subject
    given : Preprocess or mapping, optional
        What the caller says: all of it, or single fields.
    labels : sequence of str, optional
        The caller's.
    graph : Said, optional
        What the graph itself does to its input.
    recorded : Said, optional
        What a converted file says of itself: it is trusted before all others.
    hint : Said, optional
        A guess at the network's kind, which is better than one from its input alone.
    multiple : int
        Of what the network needs the sizes to be that its input leaves open.

    Raises
    ------
    InputError
        What the caller says is not valid; what others say wrongly is a note.
    """
    notes: list[str] = []
    asked = given is None or not isinstance(given, Preprocess)
    said = list(_asked(subject, notes)) if (asked and subject.shape is not None) or labels is None else []
    named = (tuple(labels), GIVEN) if labels is not None else _labels(subject, said, notes)
    origin = {"labels": named[1]} if named else {}
    settled: Preprocess | None
    if isinstance(given, Preprocess):
        open_ = None in (given.size or (None,))
        settled = replace(given, multiple=lcm(given.multiple, multiple)) if open_ else given
        origin["preprocess"] = GIVEN
    else:
        others = [*([recorded] if recorded else []), *said]
        if multiple > 1:
            others.append(Said(STRIDES, {"multiple": multiple}))
        settled, more = _settled(subject, dict(given or {}), others, graph, hint, notes)
        origin |= more
    return Known(settled, named[0] if named else None, origin, notes)


def _asked(subject: Subject, notes: list[str]) -> Iterator[Said]:
    for where, function in SOURCES.items():
        try:
            for said in function(subject):
                Preprocess(**said.fields)
                yield said
        except Unusable as error:
            notes.append(f"{_of(where, subject)} is not used: {shown(error)}")
        except InputError as error:
            notes.append(f"{_of(where, subject)} is not used: {shown(_plain(error))}")


def _of(where: str, subject: Subject) -> str:
    return where.replace("<model>", shown(subject.beside.stem))


def _settled(
    subject: Subject, given: dict[str, Any], said: list[Said], graph: Said | None, hint: Said | None, notes: list[str]
) -> tuple[Preprocess | None, dict[str, str]]:
    """Return the preprocessing and where it is from; what contradicts the model's input is left out, with a note."""
    if subject.shape is None:
        return (Preprocess(**given), {"preprocess": GIVEN}) if given else (None, {})
    try:
        guessed, _ = guess(subject.shape, subject.dtype)
    except InputError:
        if given:
            raise
        return None, {}
    first = [Said(GIVEN, given)] if given else []
    others = []
    for each in [*filter(lambda one: one.fields, said), *filter(None, (graph, hint))]:
        try:
            resolve(_merged([each], guessed, subject)[0], subject.shape, subject.dtype)
        except InputError as error:
            notes.append(f"{each.where} is not used: {shown(_plain(error))}")
        else:
            others.append(each)
    if not first and not others:
        return None, {}
    merged, origin = _merged([*first, *others], guessed, subject)
    settled = resolve(merged, subject.shape, subject.dtype)
    notes += [f"{each.where}: {doubt}" for each in others for doubt in each.doubts]
    from_ = {"preprocess": _from(origin)}
    if origin["values"] in (None, *(each.where for each in (graph, hint) if each is not None)):
        from_["guess"] = (
            f"preprocessing is partly a guess ({from_['preprocess']}): {spoken(settled)}; say what the model was "
            "trained with by preprocess= (--preprocess)"
        )
    elif graph is not None and graph in others:
        notes.append(f"{graph.where}, and {origin['values']} may say the same once more: look whether both are meant")
    return settled, from_


def _plain(error: InputError) -> str:
    return str(error).removeprefix("preprocess: ")


def _merged(said: list[Said], guessed: Preprocess, subject: Subject) -> tuple[Preprocess, dict[str, str | None]]:
    """Return the first source's word on every group of fields, the guess on the rest, and where each is from."""
    taken: dict[str, Any] = {}
    origin: dict[str, str | None] = {}
    for group, names in GROUPS.items():
        each = next((one for one in said if any(name in one.fields for name in names)), None)
        origin[group] = None if each is None else each.where
        for name in names:
            if each is not None:
                taken[name] = each.fields.get(name, DEFAULTS[name])
            elif group != "fit":
                taken[name] = getattr(guessed, name)
    fixed = extents(subject.shape or (), taken["layout"])
    size = taken["size"]
    if origin["size"] not in (None, GIVEN) and size is not None and fixed != (None, None):
        taken["size"] = None if None not in fixed else size  # the model's own; others may run at more than one
        origin["size"] = None if taken["size"] is None else origin["size"]
    if guessed.channels == "GRAY" and origin["channels"] != GIVEN:
        taken["channels"] = "GRAY"
    return Preprocess(**taken), origin


def _from(origin: Mapping[str, str | None]) -> str:
    """Return ``values and channels: <source>; ...; fit: a guess``."""
    groups: dict[str, list[str]] = {}
    for group, where in origin.items():
        if where is None and group in ("size", "layout", "dtype", "multiple"):
            continue
        groups.setdefault(where or "a guess", []).append(group)
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{' and '.join(names)}: {where}" for where, names in groups.items())


def _labels(subject: Subject, said: list[Said], notes: list[str]) -> tuple[tuple[str, ...], str] | None:
    for each in said:
        if each.labels is None:
            continue
        if subject.classes is not None and len(each.labels) != subject.classes:
            notes.append(
                f"labels of {each.where} are not used: {len(each.labels):,} names, {subject.classes:,} classes"
            )
            continue
        return each.labels, each.where
    if subject.classes in (IMAGENET, IMAGENET + 1):
        try:
            names = lines(files.read(bundled.home() / "imagenet_labels.txt", what="labels file").decode())
        except CamOnnxError:  # installed without them
            names = None
        if names and len(names) == IMAGENET:
            full = names if subject.classes == IMAGENET else ("background", *names)
            where = f"a guess: ImageNet's names, since there are {subject.classes:,} classes"
            notes.append(f"labels are {where}; give the model's own by labels= (--labels)")
            return full, where
    return None


def spoken(settled: Preprocess) -> str:
    """Return a preprocessing in a few words."""
    fit = {"crop": f"crop {settled.crop_pct:g}", "letterbox": f"letterbox ({settled.fill:g})"}.get(
        settled.fit, settled.fit
    )
    how = "" if settled.size is None and settled.multiple == 1 else f" by {fit}, {settled.interpolation}"
    return f"{settled.channels} {sized(settled)}{how}, {_formula(settled)}, {settled.layout} {settled.dtype}"


def _formula(settled: Preprocess) -> str:
    scale, per = settled.scale, 1 / settled.scale
    x = "x" if scale == 1 else f"x/{per:g}" if abs(per - round(per, 3)) < 1e-6 else f"x*{scale:g}"
    mean, std = (_numbers(values) for values in (settled.mean, settled.std))
    shifted = x if set(settled.mean) == {0.0} else f"{x} - {mean}"
    if set(settled.std) == {1.0}:
        return shifted
    return f"{shifted if shifted == x else f'({shifted})'} / {std}"


def _numbers(values: Sequence[float]) -> str:
    short = [f"{value:.4g}" for value in values]
    return short[0] if len(set(short)) == 1 else f"[{', '.join(short)}]"
