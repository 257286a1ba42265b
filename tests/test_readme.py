"""README says what is: its examples run, its tables are the registries', its links exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?P<mark><!-- alone -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [match.groupdict() for match in BLOCK.finditer(README)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder as README's reader has it, plus the pixels that the last example reads."""
    from cam_onnx.render import image

    path = tmp_path_factory.mktemp("readme")
    (path / "models").symlink_to(ROOT / "models")
    picture = image.load(ROOT / "models" / "pictures" / "chelsea.png").pixels
    np.save(path / "pixels.npy", image.resize(picture, (224, 224), "bicubic"))
    return path


def python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_library_examples_run_and_the_last_one_alone(folder):
    together = [b["code"] for b in BLOCKS if b["language"] == "python" and not b["mark"]]
    [alone] = [b["code"] for b in BLOCKS if b["mark"]]
    assert len(together) == 2
    checks = "\nassert e.top(1)[0][0][1] == 'Egyptian cat' and e.saliency.shape == (1, 7, 7) and len(both) == 2"
    python("\n".join(together) + checks, folder)
    assert len(list((folder / "out").iterdir())) >= 4

    absent = "for name in ('cam_onnx', 'onnx', 'onnx_ir', 'cv2', 'rich'): sys.modules[name] = None\n"
    assert python(absent + alone, folder) == "[285] (1, 7, 7)\n"


def test_the_commands_run(folder, monkeypatch, capsys):
    from cam_onnx.cli import main

    monkeypatch.chdir(folder)
    lines = [line for b in BLOCKS if b["language"] == "console" for line in b["code"].splitlines()]
    lines = [line for line in lines if line.startswith("cam-onnx")]
    assert {shlex.split(line)[1] for line in lines} == {"explain", "convert", "inspect", "methods"}
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, (line, capsys.readouterr().err)
    for name in ("cat.png", "coffee.png", "model.cam.onnx"):
        assert (folder / name).stat().st_size > 0


def test_the_tables_are_the_registries():
    from tools.readme import filled

    assert filled(README) == README, "run: python tools/readme.py --write"


def test_the_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", README, re.MULTILINE)) == {"demo", "test"} <= targets


def test_the_links_and_pictures_exist():
    for name in ("README.md", "CONTRIBUTING.md", "models/README.md"):
        path = ROOT / name
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{name} points to {link}"
