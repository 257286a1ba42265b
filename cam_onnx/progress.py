"""How far long work is: on stderr, after a second. Results never wait for it and never mix with it.

A thread of its own looks at the clock, so that one long step is seen as well. On a terminal it draws a bar, which is
gone at the end; elsewhere (a log, a CI job) it writes a line every ten seconds. Whoever prints meanwhile steps `aside`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from cam_onnx import printing

__all__ = ["Progress"]

BAR_AFTER, LINE_EVERY, FRAME = 1.0, 10.0, 0.1  # seconds


class Progress:
    """A context manager around long work; silent where the user asked for it.

    Parameters
    ----------
    what : str
        "explaining"
    total : int, optional
        Steps; None where they cannot be counted.
    """

    def __init__(self, what: str, total: int | None = None) -> None:
        self.what, self.total = what, total
        self.done: float = 0
        self._ended = threading.Event()
        self._drawing = threading.Lock()
        self._bar: Any = None
        self._thread: threading.Thread | None = None
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        if not printing.is_quiet():
            show = self._show_bar if sys.stderr.isatty() else self._show_lines
            self._thread = threading.Thread(target=show, name="cam_onnx progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self._hide()

    def at(self, done: float) -> None:
        """Say how many steps are done."""
        self.done = done

    def after(self, before: int) -> Callable[[float, int], None]:
        """Return a callback (done, total) for a part of the work that begins `before` steps in."""
        return lambda done, total: self.at(before + done)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar away while something is printed."""
        with self._drawing:
            self._hide()
            yield

    def _show_bar(self) -> None:
        if self._ended.wait(BAR_AFTER):
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        counted = [BarColumn(), MofNCompleteColumn()] if self.total else []
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), *counted, TimeElapsedColumn()]
        while not self._ended.wait(FRAME):
            with self._drawing:
                if self._bar is None:
                    self._bar = Bar(
                        *columns, console=Console(stderr=True), transient=True, auto_refresh=False,
                        redirect_stdout=False, redirect_stderr=False,
                    )  # fmt: skip
                    self._bar.add_task(self.what, total=self.total)
                    self._bar.tasks[0].start_time = self._started  # not since the bar is seen
                self._bar.start()
                self._bar.update(self._bar.task_ids[0], completed=self.done)
                self._bar.refresh()

    def _show_lines(self) -> None:
        while not self._ended.wait(LINE_EVERY):
            count = f": {self.done:.3g} of {self.total}" if self.total else ""
            seconds = time.monotonic() - self._started
            with self._drawing:
                print(f"{self.what}{count}, {printing.duration(seconds)}", file=sys.stderr, flush=True)

    def _hide(self) -> None:
        if self._bar is not None:
            self._bar.stop()
