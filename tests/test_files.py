"""The reader refuses what is no file before it opens it; the writer leaves the old file or the new one."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from cam_onnx import files
from cam_onnx.errors import InputError, LimitExceeded, WriteFailed, shown


def test_read_returns_the_bytes_and_follows_links(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a")
    assert files.read(tmp_path / "link") == b"abc"
    assert files.read(os.fsencode(tmp_path / "a"), limit=3) == b"abc"


READ = {
    "missing": (lambda p: p / "missing", InputError, "no such file or directory; check the path"),
    "a folder": (lambda p: p, InputError, "it is a folder, expected a file"),
    "below a file": (lambda p: _file(p / "f") / "x", InputError, "a part of the path is a file"),
    "fifo": (lambda p: _fifo(p / "fifo"), InputError, "it is a pipe"),
    "device": (lambda p: "/dev/zero", InputError, "it is a device"),
    "circle of links": (lambda p: _link(p / "l", "l"), InputError, "form a circle"),
    "NUL": (lambda p: "a\0b", InputError, r"model a\x00b: not a path"),
    "too large": (lambda p: _file(p / "f"), LimitExceeded, "5 bytes, the limit is 4"),
    "ESC and newline": (lambda p: p / "a\x1b[31m\nb", InputError, r"a\x1b[31m\nb: no such file"),
}


@pytest.mark.parametrize("row", READ)
def test_read_refuses(row, tmp_path):
    make, error, words = READ[row]
    with pytest.raises(error) as caught:
        files.read(make(tmp_path), what="model", limit=4)
    assert words in str(caught.value)
    assert str(caught.value).startswith("model ")
    assert str(caught.value).isprintable()


def test_names_that_are_not_utf8_work(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9 \x1b.bin"
    files.write(name, b"x")
    assert files.read(name) == b"x"


def test_write_joins_parts_and_iterators(tmp_path):
    array = np.arange(4, dtype="<i2").reshape(2, 2)
    pieces: list[bytes | bytearray | memoryview] = [b"c", bytearray(b"d"), np.zeros((0, 3)).data]
    files.write(tmp_path / "out", b"ab", array.data, iter(pieces))
    assert (tmp_path / "out").read_bytes() == b"ab" + array.tobytes() + b"cd"


def test_write_keeps_the_umask_and_leaves_nothing_else(tmp_path):
    old = os.umask(0o027)
    try:
        files.write(tmp_path / "out", b"new")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out"]


def test_write_replaces_a_link_and_not_its_target(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "out").symlink_to("target")
    files.write(tmp_path / "out", b"new")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert (tmp_path / "out").read_bytes() == b"new"


WRITE = {
    "folder missing": (lambda p: p / "no" / "out", "create the folder first"),
    "below a file": (lambda p: _file(p / "f") / "out", "is not a folder"),
    "a folder": (lambda p: p, "it is a folder"),
    "trailing slash": (lambda p: f"{p}/new/", "names a folder"),
    "empty": (lambda p: "", "give a file name"),
    "device": (lambda p: "/dev/null", "it is a device"),
    "link to a device": (lambda p: _link(p / "l", "/dev/null"), "it is a device"),
    "fifo": (lambda p: _fifo(p / "fifo"), "it is a pipe"),
    "long name": (lambda p: p / ("x" * 300), "choose a shorter name"),
    "NUL": (lambda p: f"{p}/a\0b", "null"),
}


@pytest.mark.parametrize("row", WRITE)
def test_write_refuses_before_any_work(row, tmp_path):
    make, words = WRITE[row]
    path = make(tmp_path)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(WriteFailed) as caught:
        files.check_writable(path)
    assert words in str(caught.value)
    with pytest.raises(WriteFailed):
        files.write(path, b"x")
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_the_old_file_survives_a_failure_of_the_system(call, error, tmp_path, monkeypatch):
    """Each system call fails at its k-th use, k = 1, 2, ... until the write succeeds."""
    out = tmp_path / "out"
    real = getattr(os, call)
    for k in range(1, 10):
        out.write_bytes(b"old")
        left = k

        def failing(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                raise error
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                files.write(out, b"new", iter([b"er"]))
                failed = None
            except BaseException as caught:  # noqa: BLE001 - KeyboardInterrupt is one of the rows
                failed = caught
        assert os.listdir(tmp_path) == ["out"]
        if left > 0:  # the call was not made k times: all points have been tried
            assert k > 1
            assert failed is None
            break
        if failed is None or (call in ("open", "close", "fsync") and out.read_bytes() == b"newer"):
            assert out.read_bytes() == b"newer"  # only the folder's own sync failed: the file is there
            continue
        assert out.read_bytes() == b"old"
        assert isinstance(failed, KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else WriteFailed)
        if isinstance(failed, WriteFailed):
            assert "no space left on device; free some space" in str(failed)


def test_a_part_that_fails_leaves_the_old_file(tmp_path):
    def parts():
        yield b"x" * 100
        raise InputError("the source broke")

    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(InputError, match="the source broke"):
        files.write(tmp_path / "out", parts())
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"old"


def test_short_writes_are_continued(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, view: real(fd, view[:3]))
    files.write(tmp_path / "out", b"0123456789")
    assert (tmp_path / "out").read_bytes() == b"0123456789"


@pytest.mark.skipif(not hasattr(os, "setuid") or os.geteuid() != 0, reason="becomes another user, which root may")
def test_without_permission(tmp_path):
    """Root may read and write everything, so a child gives its rights away first."""
    (tmp_path / "secret").write_bytes(b"s")
    (tmp_path / "secret").chmod(0)
    locked = tmp_path / "locked"
    locked.mkdir()
    os.chmod(locked, 0o555)
    code = f"""
        import os
        from cam_onnx import files
        from cam_onnx.errors import InputError, WriteFailed
        os.chdir({str(tmp_path)!r})
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        for call, path in ((files.read, "secret"), (files.check_writable, "locked/out")):
            try:
                call(path)
            except (InputError, WriteFailed) as caught:
                print(caught)
    """
    for folder in [tmp_path, *tmp_path.parents]:
        if not folder.stat().st_mode & 0o001:
            if folder == folder.parent or not str(folder).startswith("/tmp"):
                pytest.skip("the other user cannot reach the test's folder")
            folder.chmod(0o755)
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30, cwd=os.getcwd()
    )
    assert result.stderr == ""
    said = result.stdout.splitlines()
    assert said[0] == "file secret: permission denied; ask its owner for permission to read it"
    assert said[1] == "cannot write locked/out: the folder is read-only; choose a folder that you may write to"


def test_shown_is_printable_and_short():
    assert shown("plain name.onnx") == "plain name.onnx"
    assert shown("a\x1b[31m\n\u202eb\udce9") == r"a\x1b[31m\n\u202eb\udce9"
    assert shown(b"caf\xe9") == r"caf\udce9"
    assert len(shown("x" * 10_000)) < 400


def _file(path):
    path.write_bytes(b"12345")
    return path


def _fifo(path):
    os.mkfifo(path)
    return path


def _link(path, target):
    path.symlink_to(target)
    return path
