"""The commands: options in, one call of the library, one way of printing. Errors are `cli.main`'s."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cam_onnx import files, printing
from cam_onnx.contract import Preprocess
from cam_onnx.errors import InputError, WriteFailed, shown
from cam_onnx.options import read_preprocess

if TYPE_CHECKING:
    from cam_onnx.explainer import Explainer, Explanation

__all__ = ["convert", "demo", "explain", "inspect", "methods"]

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Place:
    """Where one picture's explanation goes: `file` for the overlay alone, else all files into `folder`."""

    picture: str
    file: Path | None = None
    folder: Path | None = None


def explain(options: argparse.Namespace) -> int:
    """Explain pictures; exit code 1 where a map is NaN."""
    places = plan(options.images, options.out, several=len(options.target or ()) > 1)
    return _explain(_explainer(options), places, options)


def convert(options: argparse.Namespace) -> int:
    """Write the converted file."""
    import cam_onnx

    out = options.out or f"{options.model.removesuffix('.onnx')}.cam.onnx"
    if os.path.realpath(out) == os.path.realpath(options.model):
        raise InputError(f"{shown(out)} is the model itself: choose another name with -o")
    files.check_writable(out)
    converted = cam_onnx.convert(
        options.model, layers=options.layer, score=options.score, method=options.method or "grad-cam",
        preprocess=_preprocess(options), labels=options.labels, target_input=options.target_input,
    )  # fmt: skip
    for text in converted.notes:
        printing.note(text)
    if options.target_input == "optional":
        printing.note(
            "the input cam_target is optional: ONNX Runtime's Python, C, C++ and C# honour it; for Web, Node, Java "
            "and OpenVINO use --target-input required"
        )
    converted.save(out)
    layers = ", ".join(layer.name for layer in converted.contract.layers)
    printing.line(f"{out}: layer {layers}, score {converted.contract.score}")
    return 0


def inspect(options: argparse.Namespace) -> int:
    """Print what a model is and what can be explained in it."""
    from cam_onnx.graph.inspect import inspect as look

    report = look(options.model, score=options.score)
    if options.json:
        printing.dump(asdict(report))
        return 0
    kind = "converted by cam_onnx" if report.converted else "not converted"
    printing.line(f"{options.model}: opset {report.opset}, IR version {report.ir_version}, {kind}")
    for title, values in (("inputs", report.inputs), ("outputs", report.outputs)):
        printing.table(["name", "type", "shape"], [(v.name, v.dtype, _shape(v.shape)) for v in values], title)
    printing.line(f"score: {report.score or 'not found, name one with --score'}")
    rows = [
        (v.name, v.op_type, _shape(v.shape), "default" if v.name == report.layer else "") for v in report.candidates
    ]
    printing.table(["name", "operator", "shape", ""], rows, "candidate layers")
    for text in report.unsupported:
        printing.line(f"no gradient rule for {text}")
    for text in report.problems:
        printing.warning(text)
    return 0


def methods(options: argparse.Namespace) -> int:
    """List the registry."""
    from cam_onnx.methods import METHODS

    if options.json:
        rows = [{"name": m.name, "needs": m.needs, "relu": m.relu, "paper": m.paper} for m in METHODS.values()]
        printing.dump([{**row, "summary": m.summary} for row, m in zip(rows, METHODS.values(), strict=True)])
        return 0
    rows_ = [(m.name, ", ".join(m.needs), "yes" if m.relu else "no", m.paper) for m in METHODS.values()]
    printing.table(["name", "needs", "relu", "paper"], rows_)
    return 0


def demo(options: argparse.Namespace) -> int:
    """Explain the bundled pictures with the bundled network."""
    import cam_onnx

    home = demo_files()
    pictures = sorted(str(path) for path in (home / "pictures").iterdir())
    places = plan(pictures, os.path.join(options.out, ""))
    explainer = cam_onnx.Explainer(
        str(home / "efficientnet-lite0.onnx"), preprocess=str(home / "efficientnet-lite0.json"),
        labels=str(home / "imagenet_labels.txt"), backend=options.backend, providers=_providers(options),
    )  # fmt: skip
    options.target = None
    return _explain(explainer, places, options)


def demo_files() -> Path:
    """Return the folder of the bundled network: inside the wheel, or models/ of a checkout."""
    package = Path(str(resources.files("cam_onnx")))
    for home in (package / "_demo", package.parent / "models"):
        if (home / "efficientnet-lite0.onnx").is_file():
            return home
    raise InputError("the bundled network is missing: install cam-onnx from its wheel, or run in a checkout")


def plan(pictures: Sequence[str], out: str | None, several: bool = False) -> list[Place]:
    """Say where every result goes, before anything is loaded. A folder with a trailing slash is created.

    Raises
    ------
    InputError
        A file for several pictures, an unknown suffix, two results at one path, a picture overwritten.
    WriteFailed
        A missing or read-only folder.
    """
    if out is None:
        places = [Place(picture, file=Path(f"{Path(picture).stem}.cam.png")) for picture in pictures]
        if several:
            raise InputError("several targets: give -o a folder, such as -o out/")
    elif out.endswith(("/", os.sep)) or os.path.isdir(out):
        folder = Path(out)
        if not folder.is_dir():
            files.check_writable(folder)  # its parent must be there
            try:
                folder.mkdir()
            except OSError as error:
                raise WriteFailed(f"cannot create {shown(folder)}/: {error.strerror}") from None
        places = [Place(picture, folder=folder) for picture in pictures]
    else:
        if len(pictures) > 1 or several:
            raise InputError(f"{shown(out)} is one file for several overlays: give a folder, {shown(out)}/")
        if Path(out).suffix.lower() not in PICTURES:
            raise InputError(
                f"{shown(out)}: no picture's suffix ({', '.join(PICTURES)}); for a folder write {shown(out)}/"
            )
        places = [Place(pictures[0], file=Path(out))]
    _check_places(places)
    return places


def _check_places(places: Sequence[Place]) -> None:
    taken: dict[str, str] = {}
    for place in places:
        path = place.file or place.folder / Path(place.picture).stem  # type: ignore[operator]
        key = os.path.realpath(path)
        if key in taken:
            raise InputError(f"{shown(taken[key])} and {shown(place.picture)} would both be written to {shown(path)}")
        taken[key] = place.picture
        if place.file is not None:
            files.check_writable(place.file)
            if key in {os.path.realpath(p.picture) for p in places}:
                raise InputError(f"{shown(place.file)} is a picture to be explained: choose another name with -o")


def _explain(explainer: Explainer, places: Sequence[Place], options: argparse.Namespace) -> int:
    results: list[dict[str, Any]] = []
    said: set[str] = set()
    failed = False
    silent = options.json and len(places) > 1  # else what is printed shows how far we are
    for place in printing.progress(places, "explaining") if silent else places:
        explanation = explainer.explain(place.picture, target=_targets(options))
        for text in explanation.notes:
            if text not in said:
                printing.note(text)
        said.update(explanation.notes)
        written = _write(explanation, place, options)
        for reason in filter(None, explanation.reasons):
            printing.warning(f"{place.picture}: {reason}")
        failed |= bool((explanation.saliency != explanation.saliency).any())  # NaN
        for i in range(len(explanation)):
            results.append({**explanation[i].to_dict(), "picture": place.picture, "files": written})
            if not options.json:
                _print(results[-1], first=len(results) == 1)
    if options.json:
        printing.dump(results)
    return int(failed)


def _targets(options: argparse.Namespace) -> Any:
    """One target is one for every picture; several are several of each."""
    targets = [_target(text) for text in options.target or ["-1"]]
    return targets[0] if len(targets) == 1 else [targets]


def _write(explanation: Explanation, place: Place, options: argparse.Namespace) -> list[str]:
    from cam_onnx.render import image

    if place.folder is not None:
        return explanation.save(place.folder, alpha=options.alpha, colormap=options.colormap)
    assert place.file is not None
    image.save(place.file, explanation.overlay(alpha=options.alpha, colormap=options.colormap))
    return [str(place.file)]


def _print(result: dict[str, Any], first: bool) -> None:
    seconds = dict(result["seconds"])
    once = {step: seconds.pop(step) for step in ("read", "convert", "session") if step in seconds}
    if first:
        printing.line(f"runs on {result['provider']}; {_times(once)}")
    target = result["target"]
    rows = [(entry["name"], entry["index"], entry["probability"]) for entry in result["top"]]
    printing.line()
    what = "value" if target["probability"] is None else "probability"  # a single output has none
    printing.table(["class", "index", what], rows, result["picture"])
    known = target["name"] != str(target["index"])
    explained = f"{target['name']} ({target['index']})" if known else f"class {target['index']}"
    printing.line(f"explained: {explained}, score {target['score']:.3f}")
    printing.line(f"layer: {', '.join(result['layers'])}; method: {result['method']}; {_times(seconds)}")
    printing.line(f"wrote: {', '.join(result['files'])}")


def _times(seconds: dict[str, float]) -> str:
    return ", ".join(f"{step} {printing.duration(value)}" for step, value in seconds.items())


def _explainer(options: argparse.Namespace) -> Explainer:
    import cam_onnx

    return cam_onnx.Explainer(
        options.model, layers=options.layer, score=options.score, method=options.method,
        preprocess=_preprocess(options), labels=options.labels, backend=options.backend,
        providers=_providers(options),
    )  # fmt: skip


def _providers(options: argparse.Namespace) -> list[str] | None:
    return options.providers.split(",") if options.providers else None


def _preprocess(options: argparse.Namespace) -> Preprocess | None:
    base = read_preprocess(options.preprocess)
    given = {f.name: getattr(options, f.name) for f in fields(Preprocess)}
    given = {name: value for name, value in given.items() if value is not None}
    return replace(base or Preprocess(), **given) if given else base


def _target(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _shape(shape: tuple[int | str | None, ...] | None) -> str:
    return "?" if shape is None else " x ".join("?" if d is None else str(d) for d in shape)
