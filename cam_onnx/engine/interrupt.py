"""Calls into a library that Ctrl-C and a timeout can end.

Python runs signal handlers in the main thread, between two instructions of its own: while a runtime computes there,
Ctrl-C waits for it. So the main thread hands its runs to a worker and waits in Python. Other threads get no signals
and call directly, unless there is a timeout. Stopping is the library's own: `stop` asks it to give up.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

__all__ = ["TimedOut", "interruptible"]

T = TypeVar("T")
Tasks = SimpleQueue[Any]

SLICE = 0.1  # seconds; only Windows needs to wake up to notice Ctrl-C
GRACE = 2.0  # seconds that a library gets to notice `stop`: it asks between two operators


class TimedOut(Exception):
    """The call took longer than its timeout. `ended`: whether it has stopped, or goes on in the background."""

    def __init__(self, ended: bool) -> None:
        super().__init__("timed out")
        self.ended = ended


def interruptible(call: Callable[[], T], stop: Callable[[], None], timeout: float | None = None) -> T:
    """Return ``call()``, which a signal (in the main thread) or the timeout ends by way of `stop`.

    Raises
    ------
    TimedOut
        After `timeout` seconds.
    BaseException
        Whatever `call` raises; what a signal handler raises, once the call has stopped.
    """
    if timeout is None and threading.current_thread() is not threading.main_thread():
        return call()
    worker = _worker()
    answers: Tasks = SimpleQueue()
    try:
        worker.put((call, answers))
        answer = _wait(answers, timeout)
        late = answer is None
        if answer is None:
            stop()
            answer = _wait(answers, GRACE)
    except BaseException:  # KeyboardInterrupt, or what another handler raises; once more, and nobody waits
        stop()
        _wait(answers, GRACE)
        raise
    if answer is None:
        raise TimedOut(ended=False)  # the worker is lost with it
    _give_back(worker)
    value, error = answer
    try:
        if error is None:
            found: T = value
            return found
        if late:
            raise TimedOut(ended=True) from error
        raise error
    finally:
        del answer, error  # its traceback holds this frame


def _wait(answers: Tasks, timeout: float | None) -> tuple[Any, BaseException | None] | None:
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        left = SLICE if end is None else min(SLICE, end - time.monotonic())
        with suppress(Empty):
            answer: tuple[Any, BaseException | None] = answers.get(timeout=max(left, 0.0))
            return answer
        if end is not None and time.monotonic() >= end:
            return None


_IDLE: list[Tasks] = []  # a thread costs more to start than a small network to run: one waits for the next call


def _worker() -> Tasks:
    with suppress(IndexError):
        return _IDLE.pop()
    tasks: Tasks = SimpleQueue()
    threading.Thread(target=_serve, args=(tasks,), name="cam_onnx run", daemon=True).start()
    return tasks


def _give_back(worker: Tasks) -> None:
    if _IDLE:
        worker.put(None)
    else:
        _IDLE.append(worker)


def _serve(tasks: Tasks) -> None:
    while (task := tasks.get()) is not None:
        call, answers = task
        try:
            answers.put((call(), None))
        except BaseException as error:  # noqa: BLE001  (raised again by who waits)
            answers.put((None, error))
        del task, call, answers  # nothing of a run stays alive until the next


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_IDLE.clear)  # a child has none of its parent's threads
