"""The one reader and the one atomic writer: whatever this package opens or writes goes through here.

A reader that opens first and asks later hangs on a FIFO and eats /dev/zero; an encoder that writes by itself
reports success on a full disk. So files are looked at before they are opened, and written beside their final
place and renamed: who looks meanwhile sees the old file or the new one, never a half. Standard library only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from cam_onnx.errors import InputError, LimitExceeded, WriteFailed, shown

__all__ = ["Part", "Path", "check_writable", "read", "write"]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Part = bytes | bytearray | memoryview | Iterable[bytes | bytearray | memoryview]

# What a person should do about an errno; the system's own words are the rest of the message.
READING = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EACCES: "ask its owner for permission to read it",
    errno.EPERM: "ask its owner for permission to read it",
    errno.ELOOP: "its symbolic links form a circle",
    errno.ENAMETOOLONG: "the name is longer than the file system allows",
}
WRITING = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some space, or write to another disk",
    errno.EFBIG: "the file is larger than the file system or a limit allows",
    errno.EROFS: "choose a folder on a disk that is not read-only",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.ENOENT: "create the folder first",
    errno.ENAMETOOLONG: "choose a shorter name",
}
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read(
    path: Path,
    *,
    what: str = "file",
    limit: int | None = None,
    todo: str = "raise the limit if you trust the file",
    head: int = -1,
) -> bytes:
    """Return the whole content of a regular file (symbolic links are followed).

    Parameters
    ----------
    path : str, bytes or os.PathLike
    what : str
        What the file is to the caller ("model", "picture"): the first word of every message.
    limit : int, optional
        In bytes; looked at before reading.
    todo : str
        What to do about it.
    head : int
        Read no more than so many bytes from the start; -1: everything.

    Raises
    ------
    InputError
        Missing, unreadable, a folder, a pipe or a device.
    LimitExceeded
        Larger than `limit`, or than the memory.
    """
    try:
        _regular(os.stat(path), path, what)
        # O_NONBLOCK: should a pipe take the file's place just now, opening it does not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as stream:
            found = os.fstat(descriptor)
            _regular(found, path, what)
            if limit is not None and found.st_size > limit:
                raise LimitExceeded(f"{what} {shown(path)}: {found.st_size:,} bytes, the limit is {limit:,}: {todo}")
            return stream.read(head)
    except ValueError as error:  # a NUL in the path
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what} {shown(path)}: not a path ({error})") from None
    except OSError as error:
        advice = READING.get(error.errno or 0, "check the path")
        raise InputError(f"{what} {shown(path)}: {_reason(error)}; {advice}") from None
    except MemoryError:
        raise LimitExceeded(f"{what} {shown(path)}: larger than the memory") from None


def check_writable(path: Path) -> None:
    """Say before any work whether `write` could put a file here.

    Raises
    ------
    WriteFailed
        The folder is missing or not writable; or `path` is a folder, a device, or a read-only file.
    """
    text = os.fsdecode(path)
    if not text or text.endswith(("/", os.sep)):
        raise WriteFailed(f"cannot write {shown(text)!r}: that names a folder; give a file name")
    folder = os.path.dirname(os.path.abspath(text))
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise WriteFailed(f"cannot write {shown(text)}: {shown(folder)} is not a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise WriteFailed(f"cannot write {shown(text)}: the folder is read-only; {WRITING[errno.EACCES]}")
        try:
            mode = os.stat(text).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            raise WriteFailed(f"cannot write {shown(text)}: it is {_kind(mode)}; give another name")
        if not os.access(text, os.W_OK):
            raise WriteFailed(f"cannot write {shown(text)}: the file is read-only; give another name")
    except WriteFailed:
        raise
    except (OSError, ValueError) as error:
        raise _translated(error, text) from None


def write(path: Path, *parts: Part) -> None:
    """Write the parts one after another, all or nothing.

    The bytes go to a hidden temporary file in the same folder, which replaces `path` at the end; permissions
    are those of any new file (umask). A symbolic link is replaced, not followed: nothing outside the folder
    that was named is touched.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    *parts : bytes-like, or iterators of bytes-like
        An iterator is drawn while writing, so that large data need not be in memory at once.

    Raises
    ------
    WriteFailed
        Nothing was written, a file that was there before is intact, no temporary file is left.
    """
    check_writable(path)
    text = os.fsdecode(path)
    folder = os.path.dirname(os.path.abspath(text))
    temporary = os.path.join(folder, f".cam_onnx-{os.urandom(8).hex()}.tmp")
    descriptor = -1
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
            descriptor = os.open(temporary, flags, 0o666)
            for part in parts:
                for chunk in (part,) if isinstance(part, (bytes, bytearray, memoryview)) else part:
                    _write_all(descriptor, chunk)
            os.fsync(descriptor)
            closing, descriptor = descriptor, -1
            os.close(closing)
            os.replace(temporary, text)
        except BaseException:  # KeyboardInterrupt as well
            if descriptor >= 0:
                with suppress(OSError):
                    os.close(descriptor)
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        if isinstance(error, WriteFailed):
            raise
        raise _translated(error, text) from None
    _sync_folder(folder)


def _write_all(descriptor: int, chunk: bytes | bytearray | memoryview) -> None:
    view = memoryview(chunk)
    if not view.nbytes:  # a view with a zero in its shape cannot be cast
        return
    view = view.cast("B")
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: str) -> None:
    """Make the rename itself survive a power cut, where the system can (the data is safe already)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _regular(found: os.stat_result, path: Path, what: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{what} {shown(path)}: it is {_kind(found.st_mode)}, expected a file")


def _kind(mode: int) -> str:
    return KINDS.get(stat.S_IFMT(mode), "not a regular file")


def _reason(error: OSError | ValueError) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _translated(error: OSError | ValueError, path: str) -> WriteFailed:
    todo = WRITING.get(getattr(error, "errno", None) or 0, "give another name")
    return WriteFailed(f"cannot write {shown(path)}: {_reason(error)}; {todo}")
