"""The commands: options in, one call of the library, one way of printing. Errors are `cli.main`'s."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from cam_onnx import arguments, bundled, files, printing
from cam_onnx.errors import InputError, shown
from cam_onnx.listing import colormaps, layers, methods, operators, sizes, targets
from cam_onnx.places import Place, check_figure, plan
from cam_onnx.preprocess import Preprocess
from cam_onnx.progress import Progress
from cam_onnx.refused import Refused

if TYPE_CHECKING:
    from cam_onnx.explainer import Explainer, Explanation
    from cam_onnx.render.figure import Row

__all__ = [
    "colormaps", "convert", "demo", "doctor", "explain", "inspect", "methods", "operators", "targets", "verify",
]  # fmt: skip


def explain(options: argparse.Namespace) -> int:
    """Explain pictures; exit code 1 where a map is NaN, or one picture among several cannot be read."""
    names, several = arguments.subjects(options)
    is_new = options.out and not os.path.lexists(options.out)
    try:
        places = plan(names, options.out, several)
        if options.figure:
            check_figure(options.figure, places, arguments.explanations(options))
        with Progress("preparing the model"):
            explainer = arguments.explainer(options)
        return _explain(explainer, places, options)
    finally:
        if is_new:
            with suppress(OSError):
                os.rmdir(options.out)  # a folder that was made for nothing; what holds a result stays


def convert(options: argparse.Namespace) -> int:
    """Write the converted file."""
    import cam_onnx

    out = options.out or f"{options.model.removesuffix('.onnx')}.cam.onnx"
    if os.path.realpath(out) == os.path.realpath(options.model):
        raise InputError(f"{shown(out)} is the model itself: choose another name with -o")
    files.check_writable(out)
    with Progress("converting the model"):
        converted = cam_onnx.convert(
            options.model, layers=options.layer, score=options.score, method=options.method,
            target=options.target, preprocess=arguments.preprocess(options), labels=options.labels,
            target_input=options.target_input, reconvert=options.reconvert, fallback=options.fallback,
            limits=arguments.limits(options), options=arguments.method_options(options),
        )  # fmt: skip
    for text in [*converted.notes, *filter(None, [converted.contract.origin.get("guess")])]:
        printing.note(text)
    if options.target_input == "optional":
        printing.note(
            "the input cam_target is optional: ONNX Runtime's Python, C, C++ and C# honour it; for Web, Node, Java "
            "and OpenVINO use --target-input required"
        )
    converted.save(out)
    layers = ", ".join(layer.name for layer in converted.contract.layers)
    printing.line(f"{out}: layer {layers}, score {converted.contract.score}")
    contract = converted.contract
    _print_origin(None if contract.preprocess is None else asdict(contract.preprocess), contract.origin)
    return 0


def inspect(options: argparse.Namespace) -> int:
    """Print what a model is and what can be explained in it."""
    from cam_onnx.graph.inspect import inspect as look

    report = look(options.model, score=options.score, limits=arguments.limits(options))
    if options.json:
        printing.dump(asdict(report))
        return 0
    kind = "converted by cam_onnx" if report.converted else "not converted"
    printing.line(f"{options.model}: opset {report.opset}, IR version {report.ir_version}, {kind}")
    for title, values in (("inputs", report.inputs), ("outputs", report.outputs)):
        printing.table(["name", "type", "shape"], [(v.name, v.dtype, sizes(v.shape)) for v in values], title)
    if report.task:
        printing.line(f"task: {report.task}: {report.task_why}")
    of = f", target {report.target}" if report.score and report.target != "class" else ""
    score = ", ".join([report.score, *report.beside]) if report.score else "not found, name one with --score"
    printing.line(f"score: {score}{of}")
    layers(report, options.all)
    _print_origin(None if report.preprocess is None else asdict(report.preprocess), report.origin)
    for text in report.unsupported:
        printing.line(f"no gradient rule for {text}")
    if report.runtime_only:
        printing.line(f"runs in ONNX Runtime only, for its own operators: {', '.join(report.runtime_only)}")
    for text in report.notes:
        printing.note(text)
    for text in report.problems:
        printing.warning(text)
    return 0


def demo(options: argparse.Namespace) -> int:
    """Explain the bundled pictures with the bundled network."""
    import cam_onnx

    home = bundled.home()
    pictures = sorted(str(path) for path in (home / "pictures").iterdir())
    places = plan(pictures, os.path.join(options.out, ""))
    explainer = cam_onnx.Explainer(
        str(home / "efficientnet-lite0.onnx"), preprocess=str(home / "efficientnet-lite0.json"),
        labels=str(home / "imagenet_labels.txt"), backend=options.backend, providers=arguments.providers(options),
        limits=arguments.limits(options),
    )  # fmt: skip
    options.target, options.figure, options.fusion, options.smooth = None, None, "mean", None
    return _explain(explainer, places, options)


def doctor(options: argparse.Namespace) -> int:
    """Examine the installation; exit code 1 where something does not work."""
    from cam_onnx.doctor import examine

    findings = examine(arguments.providers(options))
    states = [finding.state for finding in findings]
    if options.json:
        printing.dump({"sound": "problem" not in states, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:  # no table: what draws one may be what is missing
            printing.line(f"{finding.state:8} {finding.check:11} {finding.what}")
            if finding.repair:
                printing.line(f"{'':8} {'repair:':>11} {finding.repair}")
        printing.line(f"problems: {states.count('problem')}, warnings: {states.count('warning')}")
    return int("problem" in states)


def verify(options: argparse.Namespace) -> int:
    """Compare gradients with differences, and both files' outputs; exit code 1 where something does not hold."""
    subject: dict[str, Any] = {"inputs": arguments.tensors(options)} if options.input else {}
    if options.images:
        subject["images"] = options.images
    with Progress("preparing the model"):
        explainer = arguments.explainer(options)
    count = len(explainer.contract.layers) * max(1, len(options.images)) * max(1, len(options.target or ()))
    with Progress("verifying", total=count) as progress:
        found = explainer.verify(
            **subject, target=arguments.targets(options), exact=options.exact, progress=progress.after(0)
        )
    for text in found.notes:
        printing.note(text)
    if options.json:
        printing.dump(found.to_dict())
        return int(not found.ok)
    headers = ["layer", "input", "target", "verdict", "largest error", "runs"]
    printing.table(headers, found.rows(), f"runs on {found.provider}")
    for text in found.sentences():
        printing.line(text)
    return int(not found.ok)


def _explain(explainer: Explainer, places: Sequence[Place], options: argparse.Namespace) -> int:
    from cam_onnx.render import figure
    from cam_onnx.showing import figure_rows

    results: list[dict[str, Any]] = []
    rows: list[Row] = []
    said: set[str] = set()
    failed, colours = False, "jet"
    refused = Refused(len(places), explainer.limits)
    targets = arguments.explanations(options)
    with Progress("explaining", total=len(places) * targets) as progress:
        for place in places:
            tell = progress.after(len(results))
            subject = arguments.subject(options, place)
            call = partial(
                explainer.explain,
                **subject,
                target=arguments.targets(options, place.picture),
                fusion=options.fusion,
                smooth=options.smooth,
                progress=tell,
            )
            explanation = refused.attempt(place.picture, call, progress)
            if explanation is None:
                continue
            written = _write(explanation, place, options)
            failed |= bool((explanation.saliency != explanation.saliency).any())  # NaN
            if options.figure:
                colours = explanation.colours(options.colormap)
                rows += figure_rows(explanation, options.alpha, colours, options.regions)
            with progress.aside():
                for text in explanation.notes:
                    if text not in said:
                        printing.note(text)
                said.update(explanation.notes)
                for reason in filter(None, explanation.reasons):
                    printing.warning(f"{place.picture}: {reason}")
                for i in range(len(explanation)):
                    found = explanation[i].to_dict(options.regions)
                    results.append({**found, "picture": place.picture, "files": written})
                    if not options.json:
                        _print(results[-1], len(results) == 1, explanation.pictures[i] is not None)
            if explanation.interrupted:
                raise KeyboardInterrupt  # what is done is written
    if options.figure and rows:
        with Progress("drawing the figure"):
            figure.save(options.figure, figure.figure(rows, colours))
        for result in results:
            result["figure"] = options.figure
    if options.json:
        printing.dump([*results, *refused.entries])
    elif options.figure and rows:
        printing.line()
        printing.line(f"figure: {options.figure}")
    return refused.code() or int(failed)


def _write(explanation: Explanation, place: Place, options: argparse.Namespace) -> list[str]:
    from cam_onnx.render import image

    if place.folder is not None:
        return explanation.save(place.folder, alpha=options.alpha, colormap=options.colormap, regions=options.regions)
    assert place.file is not None
    if len(explanation) > 1 or (not explanation.has_overlay and explanation.drawn(0).ndim != 2):
        raise InputError(f"{place.picture}: its map is not one picture; give -o a folder, such as -o out/")
    if explanation.has_overlay:
        image.save(place.file, explanation.overlay(options.alpha, options.colormap, options.regions))
    else:
        image.save(place.file, explanation.heatmap(options.colormap))
    return [str(place.file)]


def _print_origin(settled: Mapping[str, Any] | None, origin: Mapping[str, str]) -> None:
    """Print what pictures and classes are taken for, and where that is from."""
    from cam_onnx.sources.gather import spoken

    if settled is not None:
        printing.line(f"preprocessing: {spoken(Preprocess(**settled))} ({origin.get('preprocess', 'given')})")
    if "labels" in origin:
        printing.line(f"labels: {origin['labels']}")


def _print(result: dict[str, Any], first: bool, has_picture: bool = True) -> None:
    seconds = dict(result["seconds"])
    once = {step: seconds.pop(step) for step in ("read", "convert", "session") if step in seconds}
    if first:
        printing.line(f"runs on {result['provider']}; {_times(once)}")
        _print_origin(result["preprocess"] if has_picture else None, result["origin"])
    target = result["target"]
    printing.line()
    title = "standard input" if result["picture"] == "-" else result["picture"]
    if len(result["top"]) == 1:  # nothing was chosen
        [only] = result["top"]
        what = "value" if target["probability"] is None else "probability"
        printing.table([what], [(only["probability"],)], title)
    else:
        rows = [(entry["name"], entry["index"], entry["probability"]) for entry in result["top"]]
        shown_as = target["kind"] if target["kind"] in ("area", "peak") else "probability"
        printing.table(["class", "index", shown_as], rows, title)
    named = len(result["top"]) > 1 and target["explained"] == target["name"]
    index = f" ({target['index']})" if named else ""
    printing.line(f"explained: {target['explained']}{index}, score {target['score']:.3f}")
    printing.line(f"layer: {', '.join(result['layers'])}; method: {result['method']}; {_times(seconds)}")
    if "regions" in result:
        _print_regions(result["regions"])
    printing.line(f"wrote: {', '.join(result['files'])}")


def _print_regions(regions: dict[str, Any]) -> None:
    rows = [
        (" ".join(map(str, r["box"])), r["area"], r["share"], f"{r['peak']['x']} {r['peak']['y']}")
        for r in regions["found"]
    ]
    title = f"warm areas, at least {regions['threshold']:g} of the map's scale"
    if rows:
        printing.table(["box x0 y0 x1 y1", "pixels", "share of the map", "peak x y"], rows, title)
    else:
        printing.line(f"{title}: none")


def _times(seconds: dict[str, float]) -> str:
    return ", ".join(f"{step} {printing.duration(value)}" for step, value in seconds.items())
