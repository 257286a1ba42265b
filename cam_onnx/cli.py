"""The command line: options, and the one place where an error becomes a line and an exit code.

argparse alone, so that ``--help`` is immediate: what a command needs is imported when it runs (`commands`).
Exit codes: 2 bad input, 1 failed on the way, 130 and 143 interrupted, 141 nobody reads what we print.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any

from cam_onnx import __version__
from cam_onnx.errors import CamOnnxError, shown
from cam_onnx.limits import DEFAULTS
from cam_onnx.parsing import Parser, numbers, size, threshold
from cam_onnx.preprocess import CHANNELS, DTYPES, FITS, INTERPOLATIONS, LAYOUTS
from cam_onnx.presets import PRESETS

__all__ = ["main", "parser"]

COMMANDS = (
    "explain", "convert", "inspect", "operators", "methods", "targets", "colormaps", "demo", "doctor", "verify",
)  # fmt: skip


class _Terminated(BaseException):
    """SIGTERM arrived: everything between here and main cleans up as it does for Ctrl-C."""


def _subject_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=".onnx file, plain or converted")
    pictures = parser.add_argument("images", metavar="IMAGE", nargs="+", default=[], help="picture files; -: stdin")
    pictures.required = False  # with --input; "*" would take none where an option stands before the first picture
    parser.add_argument(
        "--input", action="append", metavar="NAME=FILE",
        help="a .npy file for the model's input NAME, instead of pictures or beside them; may repeat",
    )  # fmt: skip
    parser.add_argument(
        "--target", action="append", metavar="CLASS",
        help="class index or name, -1: the predicted one, top:K: the K best; a kind: `cam-onnx targets`; may repeat",
    )  # fmt: skip


def _graph_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is explained")
    group.add_argument(
        "--layer", action="append", metavar="LAYER",
        help="target layer: a value, a node, a module, a glob, last-conv, all-stages, or an index of inspect's list; "
        "may repeat",
    )  # fmt: skip
    group.add_argument("--score", metavar="NAME", help="value that holds the scores (default: found on the graph)")
    group.add_argument(
        "--method",
        metavar="NAME",
        help="`cam-onnx methods` lists them (default: by the task, grad-cam)",
    )
    group.add_argument("--fallback", action="store_true", help="instead of a refused gradient, a method without one")
    group.add_argument("--labels", metavar="FILE", help="class names, one a line, in class order")


def _preprocess_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "preprocessing", "x = (pixel * scale - mean) / std; without any: guessed, and said"
    )
    group.add_argument(
        "--preprocess", metavar="NAME|FILE",
        help=f"{', '.join(PRESETS)}, or a JSON file (./NAME is always a file); the options below change single fields "
        "of it",
    )  # fmt: skip
    group.add_argument(
        "--size", type=size, metavar="H,W", help="the network's input; H,*: as wide as the picture's aspect asks"
    )
    group.add_argument("--multiple", type=int, metavar="N", help="what --size leaves open is a multiple of N")
    group.add_argument("--fit", choices=FITS, help="how a picture gets that size")
    group.add_argument("--crop-pct", type=float, metavar="P", help="with crop: part of the shorter side that is kept")
    group.add_argument("--fill", type=float, metavar="V", help="with letterbox: pixel value around the picture")
    group.add_argument("--interpolation", choices=INTERPOLATIONS)
    group.add_argument("--channels", choices=CHANNELS)
    group.add_argument("--scale", type=float, metavar="S", help="1 leaves 0..255")
    group.add_argument("--mean", type=numbers, metavar="M[,M,M]")
    group.add_argument("--std", type=numbers, metavar="S[,S,S]")
    group.add_argument("--layout", choices=LAYOUTS)
    group.add_argument("--dtype", choices=DTYPES)


def _limit_options(parser: argparse.ArgumentParser, runs: bool) -> None:
    group = parser.add_argument_group("limits", "for files from strangers")
    names = ["max_model_bytes", "max_nodes", *(["max_pixels", "max_input_bytes"] if runs else [])]
    for name in names:
        option, default = f"--{name.replace('_', '-')}", getattr(DEFAULTS, name)
        group.add_argument(option, type=int, metavar="N", help=f"{LIMITED[name]} (default: {default:,})")
    if runs:
        group.add_argument("--timeout", type=float, metavar="S", help="seconds for each run of the network")


LIMITED = {
    "max_model_bytes": "the model's file with its external data",
    "max_nodes": "nodes of the model, its functions written out",
    "max_pixels": "width x height of a picture",
    "max_input_bytes": "a tensor of --input",
}


def _run_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it runs")
    group.add_argument("--backend", default="onnxruntime", metavar="NAME", help="onnxruntime or reference (slow)")
    group.add_argument("--providers", metavar="P[,P]", help="execution providers (default: what works)")
    group.add_argument(
        "--provider-option", action="append", metavar="P.KEY=VALUE",
        help="an option of one of them, as ONNX Runtime has it: openvino.device_type=GPU (may be repeated)",
    )  # fmt: skip
    group.add_argument("--json", action="store_true", help="print the result as JSON")


def _picture_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it looks")
    group.add_argument(
        "--colormap", metavar="NAME", help="`cam-onnx colormaps` lists them (default: jet; signed: blue-white-red)"
    )
    group.add_argument("--alpha", type=float, default=0.5, metavar="A", help="share of the heatmap, 0 to 1")
    group.add_argument(
        "--regions", nargs="?", type=threshold, const=True, default=False, metavar="THRESHOLD",
        help="outline and list the warm areas: where the map is at least THRESHOLD (default: 0.5); put it last",
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    root = Parser(prog="cam-onnx", description="Where does an ONNX model look?", allow_abbrev=False)
    root.add_argument("--version", action="version", version=f"cam-onnx {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.add_argument("-q", "--quiet", action="store_true", help="no notes and no progress on stderr")
        added.add_argument("--traceback", action="store_true", help="show where an error comes from")
        return added

    explain = command("explain", "Show where MODEL looks when it scores IMAGE.")
    _subject_options(explain)
    explain.add_argument(
        "-o", "--out", metavar="OUT",
        help="a file: the overlay of one picture; a folder (with a trailing slash it is created): overlay, heatmap, "
        "raw saliency, explanation.json of each; none: <picture>.cam.png here",
    )  # fmt: skip
    explain.add_argument("--option", action="append", metavar="NAME=VALUE", help="of the method; may repeat")
    explain.add_argument(
        "--smooth", choices=("aug", "eigen", "noise"),
        help="aug: over flips and scales turned back; noise: over noisy pictures; eigen: the first component",
    )  # fmt: skip
    explain.add_argument("--fusion", choices=("mean", "product", "max"), default="mean", help="of several layers' maps")
    _graph_options(explain)
    _preprocess_options(explain)
    _picture_options(explain)
    explain.add_argument(
        "--figure", metavar="FILE",
        help="also draw picture, heatmap and overlay side by side with a colour bar (.png, .pdf, .svg, ...); needs the "
        "extra cam-onnx[plot]",
    )  # fmt: skip
    _run_options(explain)
    _limit_options(explain, runs=True)

    verify = command(
        "verify", "Compare MODEL's gradients with differences of the score, its outputs with the original's."
    )
    _subject_options(verify)
    verify.add_argument("--exact", action="store_true", help="let outputs fail that differ by rounding")
    _graph_options(verify)
    _preprocess_options(verify)
    _run_options(verify)
    _limit_options(verify, runs=True)

    convert = command("convert", "Write MODEL with activations, gradients and scores as further outputs.")
    convert.add_argument("model", metavar="MODEL", help=".onnx file")
    convert.add_argument("-o", "--out", metavar="FILE", help="default: MODEL with .cam.onnx, beside it")
    convert.add_argument(
        "--target-input", choices=("optional", "required"), default="optional",
        help="optional: old callers keep their feeds; required: the only form that ONNX Runtime Web, Node, Java and "
        "OpenVINO honour",
    )  # fmt: skip
    convert.add_argument("--option", action="append", metavar="NAME=VALUE", help="of the method; may repeat")
    convert.add_argument("--target", metavar="KIND", help="the kind of score: `cam-onnx targets` (default: a logit)")
    convert.add_argument(
        "--reconvert", action="store_true", help="MODEL may be converted already: start from the original in it"
    )
    _graph_options(convert)
    _preprocess_options(convert)
    _limit_options(convert, runs=False)

    inspect = command("inspect", "Show inputs, outputs, score, candidate layers, and what is not supported.")
    inspect.add_argument("model", metavar="MODEL", help=".onnx file")
    inspect.add_argument("--score", metavar="NAME", help="value that holds the scores (default: found on the graph)")
    inspect.add_argument("--all", action="store_true", help="list every candidate layer, also where there are many")
    inspect.add_argument("--json", action="store_true", help="print the report as JSON")
    _limit_options(inspect, runs=False)

    operators = command(
        "operators", "List the operators with a derivative, and how; of MODEL those on the way to its score."
    )
    operators.add_argument("model", metavar="MODEL", nargs="?", help=".onnx file (default: all of ai.onnx)")
    operators.add_argument("--score", metavar="NAME", help="value that holds the scores (default: found on the graph)")
    operators.add_argument("--json", action="store_true", help="print the list as JSON")
    _limit_options(operators, runs=False)

    methods = command("methods", "List the methods.")
    methods.add_argument("--json", action="store_true", help="print the list as JSON")

    command("targets", "List the kinds of scores that --target takes.")
    colormaps = command("colormaps", "List the colour maps; with -o as a picture.")
    colormaps.add_argument("-o", "--out", metavar="FILE", help="a picture with a labelled strip of each")

    demo = command("demo", "Explain two bundled pictures with the bundled network.")
    demo.add_argument("-o", "--out", metavar="FOLDER", default="demo/", help="created if missing (default: demo/)")
    _picture_options(demo)
    _run_options(demo)
    _limit_options(demo, runs=True)

    doctor = command("doctor", "Examine the installation: what is there, what works, how to repair what does not.")
    doctor.add_argument("--providers", metavar="P[,P]", help="execution providers to try (default: what works)")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _printable()
    given = list(sys.argv[1:] if argv is None else argv)
    previous = _on_sigterm()
    try:
        return _run(parser().parse_args(given))
    except SystemExit as ended:  # argparse: --help, --version, a wrong option
        return int(ended.code or 0)
    except BrokenPipeError:
        _silence()
        return 141
    except KeyboardInterrupt:
        print("cam-onnx: interrupted", file=sys.stderr)
        return 130
    except _Terminated:
        print("cam-onnx: terminated", file=sys.stderr)
        return 143
    except Exception as error:  # noqa: BLE001  (a defect of ours: one line as well)
        if "--traceback" in given:
            traceback.print_exc()
        print(f"cam-onnx: {_one_line(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, CamOnnxError) else 1
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def _run(arguments: argparse.Namespace) -> int:
    from cam_onnx import commands, printing

    printing.be_quiet(arguments.quiet)
    code: int = getattr(commands, arguments.command)(arguments)
    sys.stdout.flush()  # a closed pipe is noticed here, not at exit
    return code


def _one_line(error: BaseException) -> str:
    if isinstance(error, CamOnnxError):
        # long lists (missing operators) keep their lines; nothing in them can control the terminal
        return "\n".join(shown(part, limit=2000) for part in str(error).split("\n"))
    if isinstance(error, MemoryError):
        return "out of memory"
    text = shown(str(error).partition("\n")[0])
    if isinstance(error, ImportError):
        return f"the installation is not complete: {text}; cam-onnx doctor says how to repair it"
    return f"unexpected {type(error).__name__}: {text}; please report it with what --traceback shows"


def _printable() -> None:  # in locale C a name from a file may not be encodable
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _silence() -> None:  # the interpreter flushes stdout once more at exit
    os.dup2(devnull := os.open(os.devnull, os.O_WRONLY), 1)
    os.close(devnull)


def _on_sigterm() -> Any:
    if threading.current_thread() is not threading.main_thread():
        return None

    def terminate(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    return signal.signal(signal.SIGTERM, terminate)
