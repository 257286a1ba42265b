"""Run the examples of docs/, and put what they print below them.

    python -m tools.examples            say which page is not what its examples print
    python -m tools.examples --write    write it, README's tables and the drawings: all that is generated

One process and one working folder a page, so that examples build on one another as a reader's do. A comment in
front of a block says what is done with it:

    (none)          python and console blocks run; of console, what is not cam-onnx's is left out
    <!-- raises --> the python block must raise a CamOnnxError
    <!-- alone -->  the python block runs in a process of its own where cam_onnx, onnx and OpenCV are missing
    <!-- prints --> the block is what the one before it printed (or raised)
    <!-- from: F -> the block stands in file F, letter by letter
    <!-- part -->   the python block is not a whole program, or not for this machine: it is not run

Tables between ``<!-- methods:begin -->`` and its end are the registries', as in README.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cam_onnx import files

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>alone|raises|prints|part|from: \S+) -->\n)?```(?P<language>[\w{}-]*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ABSENT = "import sys\nfor name in ('cam_onnx', 'onnx', 'onnx_ir', 'cv2', 'rich'): sys.modules[name] = None\n"
TIME = re.compile(r"\b[\d.,]+ (?:ms|s)\b")  # differs between runs
# What differs between machines as well: last digits, the provider.
VARIES = re.compile(rf"{TIME.pattern}|\d+\.\d+|\b\w+ExecutionProvider\b")
READER = {  # what a reader has: name in the examples, file of ours
    "model.onnx": "efficientnet-lite0.onnx",
    "cat.png": "pictures/chelsea.png",
    "preprocess.json": "efficientnet-lite0.json",
    "labels.txt": "imagenet_labels.txt",
}


def presets() -> str:
    """Return one row a preset."""
    from cam_onnx.presets import PRESETS

    rows = ["| preset | x from pixels 0..255 | size | who trains like that |", "|---|---|---|---|"]
    for name, preset in PRESETS.items():
        p = preset.preprocess
        fit = f"{p.fit} {p.crop_pct:g}" if p.fit == "crop" else p.fit
        rows.append(f"| `{name}` | `{preset.formula}` | {fit}, {p.interpolation} | {preset.users} |")
    return "\n".join(rows)


def formulas() -> str:
    """Return one row a method: its docstring down to the parameters, two paragraphs at most."""
    from cam_onnx.methods import METHODS

    rows = ["| name | the map, before ReLU |", "|---|---|"]
    for method in METHODS.values():
        said = (inspect.getdoc(method.function) or "").partition("\nParameters\n")[0].split("\n\n")[:2]
        text = " ".join(" ".join(said).split()).replace("``", "`").replace("|", "\\|")
        rows.append(f"| `{method.name}` | {text} |")
    return "\n".join(rows)


def options() -> str:
    """Return one row a method that has options."""
    from cam_onnx.methods import METHODS

    rows = ["| method | options and their defaults |", "|---|---|"]
    for method in METHODS.values():
        if method.options:
            listed = ", ".join(f"`{name}={default!r}`" for name, default in method.options.items())
            rows.append(f"| `{method.name}` | {listed} |")
    return "\n".join(rows)


def targets() -> str:
    """Return one row a kind of target."""
    from cam_onnx.words import WORDS

    return "\n".join(
        ["| word | what is explained |", "|---|---|", *(f"| `{w}` | {text} |" for w, text in WORDS.items())]
    )


def exporters() -> str:
    """Return one row a spelling of the seeded network."""
    from models.exporters import SPELLINGS

    rows = ["| exporter | opset | IR | what is special | after | spelling |", "|---|---:|---:|---|---|---|"]
    rows += [f"| {s.exporter} | {s.opset} | {s.ir} | {s.special} | {s.after} | `{n}` |" for n, s in SPELLINGS.items()]
    return "\n".join(rows)


def tables() -> dict[str, Callable[[], str]]:
    """Return what fills the places for tables; imported here, so that a child process starts quickly."""
    from tools import floors, readme

    return {
        **readme.TABLES,
        "formulas": formulas,
        "options": options,
        "targets": targets,
        "presets": presets,
        "exporters": exporters,
        "floors": floors.table,
    }


def pages() -> list[Path]:
    """Return every page of the site."""
    return sorted(DOCS.glob("*.md"))


def filled(text: str, exact: bool = False) -> str:
    """Return a page with its tables and outputs as they are now; running it takes a few seconds.

    What differs between machines alone is left as it stands; `exact`: what differs between runs alone.

    Raises
    ------
    RuntimeError
        An example fails, raises nothing where it should, or is not what the named file says.
    """
    for name, table in tables().items():
        pattern = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        text = pattern.sub(lambda m, table=table: f"{m[1]}{table()}\n{m[2]}", text)  # type: ignore[misc]
    blocks = list(BLOCK.finditer(text))
    printed = iter(_run([(b["mark"] or "", b["language"], b["code"]) for b in blocks if _runs(b)]))
    varies = TIME if exact else VARIES
    last, parts, end = "", [], 0
    for block in blocks:
        if _runs(block):
            last = next(printed)
        elif block["mark"] == "prints" and varies.sub("", last) != varies.sub("", block["code"]):
            parts += [text[end : block.start("code")], last]
            end = block.end("code")
        elif (block["mark"] or "").startswith("from: "):
            path = ROOT / block["mark"][6:]
            if block["code"] not in path.read_text(encoding="utf-8"):
                raise RuntimeError(f"{path.name} does not have these lines any more:\n{block['code']}")
    return "".join(parts) + text[end:]


def _runs(block: re.Match[str]) -> bool:
    return block["language"] in ("python", "console") and block["mark"] in (None, "raises", "alone")


def _run(steps: list[tuple[str, str, str]]) -> list[str]:
    """Return what each step printed."""
    if not steps:
        return []
    with tempfile.TemporaryDirectory() as folder:
        for name, source in {**READER, "models": ""}.items():
            (Path(folder) / name).symlink_to(ROOT / "models" / source)
        command = [sys.executable, "-c", "from tools.examples import child; child()"]
        start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
        command[2] = start + command[2]
        done = subprocess.run(
            command, cwd=folder, input=json.dumps(steps), capture_output=True, text=True, timeout=300
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: list[str] = json.loads(done.stdout)
    return found


def child() -> None:
    """Run the steps on standard input, in one namespace, and write what each printed to standard output."""
    from cam_onnx import CamOnnxError

    space: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for number, (mark, language, code) in enumerate(json.load(sys.stdin), start=1):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            if language == "console":
                _console(code)
            elif mark == "alone":
                done = subprocess.run([sys.executable, "-c", ABSENT + code], capture_output=True, text=True)
                if done.returncode:
                    raise RuntimeError(done.stderr)
                print(done.stdout, end="")
            else:
                try:
                    exec(compile(code, f"example {number}", "exec"), space)
                except CamOnnxError as error:
                    if mark != "raises":
                        raise
                    print(f"{type(error).__name__}: {error}")
                else:
                    if mark == "raises":
                        raise RuntimeError(f"this raises nothing:\n{code}")
        printed.append(out.getvalue())
    json.dump(printed, sys.stdout)


def _console(code: str) -> None:
    from cam_onnx.cli import main as command_line

    for line in code.replace("\\\n", "").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["cam-onnx"] and command_line(words[1:]) != 0:
            raise RuntimeError(f"{line} fails")


def main() -> int:
    """Compare, or write."""
    from tools import draw, floors, readme

    differ, write = [], "--write" in sys.argv[1:]
    if write:
        readme.main()
        draw.main(["--docs"])
        floors.main()
    for path in pages():
        text = path.read_text(encoding="utf-8")
        try:
            new = filled(text, exact=write)
        except RuntimeError as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            return 1
        if new != text:
            differ.append(path.name)
            if write:
                files.write(path, new.encode())
    if differ:
        print(f"{'written' if write else 'differ'}: {', '.join(differ)}", file=sys.stderr)
    return int(bool(differ) and not write)


if __name__ == "__main__":
    sys.exit(main())
