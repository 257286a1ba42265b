"""A run that takes for ever ends: by Ctrl-C, by SIGTERM, by the timeout, in every thread; and nothing else changes."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import cam_onnx
from cam_onnx import InputError, Limits, RunFailed, engine
from cam_onnx.engine import interrupt
from cam_onnx.engine.interrupt import TimedOut, interruptible
from cam_onnx.render import image
from models.builders import BUILDERS

ROOT = Path(__file__).parent.parent.parent
FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
EVER = 2**62


def looping(trips: int = EVER, network: bool = True) -> onnx.ModelProto:
    """Return a classifier (or the loop alone) that first goes `trips` times through a Tanh."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["go"]), helper.make_node("Tanh", ["v"], ["w"])], "body",
        [value("i", INT64, []), value("c", BOOL, []), value("v", FLOAT, None)],
        [value("go", BOOL, []), value("w", FLOAT, None)],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["trips", "true", "image"], ["slow"], body=body, name="endless")
    constants = {"trips": np.array(trips), "true": np.array(True)}
    if not network:
        graph = helper.make_graph(
            [loop], "g", [value("image", FLOAT, ["N"])], [value("slow", FLOAT, ["N"])],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model = BUILDERS["gap_linear"]()
    nodes = [loop, *model.graph.node]
    nodes[1].input[0] = "slow"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.value_info.append(value("slow", FLOAT, ["N", 3, 16, 16]))  # inference says nothing behind a Loop
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return model


def opened(trips: int, timeout: float | None = None) -> engine.Engine:
    return engine.open(looping(trips, network=False).SerializeToString(), providers="cpu", timeout=timeout)


X = {"image": np.linspace(-2, 2, 5, dtype=np.float32)}


# -- the timeout ------------------------------------------------------------------------------------------------------


def test_a_timeout_ends_the_run_and_the_next_one_works():
    endless, short = opened(EVER, timeout=0.2), opened(3, timeout=20)
    for _ in range(2):
        started = time.perf_counter()
        with pytest.raises(RunFailed, match=r"terminated after 0\.2 s: raise timeout \(limits=, --timeout\)"):
            endless.run(X)
        assert 0.15 < time.perf_counter() - started < 2
        np.testing.assert_allclose(short.run(X)["slow"], np.tanh(np.tanh(np.tanh(X["image"]))), rtol=1e-6)


def test_a_timeout_works_in_every_thread():
    endless = opened(EVER, timeout=0.3)

    def run(_: int) -> str:
        with pytest.raises(RunFailed) as caught:
            endless.run(X)
        return str(caught.value)

    started = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        assert all("terminated after 0.3 s" in text for text in pool.map(run, range(4)))
    assert time.perf_counter() - started < 4


def test_the_explainer_hands_it_on():
    explainer = cam_onnx.Explainer(looping(), limits=Limits(timeout=0.2))
    with pytest.raises(RunFailed, match="terminated after 0.2 s"):
        explainer.explain(np.zeros((16, 16, 3), np.uint8))


def test_the_reference_evaluator_cannot_be_stopped_and_says_so():
    with pytest.raises(InputError, match="backend 'reference' cannot be stopped: leave timeout out"):
        cam_onnx.Explainer(BUILDERS["gap_linear"](), backend="reference", limits=Limits(timeout=1))


def test_an_error_of_the_run_stays_what_it_is():
    model = BUILDERS["fixed_batch"]()
    explainer = cam_onnx.Explainer(model, limits=Limits(timeout=30))
    with pytest.raises(RunFailed, match=r"Reshape '.*' failed in ONNX Runtime"):
        explainer._running().run(
            {"image": np.zeros((1, 3, 16, 16), np.float32), explainer.contract.roles["target"]: np.array([99])}
        )


# -- the worker -------------------------------------------------------------------------------------------------------


def test_a_call_that_does_not_stop_is_left_behind():
    release = threading.Event()
    started = time.perf_counter()
    with pytest.raises(TimedOut) as caught:
        interruptible(release.wait, lambda: None, timeout=0.05)
    assert not caught.value.ended
    assert time.perf_counter() - started < 0.05 + interrupt.GRACE + 1
    assert interruptible(lambda: 7, lambda: None) == 7, "another worker has taken its place"
    release.set()


def test_what_a_call_raises_arrives():
    for timeout in (None, 10):
        with pytest.raises(ZeroDivisionError):
            interruptible(lambda: 1 // 0, lambda: None, timeout)


def test_calls_run_in_one_waiting_thread_and_directly_elsewhere():
    names = {interruptible(lambda: threading.current_thread().name, lambda: None) for _ in range(5)}
    assert len(names) == 1
    assert names != {threading.main_thread().name}
    with ThreadPoolExecutor(1) as pool:
        own = pool.submit(lambda: threading.current_thread().name).result()
        assert pool.submit(interruptible, lambda: threading.current_thread().name, lambda: None).result() == own


def test_calls_may_nest():
    inner = lambda: interruptible(lambda: 3, lambda: None, 5)
    assert interruptible(inner, lambda: None) == 3
    assert len(interrupt._IDLE) == 1


def test_nothing_of_a_run_stays_alive():
    class Feed(np.ndarray):
        pass

    feed = np.ones(3).view(Feed)
    seen = weakref.ref(feed)
    assert interruptible(feed.sum, lambda: None) == 3
    del feed
    gc.collect()
    deadline = time.monotonic() + 2
    while seen() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert seen() is None


def test_the_bits_are_those_of_a_plain_session():
    """In the main thread, with a timeout, and in eight threads on one Explainer."""
    x = [np.random.default_rng(i).standard_normal((1, 3, 16, 16)).astype(np.float32) for i in range(8)]
    model = BUILDERS["residual"]()
    explainer = cam_onnx.Explainer(model, providers="cpu")
    timed = cam_onnx.Explainer(model, providers="cpu", limits=Limits(timeout=60))

    def run(i: int, which: cam_onnx.Explainer = explainer) -> bytes:
        e = which.explain(inputs={"image": x[i]})
        return b"".join(a.tobytes() for a in (e.logits, e.activations, e.gradients, e.saliency))

    alone = [run(i) for i in range(8)]
    assert [run(i, timed) for i in range(8)] == alone
    for which in (explainer, timed):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(run, [k % 8 for k in range(64)], [which] * 64)) == alone * 8


# -- signals ----------------------------------------------------------------------------------------------------------

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX signals")


@pytest.fixture
def here(tmp_path):
    onnx.save(looping(), tmp_path / "endless.onnx")
    image.save(tmp_path / "p.png", np.zeros((20, 30, 3), np.uint8))
    return tmp_path


@posix
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_a_running_session_and_leaves_nothing(here, number, code, word):
    before = set(here.iterdir())
    command = [sys.executable, "-m", "cam_onnx", "explain", "endless.onnx", "p.png", "-o", "o.png", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, cwd=here, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(0.5)
        began = wait_for_work(child.pid)
        child.send_signal(number)
        _, said = child.communicate(timeout=10)
    finally:
        child.kill()
    assert began, "the session was running"
    assert child.returncode == code
    assert said == f"cam-onnx: {word}\n"
    assert set(here.iterdir()) == before


def wait_for_work(pid: int) -> bool:
    """Wait until the worker thread of a process has used half a second of a processor."""
    for _ in range(600):
        for task in Path(f"/proc/{pid}/task").glob("*"):
            found = (task / "stat").read_text().rpartition(")")[2].split()
            name = (task / "comm").read_text().strip()
            if int(found[11]) + int(found[12]) > 0.5 * os.sysconf("SC_CLK_TCK") and int(task.name) != pid:
                return bool(name)
        time.sleep(0.05)
    return False


@posix
def test_a_timeout_on_the_command_line(here):
    before = set(here.iterdir())
    command = [sys.executable, "-m", "cam_onnx", "explain", "endless.onnx", "p.png", "--timeout", "0.5", "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("cam-onnx: the run was terminated after 0.5 s: raise timeout")
    assert done.stderr.count("\n") == 1
    assert set(here.iterdir()) == before


@posix
def test_an_interrupted_program_can_go_on():
    """In a notebook Ctrl-C ends the cell, not the process: the same session works afterwards."""
    script = """
import os, signal, sys, threading
import numpy as np
from tests.engine.test_terminate import X, opened
endless, short = opened(2**62), opened(3)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    endless.run(X)
except KeyboardInterrupt:
    print("interrupted", short.run(X)["slow"].shape)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted (5,)\n", "")


@posix
def test_a_forked_child_has_a_worker_of_its_own():
    script = """
import os, sys
from tests.engine.test_terminate import X, opened
session = opened(3)
expected = session.run(X)["slow"].tobytes()
if os.fork() == 0:
    sys.exit(0 if session.run(X)["slow"].tobytes() == expected else 3)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
