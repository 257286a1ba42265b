"""The wheel holds the package and the demo, and the sdist makes the same wheel. No network, no pip."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import cam_onnx

pytest.importorskip("hatchling")
ROOT = Path(__file__).parent.parent


def build(source: Path, target: str, out: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    [built] = out.iterdir()
    return built


def contents(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


@pytest.mark.slow
def test_the_wheel_holds_the_demo_and_the_sdist_makes_the_same_wheel(tmp_path):
    wheel = contents(build(ROOT, "wheel", tmp_path / "wheel"))
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cam_onnx").rglob("*.py")}
    demo = {"efficientnet-lite0.onnx", "efficientnet-lite0.json", "imagenet_labels.txt"}
    demo |= {"pictures/chelsea.png", "pictures/coffee.png"}
    assert package | {"cam_onnx/py.typed"} | {f"cam_onnx/_demo/{name}" for name in demo} <= set(wheel)
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    assert any(name.endswith("licenses/models/LICENSE-efficientnet-lite0") for name in wheel)
    assert not any(name.startswith(("tests/", "models/", "tools/", "benchmarks/")) for name in wheel)

    sdist = build(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    [source] = (tmp_path / "source").iterdir()
    assert contents(build(source, "wheel", tmp_path / "again")) == wheel


def test_no_runtime_is_required_and_the_two_are_not_pinned_to_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not any("onnxruntime" in requirement for requirement in project["dependencies"])
    extras = project["optional-dependencies"]
    assert all("==" not in requirement.split(";")[0] for requirement in extras["gpu"] + extras["cpu"])
    assert not any("gpu" in name and name != "gpu" for name in extras)


def test_what_names_versions_agrees_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = {
        name.split()[-1] for name in project["classifiers"] if name.startswith("Programming Language :: Python :: 3.")
    }
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert set(re.findall(r'"(3\.\d+)"', workflow)) == supported
    assert "bash .ci/run" in workflow
    assert f"\nversion: {cam_onnx.__version__}\n" in (ROOT / "CITATION.cff").read_text()
