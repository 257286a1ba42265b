"""The doctor: every illness by a faked record or a broken package on the path; a sound installation as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import onnx
import pytest

from cam_onnx import distributions, doctor, probes
from cam_onnx.engine import providers, trial
from cam_onnx.errors import RunFailed

ROOT = Path(__file__).parent.parent
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def records(monkeypatch):
    """Let pip's records be what the test says: owners of the folders, by distribution and version."""

    def say(gone: str = "", **owners: dict[str, str]) -> None:
        versions = {name: number for found in owners.values() for name, number in found.items()}

        def version(name: str) -> str:
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        # the real function repeats a name whose files are listed twice
        monkeypatch.setattr(
            metadata, "packages_distributions", lambda: {folder: [*names, *names] for folder, names in owners.items()}
        )
        monkeypatch.setattr(metadata, "version", version)
        monkeypatch.setattr(metadata, "distributions", lambda: iter(()))
        monkeypatch.setattr(util, "find_spec", lambda name: object() if name in owners and name not in gone else None)

    return say


GPU, PLAIN = {"onnxruntime-gpu": "1.31.1"}, {"onnxruntime": "1.32.0"}
FULL, HEADLESS, CONTRIB = ({f"opencv{kind}": "5.0.0.93"} for kind in ("-python", "-python-headless", "-contrib-python"))


@pytest.mark.parametrize(
    ("check", "found", "state", "words", "repair"),
    [
        ("runtime", {"onnxruntime": PLAIN}, "ok", "onnxruntime 1.32.0", ""),
        ("runtime", {"onnxruntime": GPU}, "ok", "onnxruntime-gpu 1.31.1", ""),
        (
            "runtime", {"onnxruntime": PLAIN | GPU}, "problem", "onnxruntime 1.32.0, onnxruntime-gpu 1.31.1 share",
            "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu",
        ),
        (
            "runtime", {"onnxruntime": PLAIN | {"onnxruntime-openvino": "1.24"}}, "problem", "share one folder",
            "pip uninstall -y onnxruntime onnxruntime-openvino, then pip install onnxruntime",
        ),
        ("runtime", {"onnxruntime": {}}, "ok", "pip does not know of it", ""),
        ("runtime", {}, "problem", "not installed", doctor.INSTALL),
        ("session", {}, "warning", "not tried", "install one"),
        ("opencv", {"cv2": FULL}, "ok", "opencv-python 5.0.0.93", ""),
        ("opencv", {"cv2": HEADLESS}, "ok", "opencv-python-headless 5.0.0.93", ""),
        (
            "opencv", {"cv2": FULL | HEADLESS}, "problem", "share one folder, cv2/",
            "pip uninstall -y opencv-python opencv-python-headless, then pip install opencv-python",
        ),
        (
            "opencv", {"cv2": FULL | CONTRIB}, "problem", "share one folder, cv2/",
            "pip uninstall -y opencv-contrib-python opencv-python, then pip install opencv-contrib-python",
        ),
        (
            "opencv", {"cv2": HEADLESS, "gone": "cv2"}, "problem", "headless 5.0.0.93: its files are gone",
            "pip install --force-reinstall --no-deps opencv-python-headless",
        ),
        (
            "runtime", {"onnxruntime": GPU, "gone": "onnxruntime"}, "problem", "its files are gone",
            "pip install --force-reinstall --no-deps onnxruntime-gpu",
        ),
        ("opencv", {"cv2": {}}, "ok", "pip does not know of it", ""),
        ("opencv", {}, "problem", "not installed", "pip install opencv-python, or opencv-python-headless on a server"),
        ("pictures", {}, "warning", "not tried", "install it"),
    ],
)  # fmt: skip
def test_what_the_records_of_pip_say(check, found, state, words, repair, records):
    records(**found)
    finding = getattr(doctor, check)()
    assert (finding.check, finding.state, finding.repair) == (check, state, repair)
    assert words in finding.what


SOUND = {
    "version": "1.31.1", "cuda": "13.0", "available": [CUDA, CPU], "devices": [], "tried": [CPU], "got": [CPU],
    "note": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "gpus", "state", "words", "repair"),
    [
        ({}, 0, "ok", "available CUDA, CPU; asked for CPU (default); got CPU", ""),
        (dict(tried=[CUDA, CPU], got=[CUDA, CPU]), 1, "ok", "asked for CUDA, CPU (default); got CUDA, CPU", ""),
        (
            dict(tried=[CUDA, CPU], note=f"{CUDA} is not used: it could not be started"), 1, "warning",
            "got CPU; devices not listed (CUDAExecutionProvider is not used", "install CUDA 13.0 and cuDNN",
        ),
        (dict(note=f"{CUDA} is not used: the driver reports no NVIDIA GPU"), 0, "warning", "no NVIDIA GPU", "choose"),
        (dict(available=[CPU]), 1, "warning", "GPU is not used", "uninstall -y onnxruntime, then pip install"),
        (dict(available=[CPU], devices=[{"kind": "CPU", "vendor": "AMD"}]), 0, "ok", "devices CPU (AMD)", ""),
    ],
)  # fmt: skip
def test_what_a_session_gets(found, gpus, state, words, repair, records, monkeypatch):
    """With what the probe would find on other machines; nothing is asked of a GPU here."""
    records(onnxruntime=PLAIN)
    monkeypatch.setattr(doctor, "probe", lambda name, asked: SOUND | found)
    monkeypatch.setattr(providers, "cuda_devices", lambda: gpus)
    finding = doctor.session()
    assert finding.state == state
    assert words in finding.what
    assert repair in finding.repair
    assert bool(repair) == bool(finding.repair)


@pytest.mark.parametrize(
    ("driver", "gpus", "state", "words"),
    [(None, 0, "ok", "no NVIDIA driver"), ("13.0", 0, "warning", "GPUs: 0"), ("13.0", 2, "ok", "(CUDA 13.0), GPUs: 2")],
)
def test_the_driver(driver, gpus, state, words, monkeypatch):
    monkeypatch.setattr(providers, "cuda_driver", lambda: driver)
    monkeypatch.setattr(providers, "cuda_devices", lambda: gpus)
    finding = doctor.machine()
    assert finding.state == state
    assert words in finding.what
    assert sys.prefix in finding.what


def test_the_driver_that_is_there_is_asked(monkeypatch):
    """`cuda_driver` reads major and minor out of one number."""

    class Driver:
        def cuDriverGetVersion(self, version):
            version._obj.value = 12080

    monkeypatch.setattr(providers, "_driver", Driver)
    assert providers.cuda_driver() == "12.8"
    monkeypatch.setattr(providers, "_driver", lambda: (_ for _ in ()).throw(OSError))
    assert providers.cuda_driver() is None


def test_packages_that_are_missing_or_too_old_are_named(records, monkeypatch):
    records(x={"numpy": "2.4.6", "onnx": "1.20.0", "rich": "15.0.0"})
    lines = ["numpy>=1.26", "onnx>=1.21", "onnx-ir<2,>=1.0", "opencv-python>=4.8", "rich>=13", "ruff; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    finding = doctor.packages()
    assert finding.state == "problem"
    assert finding.what.startswith("onnx 1.20.0 does not meet >=1.21; onnx-ir is not installed (cam-onnx")
    assert finding.repair == 'pip install "onnx>=1.21" "onnx-ir<2,>=1.0"'
    assert finding.facts["onnx-ir"] is None


@pytest.mark.parametrize(
    ("version", "specifier", "expected"),
    [
        ("1.21.0", ">=1.21", True), ("1.21", ">=1.21.0", True), ("1.20.1", ">=1.21", False), ("1.100", ">=1.21", True),
        ("1.9", "<2,>=1.0", True), ("2.0.0", "<2,>=1.0", False), ("2.0rc1", "<2", False), ("5.0.0.93", ">=4.8", True),
        ("1.0", "", True), ("1.0", "!=1.0", True),
    ],
)  # fmt: skip
def test_a_version_meets_a_specifier(version, specifier, expected):
    assert distributions.meets(version, specifier) is expected


# What breaks when one of two distributions is removed, a system library is missing, or versions do not fit.
BROKEN = {
    "session, half removed": (
        "onnxruntime", "", doctor.session, "ONNX Runtime is broken", "--force-reinstall --no-deps onnxruntime",
    ),
    "session, does not load": (
        "onnxruntime", "raise ImportError('DLL load failed')", doctor.session, "DLL load failed", "--force-reinstall",
    ),
    "session, other errors": (
        "onnxruntime", "from sys import nothing_of_this_name", doctor.session, "nothing_of_this_name", "--force-",
    ),
    "session, attributes missing": (
        "onnxruntime", "InferenceSession = None", doctor.session, "AttributeError: module 'onnxruntime'", "--force-",
    ),
    "session, crash": (
        "onnxruntime", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", doctor.session, "ended by SIGSEGV",
        "--force-reinstall",
    ),
    "session, exit": ("onnxruntime", "import os; os._exit(3)", doctor.session, "exit code 3", "--force-"),
    "pictures, half removed": ("cv2", "", doctor.pictures, "OpenCV is broken", "--no-deps opencv"),
    "pictures, no libGL": (
        "cv2", "raise ImportError('libGL.so.1: cannot open shared object file')", doctor.pictures,
        "apt-get install libgl1", "as the line says",
    ),
    "conversion, a package of a package": (
        "onnx", "import protobufs_of_tomorrow.descriptor", doctor.conversion, "ModuleNotFoundError",
        "pip install protobufs-of-tomorrow",
    ),
    "conversion": (
        "onnx", "raise TypeError('Descriptors cannot be created directly')", doctor.conversion,
        "TypeError: Descriptors cannot", "--force-reinstall --no-deps onnx onnx-ir",
    ),
}  # fmt: skip


@pytest.mark.parametrize("illness", BROKEN)
def test_a_broken_package_is_a_finding(illness, tmp_path, monkeypatch):
    """A package of that name stands before the real one, for the probe's process as well."""
    package, code, check, words, repair = BROKEN[illness]
    if "SIGSEGV" in code and not hasattr(signal, "SIGKILL"):
        pytest.skip("no signals here")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    finding = check()
    assert finding.state == "problem"
    assert words in finding.what
    assert repair in finding.repair


def test_a_provider_that_is_not_there_is_a_problem_only_without_the_cpu_behind_it():
    alone, behind = doctor.session(["openvino"]), doctor.session(["openvino", "cpu"])
    assert (alone.state, behind.state) == ("problem", "warning")
    assert "OpenVINOExecutionProvider cannot be used" in alone.what
    assert "--providers" in alone.repair
    assert "asked for openvino, cpu; got CPU" in behind.what
    assert behind.facts["got"] == [CPU]


def test_a_check_that_fails_is_a_finding(monkeypatch):
    def packages():
        raise RuntimeError("records are damaged")

    monkeypatch.setattr(doctor, "CHECKS", (packages, doctor.telemetry))
    broken, fine = doctor.examine()
    assert (broken.check, broken.state) == ("packages", "problem")
    assert "RuntimeError: records are damaged" in broken.what
    assert fine.state == "ok"


def test_a_probe_that_hangs_or_prints(tmp_path, monkeypatch):
    (tmp_path / "onnx.py").write_text("import sys; print('noise', end='')", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(RunFailed, match=r"No module named 'onnx\."):  # the answer, not the noise
        probes.probe("conversion")
    (tmp_path / "onnx.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    with pytest.raises(RunFailed, match="no answer within 1 s"):
        probes.probe("conversion", seconds=1)


def test_the_telemetry_setting(monkeypatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    assert doctor.telemetry().what.startswith("off")
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0\x1b[31m")
    assert doctor.telemetry().what == r"as you set it: ORT_DISABLE_TELEMETRY=0\x1b[31m"


def test_the_limits_are_the_defaults(monkeypatch):
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "1000")
    finding = doctor.limits()
    assert "max_pixels 178,000,000" in finding.what
    assert "timeout none" in finding.what
    assert "OPENCV_IO_MAX_IMAGE_PIXELS=1000" in finding.what


def test_the_trial_network_is_what_its_comment_says():
    text = '<ir_version: 7, opset_import: ["": 13]> trial (float[1,1,2,2] x, float[1,1,2,2] w) => (float[1,1,1,1] y)'
    assert onnx.load_model_from_string(trial.MODEL) == onnx.parser.parse_model(text + "{ y = Conv(x, w) }")


def test_a_runtime_that_computes_wrongly_is_found(monkeypatch):
    class Engine:
        provider = "ThatExecutionProvider"

        def run(self, feeds):
            return {"y": (feeds["x"] * feeds["w"]).sum(keepdims=True) - 1}

    monkeypatch.setattr(trial, "open", lambda model, providers: Engine())
    with pytest.raises(RunFailed, match="ThatExecutionProvider computes wrongly: .* came out as 29"):
        trial.trial()


def run(*argv: str, before: str = "", command: str = "doctor") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([before, str(ROOT)] if before else [str(ROOT)])}
    line = [sys.executable, "-m", "cam_onnx", command, *argv]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment, cwd=ROOT / "tests")


def test_a_sound_installation():
    done = run("--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["sound"] is True
    by_check = {finding["check"]: finding for finding in report["findings"]}
    assert list(by_check) == [check.__name__ for check in doctor.CHECKS]
    assert all(set(finding) == {"check", "what", "state", "repair", "facts"} for finding in by_check.values())
    assert by_check["session"]["facts"]["got"][-1] == CPU
    assert by_check["pictures"]["facts"]["formats"] == [".png", ".jpg", ".jpeg", ".webp", ".bmp"]
    assert by_check["packages"]["facts"]["onnx"] == metadata.version("onnx")


def test_with_a_problem_it_is_one_screen_and_exit_code_1(tmp_path):
    for package in ("onnxruntime", "cv2", "onnx", "rich"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("", encoding="utf-8")
    done = run(before=str(tmp_path))
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (1, "")
    assert len(lines) <= 24
    assert [line.split()[1] for line in lines if line.startswith("problem ")] == ["session", "pictures", "conversion"]
    assert lines[-1].startswith("problems: 3, ")


def test_a_package_that_is_missing_sends_people_to_the_doctor(tmp_path):
    """Not a defect to report, as other surprises are."""
    (tmp_path / "onnx.py").write_text("import protobufs_of_tomorrow", encoding="utf-8")
    done = run(str(ROOT / "models" / "efficientnet-lite0.onnx"), before=str(tmp_path), command="inspect")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "cam-onnx: the installation is not complete: No module named 'protobufs_of_tomorrow'; cam-onnx doctor says how "
        "to repair it\n"
    )
