"""One interface, two engines: the same answers, the same refusals, nothing of the library below."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx import TensorProto

from cam_onnx import Explainer
from cam_onnx import engine as engines
from cam_onnx.engine import Tensor, check_feeds
from cam_onnx.engine.optional import without_defaults
from cam_onnx.engine.providers import choose, cuda_devices
from cam_onnx.errors import CamOnnxError, InputError, InvalidModel, RunFailed, UnknownName
from cam_onnx.external import check_external
from models.builders import BUILDERS, inputs

BACKENDS = list(engines.BACKENDS)
F = TensorProto.FLOAT


def value(name, shape, dtype=F):
    return oh.make_tensor_value_info(name, dtype, shape)


def model_of(nodes, inputs, outputs, initializers=(), opset=17):
    graph = oh.make_graph(nodes, "g", inputs, outputs, [*initializers])
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", opset)], ir_version=8)


def picking():
    """y = x * w; picked = y[:, target], with `target` optional as in a converted file."""
    nodes = [
        oh.make_node("Mul", ["x", "w"], ["y"], name="mul"),
        oh.make_node("Gather", ["y", "target"], ["picked"], name="pick", axis=1),
    ]
    w = onnx.numpy_helper.from_array(np.array([1, 2, 3, 4], np.float32), "w")
    target = onnx.numpy_helper.from_array(np.array([-1]), "target")
    inputs = [value("x", ["N", 4]), value("target", ["T"], TensorProto.INT64)]
    outputs = [value("y", ["N", 4]), value("picked", None)]
    return model_of(nodes, inputs, outputs, [w, target]).SerializeToString()


X = np.array([[1, 1, 1, 1], [2, 0, 0, 5]], np.float32)


@pytest.fixture(params=BACKENDS)
def engine(request):
    return engines.open(picking(), backend=request.param)


def test_inputs_and_outputs_are_described(engine):
    assert engine.inputs == (Tensor("x", "float32", ("N", 4)), Tensor("target", "int64", ("T",), optional=True))
    assert [(o.name, o.dtype) for o in engine.outputs] == [("y", "float32"), ("picked", "float32")]
    assert engine.outputs[0].shape == ("N", 4)
    assert engine.note is None
    assert engine.provider in ("CPUExecutionProvider", "CUDAExecutionProvider", "onnx reference evaluator")


def test_an_optional_input_has_its_default_and_a_feed_wins(engine):
    found = engine.run({"x": X})
    np.testing.assert_array_equal(found["y"], X * [1, 2, 3, 4])
    np.testing.assert_array_equal(found["picked"], [[4], [20]])
    np.testing.assert_array_equal(engine.run({"x": X, "target": np.array([0])})["picked"], [[1], [2]])
    np.testing.assert_array_equal(engine.run({"x": X})["picked"], [[4], [20]])  # and is not kept


def test_only_the_named_outputs_come_back(engine):
    assert list(engine.run({"x": X}, ["picked"])) == ["picked"]
    with pytest.raises(UnknownName, match="no output 'pickd'; did you mean 'picked'"):
        engine.run({"x": X}, ["pickd"])


def test_a_run_that_fails_names_the_node(engine):
    with pytest.raises(RunFailed, match=r"^Gather 'pick' failed in ") as caught:
        engine.run({"x": X, "target": np.array([9])})
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()
    assert caught.value.__cause__ is not None
    assert engine.run({"x": X})["picked"].shape == (2, 1)  # and the engine goes on working


FEEDS = {
    "unknown name": ({"X": X}, "the model has no input 'X'; did you mean 'x'? (its inputs: 'x' (float32, [N, 4])"),
    "missing": ({}, "input 'x' (float32, [N, 4]) is missing"),
    "float64": ({"x": X.astype(float)}, "expected float32, got float64: cast it yourself, .astype('float32')"),
    "uint8": ({"x": X.astype(np.uint8)}, "expected float32, got uint8"),
    "rank": ({"x": X[0]}, "expected rank 2 [N, 4], got rank 1 [4]"),
    "fixed dimension": ({"x": X[:, :3]}, "dimension 1 is 3, expected 4"),
    "batch 0": ({"x": X[:0]}, "dimension 0 is 0, expected at least 1"),
    "NaN": ({"x": np.where(X == 5, np.nan, X).astype(np.float32)}, "nan at index (1, 3) (first of 1 not finite)"),
    "infinity": ({"x": np.where(X == 1, -np.inf, X).astype(np.float32)}, "-inf at index (0, 0) (first of 4"),
    "ragged": ({"x": [[1.0], [1.0, 2.0]]}, "input 'x': not an array"),
    "objects": ({"x": np.array([[None] * 4])}, "expected float32, got object"),
    "text": ({"x": np.array([["a"] * 4])}, "expected float32, got str"),
    "target type": ({"x": X, "target": np.array([0], np.int32)}, "input 'target': expected int64, got int32"),
    "target rank": ({"x": X, "target": np.array(0)}, "input 'target': expected rank 1 [T], got rank 0 []"),
}


@pytest.mark.parametrize("row", FEEDS)
def test_feeds_are_refused_before_the_runtime(row, engine):
    feeds, words = FEEDS[row]
    with pytest.raises(InputError) as caught:
        check_feeds(engine, feeds)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("x", [X.astype(">f4"), np.asfortranarray(X), np.repeat(X, 2, 1)[:, ::2]], ids=str)
def test_layout_and_byte_order_are_put_right(x, engine):
    feeds = check_feeds(engine, {"x": x})
    assert feeds["x"].dtype.isnative
    assert feeds["x"].flags.c_contiguous
    np.testing.assert_array_equal(engine.run(feeds)["y"], X * [1, 2, 3, 4])


ODD_INPUTS = {
    "string": value("x", [1], TensorProto.STRING),
    "complex": value("x", [1], TensorProto.COMPLEX64),
    "sequence": oh.make_tensor_sequence_value_info("x", F, None),
    "optional": oh.make_value_info("x", oh.make_optional_type_proto(oh.make_tensor_type_proto(F, [1]))),
}


@pytest.mark.parametrize(
    ("odd", "backend"), [(odd, b) for odd in ODD_INPUTS for b in BACKENDS if (odd, b) != ("complex", "onnxruntime")]
)
def test_inputs_that_are_no_tensors_of_numbers_are_refused(odd, backend):
    nodes = [oh.make_node("Constant", [], ["y"], value_float=1.0)]
    model = model_of(nodes, [ODD_INPUTS[odd]], [value("y", [])])
    engine = engines.open(model.SerializeToString(), backend=backend)
    with pytest.raises(InputError, match="which cam_onnx cannot feed"):
        check_feeds(engine, {"x": np.ones(1, np.float32)})


def broken(change):
    model = onnx.load_model_from_string(picking())
    change(model)
    return model.SerializeToString()


def of_acme(model):
    model.graph.node[0].domain = "acme"
    model.opset_import.add(domain="acme", version=1)


def misspelt(model):
    model.graph.node[0].op_type = "Mull"


COMPLEX = value("z", [1], TensorProto.COMPLEX64)

# RunFailed where the model is right and the runtime too old or too small for it.
LOADING = {
    "complex input": (broken(lambda m: m.graph.input.append(COMPLEX)), RunFailed, "onnxruntime"),
    "no protobuf": (b"hello", InvalidModel, "onnxruntime reference"),
    "cut off": (picking()[:-40], InvalidModel, "onnxruntime reference"),
    "undefined input": (broken(lambda m: m.graph.node[0].input.__setitem__(1, "ghost")), InvalidModel, "onnxruntime"),
    "IR version 99": (broken(lambda m: setattr(m, "ir_version", 99)), InvalidModel, "onnxruntime"),
    "opset 999": (broken(lambda m: setattr(m.opset_import[0], "version", 999)), RunFailed, "onnxruntime"),
    "unknown operator": (broken(misspelt), RunFailed, "onnxruntime reference"),
    "unknown domain": (broken(of_acme), RunFailed, "onnxruntime reference"),
}


@pytest.mark.parametrize(("row", "backend"), [(row, b) for row in LOADING for b in LOADING[row][2].split()])
def test_models_that_do_not_load(row, backend, capfd):
    model, error, _ = LOADING[row]
    with pytest.raises(error) as caught:
        engines.open(model, backend=backend)
    assert str(caught.value).isprintable()
    assert "[ONNXRuntimeError]" not in str(caught.value)
    assert "onnxruntime_src" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("backend", BACKENDS)
def test_too_much_memory_is_said_in_one_line(backend):
    shape = onnx.numpy_helper.from_array(np.array([1 << 40, 4]), "s")
    node = oh.make_node("Add", ["big", "big"], ["y"], name="add")
    nodes = [oh.make_node("Expand", ["x", "s"], ["big"], name="grow"), node]
    engine = engines.open(
        model_of(nodes, [value("x", ["N", 4])], [value("y", None)], [shape]).SerializeToString(), backend=backend
    )
    with pytest.raises(RunFailed, match=r"needs more memory than there is"):
        engine.run({"x": X[:1]})


def test_unknown_backend():
    with pytest.raises(UnknownName, match="unknown backend 'onnx-runtime'.*did you mean 'onnxruntime'"):
        engines.open(picking(), backend="onnx-runtime")


def test_the_reference_has_no_providers():
    with pytest.raises(InputError, match="has no providers"):
        engines.open(picking(), backend="reference", providers=["cpu"])


# Providers


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider", ["cpu"], [("cpu", {})]], ids=str)
def test_the_cpu_by_any_of_its_names(name):
    engine = engines.open(picking(), providers=name)
    assert (engine.provider, engine.note) == ("CPUExecutionProvider", None)


def test_a_named_provider_that_is_missing_is_an_error():
    with pytest.raises(RunFailed, match="RknpuExecutionProvider cannot be used: this ONNX Runtime is built"):
        engines.open(picking(), providers=["rknpu"])


def test_the_cpu_must_stand_behind_it():
    with pytest.raises(RunFailed):
        engines.open(picking(), providers=["cpu", "rknpu"])
    engine = engines.open(picking(), providers=["rknpu", "cpu"])
    assert engine.provider == "CPUExecutionProvider"
    assert engine.note == "RknpuExecutionProvider is not used: this ONNX Runtime is built without it"


def test_a_typing_error_in_a_provider_is_said():
    with pytest.raises(RunFailed, match="provider cdua cannot be used: there is no such provider; did you mean 'cuda'"):
        engines.open(picking(), providers="cdua")


@pytest.mark.parametrize("bad", [[], [3], [("cpu",)], [("cpu", 3)]], ids=str)
def test_providers_that_are_none(bad):
    with pytest.raises(InputError, match="provider"):
        engines.open(picking(), providers=bad)


@pytest.mark.skipif(cuda_devices() > 0, reason="this machine has an NVIDIA GPU")
def test_cuda_on_a_machine_without_a_gpu():
    with pytest.raises(RunFailed, match="provider CUDAExecutionProvider cannot be used"):
        engines.open(picking(), providers=[("cuda", {"device_id": 0})])
    engine = engines.open(picking(), providers=["tensorrt", "cuda", "cpu"])
    assert engine.provider == "CPUExecutionProvider"
    assert engine.note is not None
    assert engine.note.count("is not used") == 2


class FakeRuntime:
    """A build with CUDA."""

    @staticmethod
    def get_available_providers():
        return ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

    get_all_providers = get_available_providers


@pytest.mark.parametrize(("devices", "expected"), [(0, ["CPU"]), (1, ["CUDA", "CPU"])])
def test_cuda_is_asked_for_where_the_driver_has_a_device(devices, expected, monkeypatch):
    monkeypatch.setattr("cam_onnx.engine.providers.cuda_devices", lambda: devices)
    asked, chosen, note = choose(FakeRuntime, None)
    assert (asked, note) == ([], None)
    assert [choice.name.removesuffix("ExecutionProvider") for choice in chosen] == expected


class Every(FakeRuntime):
    """A runtime that was built with all that ours knows of."""

    @staticmethod
    def get_available_providers():
        return pytest.importorskip("onnxruntime").get_all_providers()

    get_all_providers = get_available_providers


NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "cuda": ("CUDAExecutionProvider", {"device_id": 1, "cudnn_conv_algo_search": "HEURISTIC"}),
    "tensorrt": ("TensorrtExecutionProvider", {"trt_fp16_enable": True}),
    "trt": ("TensorrtExecutionProvider", {}),
    "directml": ("DmlExecutionProvider", {"device_id": 0}),
    "CoreML": ("CoreMLExecutionProvider", {"MLComputeUnits": "CPUOnly"}),
    "openvino": ("OpenVINOExecutionProvider", {"device_type": "GPU"}),
    "qnn": ("QNNExecutionProvider", {"backend_path": "libQnnHtp.so"}),
    "webgpu": ("WebGpuExecutionProvider", {}),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_provider_is_known_by_its_short_name_and_gets_its_options(name, monkeypatch):
    monkeypatch.setattr("cam_onnx.engine.providers.cuda_devices", lambda: 1)
    full, options = NAMED[name]
    names, chosen, note = choose(Every, [(name, options), "cpu"])
    assert (names, note) == ([full, "CPUExecutionProvider"], None)
    assert chosen[0] == (full, options, ())


class Plugged(FakeRuntime):
    """A runtime to which a plug-in brings a device, once its library is registered."""

    def __init__(self, registered=False, found=True):
        self.device, self.registered, self.found = SimpleNamespace(ep_name="NewExecutionProvider"), registered, found
        self.libraries = []

    def get_ep_devices(self):
        return [self.device] if self.registered and self.found else []

    def register_execution_provider_library(self, name, path):
        self.libraries.append(path)
        self.registered = True


@pytest.fixture
def plug_in(monkeypatch):
    monkeypatch.setattr("cam_onnx.engine.providers._REGISTERED", set())
    package = ModuleType("onnxruntime_ep_new")
    package.get_library_path = lambda: "libnew.so"
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_new", package)


@pytest.mark.parametrize("name", ["new", "NewExecutionProvider"])
def test_a_plug_in_that_the_program_registered_is_asked_for_by_name(name):
    runtime = Plugged(registered=True)
    names, [first, last], note = choose(runtime, [(name, {"threads": 2}), "cpu"])
    assert names == ["NewExecutionProvider", "CPUExecutionProvider"]
    assert (first.options, first.devices, last.devices, note) == ({"threads": 2}, (runtime.device,), (), None)


def test_a_device_is_asked_for_itself_and_with_options():
    runtime = Plugged(registered=True)
    for given, options in ((runtime.device, {}), ([runtime.device], {}), ([(runtime.device, {"a": 1})], {"a": 1})):
        assert choose(runtime, given)[1] == [("NewExecutionProvider", options, (runtime.device,))]


@pytest.mark.usefixtures("plug_in")
def test_an_installed_plug_in_is_registered_once():
    runtime = Plugged()
    assert choose(runtime, "new")[1][0].devices == choose(runtime, "new")[1][0].devices == (runtime.device,)
    assert runtime.libraries == ["libnew.so"]


@pytest.mark.usefixtures("plug_in")
def test_a_plug_in_without_a_device_is_said():
    with pytest.raises(RunFailed, match="new cannot be used: its plug-in is installed, and finds no device on this"):
        choose(Plugged(found=False), "new")
    [chosen] = choose(Plugged(found=False), ["new", "cpu"])[1]
    assert chosen.name == "CPUExecutionProvider"


def test_a_device_of_the_runtime_runs_a_model():
    runtime = pytest.importorskip("onnxruntime")
    devices = [d for d in getattr(runtime, "get_ep_devices", list)() if d.ep_name == "CPUExecutionProvider"]
    if not devices:
        pytest.skip("this ONNX Runtime lists no devices")
    engine, plain = (engines.open(picking(), providers=given) for given in (devices[0], "cpu"))
    assert engine.provider == "CPUExecutionProvider"
    np.testing.assert_array_equal(engine.run({"x": X})["y"], plain.run({"x": X})["y"])


@pytest.mark.skipif(cuda_devices() > 0, reason="this machine has an NVIDIA GPU")
def test_a_provider_that_does_not_start_is_noticed(monkeypatch):
    """The driver says yes and the library does not load: ONNX Runtime goes on with the CPU by itself."""
    pytest.importorskip("onnxruntime")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs a build with CUDA")
    monkeypatch.setattr("cam_onnx.engine.providers.cuda_devices", lambda: 1)
    engine = engines.open(picking())
    assert (engine.provider, engine.note) == (
        "CPUExecutionProvider",
        "CUDAExecutionProvider is not used: it could not be started",
    )
    with pytest.raises(RunFailed, match="could not be started"):
        engines.open(picking(), providers="cuda")


def test_what_a_provider_would_take_for_a_constant_is_fed_without_a_default(monkeypatch):
    """As OpenVINO does with the default of an optional input; a session for each set of inputs that is fed."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("cam_onnx.engine.onnxruntime.FREEZES", ("CPUExecutionProvider",))
    engine = engines.open(picking(), providers="cpu")
    for _ in range(2):
        np.testing.assert_array_equal(engine.run({"x": X})["picked"], [[4], [20]])
        np.testing.assert_array_equal(engine.run({"x": X, "target": np.array([0])})["picked"], [[1], [2]])
    [plain, fed] = engine._sessions.values()
    assert [len(s.get_overridable_initializers()) for s in (plain, fed)] == [1, 0]
    assert [value.name for value in fed.get_inputs()] == ["x", "target"]


def test_only_defaults_are_left_out():
    model, fed = (onnx.load_from_string(data) for data in (picking(), without_defaults(picking(), ["target", "x"])))
    assert [tensor.name for tensor in fed.graph.initializer] == ["w"]
    fed.graph.initializer.append(model.graph.initializer[1])
    assert fed == model


@pytest.mark.parametrize("name", ["residual", "vgg_like"])
def test_openvino_explains_the_class_that_is_asked_for(name):
    """Also through a Relu behind the layer, whose mask it once read another way."""
    runtime = pytest.importorskip("onnxruntime")
    if "OpenVINOExecutionProvider" not in runtime.get_available_providers():
        pytest.skip("needs onnxruntime-openvino")
    model, x = BUILDERS[name](), inputs(BUILDERS[name](), 2)
    how = [("openvino", {"device_type": "CPU", "num_of_threads": "1"})]
    ours, plain = Explainer(model, providers=how), Explainer(model, providers="cpu")
    assert ours.provider == "OpenVINOExecutionProvider"
    for target in (-1, 0, 1, 2):
        one, other = (explainer.explain(inputs=x, target=target) for explainer in (ours, plain))
        np.testing.assert_array_equal(one.target, other.target)
        np.testing.assert_allclose(one.gradients, other.gradients, atol=1e-5 * np.abs(other.gradients).max())


def test_a_device_of_openvino_that_is_not_there_is_one_error_and_nothing_is_printed(capfd):
    runtime = pytest.importorskip("onnxruntime")
    if "OpenVINOExecutionProvider" not in runtime.get_available_providers():
        pytest.skip("needs onnxruntime-openvino")
    with pytest.raises(RunFailed, match="OpenVINOExecutionProvider cannot be used: it could not be started"):
        engines.open(picking(), providers=[("openvino", {"device_type": "NPU"})])
    assert capfd.readouterr() == ("", "")


def test_options_that_a_provider_does_not_know_are_no_fault_of_the_model(monkeypatch):
    """In the words of two providers, neither of which is here."""
    runtime = pytest.importorskip("onnxruntime")
    for words in ("Invalid OpenVINO EP option: device_typ", 'Unknown provider option: "device_idd".'):

        def refuse(*_, words=words, **__):
            raise RuntimeError(words)

        monkeypatch.setattr(runtime, "InferenceSession", refuse)
        with pytest.raises(InputError, match="a provider does not take its options: (Invalid|Unknown)"):
            engines.open(picking(), providers="cpu")


# External data


def external_model(folder, entry_name="w.bin"):
    w = TensorProto(name="w", data_type=F, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, text in dict(location=entry_name, offset="4", length="16").items():
        w.external_data.add(key=key, value=text)
    np.arange(5, dtype=np.float32).tofile(folder / entry_name)
    nodes = [oh.make_node("Add", ["x", "w"], ["y"], name="add")]
    return model_of(nodes, [value("x", ["N", 4])], [value("y", ["N", 4])], [w]).SerializeToString()


@pytest.mark.parametrize("backend", BACKENDS)
def test_external_data_is_found_in_the_folder(backend, tmp_path):
    model = external_model(tmp_path)
    engine = engines.open(model, folder=str(tmp_path), backend=backend)
    np.testing.assert_array_equal(engine.run({"x": X})["y"], X + [1, 2, 3, 4])


@pytest.mark.parametrize("backend", BACKENDS)
def test_external_data_in_a_cache_of_links(backend, tmp_path):
    """Both libraries refuse links out of the folder; checked entries are handed over instead."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    (blobs / "aa").write_bytes(model := external_model(blobs))
    os.symlink("../blobs/w.bin", snapshot / "w.bin")
    os.symlink("../blobs/aa", snapshot / "m.onnx")
    found = check_external(model, snapshot / "m.onnx")
    engine = engines.open(model, folder=str(snapshot), external=found, backend=backend)
    np.testing.assert_array_equal(engine.run({"x": X})["y"], X + [1, 2, 3, 4])
    with pytest.raises(InvalidModel):
        engines.open(model, folder=str(snapshot), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_external_data_without_a_folder_is_refused(backend, tmp_path, monkeypatch):
    """Neither from nowhere nor, by accident, from the working directory."""
    model = external_model(tmp_path)
    with pytest.raises(CamOnnxError):
        engines.open(model, backend=backend)


# Threads and processes


def test_threads_share_an_engine(engine):
    """Eight threads, each with its own input: everyone gets the bits of a run alone."""
    wrong: list[int] = []

    def work(seed):
        x = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
        want = engine.run({"x": x})["y"]
        wrong.extend(seed for _ in range(50) if engine.run({"x": x})["y"].tobytes() != want.tobytes())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def fresh(code, *, model=None, timeout=30, **environment):
    """Run code in a new process; `model` is a file's path for it."""
    environment = {**{k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}, **environment}
    command = [sys.executable, "-c", textwrap.dedent(code), str(model)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its forked children as well
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "m.onnx").write_bytes(picking())
    return tmp_path / "m.onnx"


FORKS = {
    "the child runs": "print(engine.run({'x': x})['picked'].tolist())",
    "the child only ends": "print([[4.0]])",
    "a thread of the parent held the lock": "print(engine.run({'x': x})['picked'].tolist())",
}


# Small machines get sessions without threads, which survive a fork by luck.
THREADS = """
        from cam_onnx.engine.onnxruntime import _import
        runtime = _import()
        make = runtime.SessionOptions
        def with_threads():
            options = make()
            options.intra_op_num_threads = 4
            return options
        runtime.SessionOptions = with_threads
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("case", FORKS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_forked_child_works_and_ends(case, backend, path):
    """By sys.exit, which destroys what the child has: an inherited session with four threads would crash there."""
    held = "engine._lock.acquire()" if "lock" in case and backend == "onnxruntime" else "pass"
    threads = THREADS if backend == "onnxruntime" else "pass"
    code = f"""
        import os, sys, warnings
        import numpy as np
        from cam_onnx import engine as engines
        # Python 3.12 and later say so of every fork beside a thread; that it works all the same is what is tested
        warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning)
        {threads}
        engine = engines.open(open(sys.argv[1], "rb").read(), backend={backend!r})
        x = np.ones((1, 4), np.float32)
        engine.run({{"x": x}})
        {held}
        child = os.fork()
        if child == 0:
            {FORKS[case]}
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    result = fresh(code, model=path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "[[4.0]]\n", "")


def test_nothing_is_printed(path):
    """Neither the warning on initializers that are inputs nor what a build with CUDA says without a GPU."""
    code = """
        import os, sys
        import numpy as np
        from cam_onnx import engine as engines
        from cam_onnx.errors import RunFailed
        model = open(sys.argv[1], "rb").read()
        x = np.ones((1, 4), np.float32)
        engines.open(model).run({"x": x})
        try:
            engines.open(model, providers=["cuda", "cpu"]).run({"x": x, "target": np.array([7])})
        except RunFailed:
            pass
        assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    """
    result = fresh(code, model=path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_setting_of_the_user_on_telemetry_stays(path):
    code = """
        import os, sys
        from cam_onnx import engine as engines
        engines.open(open(sys.argv[1], "rb").read())
        print(os.environ["ORT_DISABLE_TELEMETRY"])
    """
    assert fresh(code, model=path, ORT_DISABLE_TELEMETRY="0").stdout == "0\n"


def test_importing_the_package_of_engines_loads_no_library():
    code = """
        import sys
        import cam_onnx.engine, cam_onnx.engine.evidence, cam_onnx.wire, cam_onnx.external, cam_onnx.files
        print([name for name in ("onnx", "onnxruntime", "onnx_ir", "cv2") if name in sys.modules])
    """
    assert fresh(code).stdout == "[]\n"


def test_the_runtime_loads_no_onnx(path):
    code = """
        import sys
        from cam_onnx import engine as engines
        engines.open(open(sys.argv[1], "rb").read())
        print([name for name in ("onnx", "onnx_ir", "cv2") if name in sys.modules])
    """
    assert fresh(code, model=path).stdout == "[]\n"


@pytest.mark.parametrize(
    ("missing", "backend", "words"),
    [
        ("onnxruntime", "onnxruntime", ['pip install "cam-onnx[gpu]"', '"cam-onnx[cpu]"']),
        ("onnx", "reference", ["onnx cannot be imported", 'pip install "onnx>=1.21"']),
    ],
)
def test_a_library_that_is_not_installed(missing, backend, words, path):
    code = f"""
        import sys
        sys.modules[{missing!r}] = None
        from cam_onnx import engine as engines
        from cam_onnx.errors import RunFailed
        try:
            engines.open(open(sys.argv[1], "rb").read(), backend={backend!r})
        except RunFailed as error:
            print(error)
    """
    result = fresh(code, model=path)
    assert result.stderr == ""
    assert all(word in result.stdout for word in words)
    assert result.stdout.count("\n") == 1
