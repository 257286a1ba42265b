"""Every row of `tests.badinputs`, through the library and through the command line; and models with damaged bytes.

A row holds where the class, the exit code and the words are right, and besides: one line on stderr, no traceback, no
file left or changed, no control character printed, nothing printed by a library, no exception of another library, and
an end in time and in memory that is bounded.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cam_onnx
import cam_onnx.commands  # loaded here, since a child that is nobody cannot read it
from cam_onnx import cli
from cam_onnx.errors import CamOnnxError
from tests import badfiles
from tests.badinputs import ROWS, Row
from tests.running import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, links, users and limits are POSIX's")

NOBODY = 65534
PATIENCE = 90  # seconds for one command, on a machine that does other things as well
MEMORY = 3 << 30  # bytes of address space
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def rows(through: str) -> list[Any]:
    """Return the rows as parameters, those that do not hold yet as strict expected failures."""
    found = []
    for row in ROWS.values():
        marks = [pytest.mark.xfail(reason=row.pending, strict=True)] if row.pending else []
        marks += [pytest.mark.slow] if row.slow else []
        if (row.calls and through == "library") or (through == "command line" and not row.alone):
            found.append(pytest.param(row, marks=marks, id=row.id))
    return found


@pytest.fixture
def here(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that the row's maker has filled; its parent holds a secret."""
    row: Row = request.getfixturevalue("row")
    home = tmp_path
    if row.nobody:  # pytest's folders are closed to others
        home = Path(tempfile.mkdtemp())
        home.chmod(0o755)
    folder = home / "here"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.chdir(folder)
    badfiles.folder()
    row.make()
    yield folder
    if row.nobody:
        shutil.rmtree(home)


def snapshot(folder: Path) -> dict[str, Any]:
    """Return what is in a folder and below; of large files not every byte."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        small = path.is_file() and not path.is_symlink() and status.st_size < 1 << 20 and os.access(path, os.R_OK)
        content = path.read_bytes() if small else None
        name = path.relative_to(folder).as_posix()
        found[name] = (status.st_mode, status.st_size, path.is_dir() or status.st_mtime_ns, content)
    return found


def as_nobody(call: Callable[[], int]) -> subprocess.CompletedProcess[bytes]:
    """Run `call` in a forked child as a user who may read nothing of ours: root reads everything."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            code = 99
            try:
                for number, stream in ((1, out), (2, err)):
                    os.dup2(stream.fileno(), number)
                sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                code = call()
            except BaseException:  # noqa: BLE001  (a child must not go on as a second pytest)
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        for stream in (out, err):
            stream.seek(0)
        return subprocess.CompletedProcess([], os.waitstatus_to_exitcode(status), out.read(), err.read())


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(command: list[str | bytes]) -> subprocess.CompletedProcess[bytes]:
    """Run a command with a time limit and a memory limit."""
    return subprocess.run(
        command, capture_output=True, env=ENVIRONMENT, timeout=PATIENCE, stdin=subprocess.DEVNULL, preexec_fn=limited
    )


def printable(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


def said(row: Row) -> int:
    """Print what the calls of a row raise."""
    for call in row.calls:
        try:
            call()
        except CamOnnxError as error:
            print(type(error).__name__, error, sep=": ")
    return 0


@pytest.mark.parametrize("row", rows("library"))
def test_library(row: Row, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = snapshot(here.parent)
    if row.nobody:
        done = as_nobody(lambda: said(row))
        assert row.error is not None
        messages = done.stdout.decode().splitlines()
        assert len(messages) == len(row.calls), done.stderr.decode()
        assert all(message.startswith(f"{row.error.__name__}: ") and row.words in message for message in messages)
        return

    def hangs(*_: object) -> None:
        raise TimeoutError("this takes for ever")

    previous = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(PATIENCE)
    try:
        for call in row.calls:
            began = time.process_time()
            if row.error is None:
                call()
            else:
                with pytest.raises(CamOnnxError) as caught:
                    call()
                message = str(caught.value)
                assert type(caught.value) is row.error, message
                assert row.words in message
                assert printable(message)
            assert time.process_time() - began < row.seconds
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert capfd.readouterr() == ("", ""), "the library prints nothing"
    assert snapshot(here.parent) == before, "nothing is left or changed"


@pytest.mark.parametrize("row", rows("command line"))
def test_command_line(row: Row, here: Path) -> None:
    before = snapshot(here.parent)
    words = [word.replace("{here}", str(here)) if isinstance(word, str) else word for word in row.command]
    if row.nobody:
        done = as_nobody(lambda: cli.main([os.fsdecode(word) for word in words]))
    else:
        done = run([sys.executable, "-m", "cam_onnx", *words])
    out, err = done.stdout.decode(), done.stderr.decode()
    lines = [line for line in err.splitlines() if not line.startswith("note: ")]
    assert "Traceback" not in err
    assert "please report" not in err
    assert done.returncode == row.code, err
    assert len(lines) == row.expected_lines, err
    assert row.words in (err if row.error else out + err)
    assert printable(out + err)
    if row.error is not None:
        assert lines[0].startswith("cam-onnx")
    after = snapshot(here.parent)
    assert {name.removeprefix("here/") for name in set(after) - set(before)} == set(row.writes)
    assert {name: after[name] for name in before} == {**before, "here": after["here"]}, "nothing is changed"


def test_the_table_is_whole() -> None:
    """Every number of every group has a row, ids are in order, and a name says its group."""
    numbers = [int("".join(c for c in key if c.isdigit())) for key in ROWS]
    assert set(numbers) == set(range(1, 99))
    assert numbers == sorted(numbers)
    groups = {"A": range(1, 39), "B": range(39, 69), "C": range(69, 83), "D": range(83, 99)}
    assert all(number in groups[key[0]] for key, number in zip(ROWS, numbers, strict=True))


# -- damaged bytes ----------------------------------------------------------------------------------------------------

# Mostly in the nodes, at the start, and in the inputs, outputs and metadata, at the end: weights lie between them.
PLACES = st.integers(0, 1200) | st.integers(-700, -1) | st.integers(0, 8000)
PIECES = st.tuples(
    st.sampled_from(["change", "change", "change", "insert", "remove", "cut"]),
    PLACES,
    st.binary(min_size=1, max_size=2),
)


def damaged(data: bytes, pieces: list[tuple[str, int, bytes]]) -> bytes:
    for what, place, content in pieces:
        at = place % len(data)
        behind = {"change": at + len(content), "insert": at, "remove": at + len(content), "cut": len(data)}[what]
        data = data[:at] + (content if what in ("change", "insert") else b"") + data[behind:] or b"?"
    return data


@pytest.mark.parametrize("which", ["plain", "converted"])
@settings(derandomize=True, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(pieces=st.lists(PIECES, min_size=1, max_size=3))
def test_damaged_bytes_end_in_a_result_or_in_our_error(which: str, pieces: list[tuple[str, int, bytes]]) -> None:
    began = time.process_time()
    data = damaged(badfiles.plain() if which == "plain" else badfiles.converted(), pieces)
    messages = []
    for call in (lambda: cam_onnx.Explainer(data).close(), lambda: cam_onnx.convert(data, reconvert=True)):
        try:
            call()
        except CamOnnxError as error:
            messages.append(str(error))
    assert all(map(printable, messages))
    assert time.process_time() - began < 20
