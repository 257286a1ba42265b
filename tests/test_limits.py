"""Limits: each is met just so, exceeded by one, named in the message, and looked at before the cost is paid."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import onnx
import onnx.inliner
import pytest
from onnx import helper

import cam_onnx
from cam_onnx import InputError, InvalidModel, LimitExceeded, Limits, cli
from cam_onnx.engine import npy
from cam_onnx.graph.inspect import inspect
from cam_onnx.inlined import check_size, inlined_size
from cam_onnx.render import image
from models.builders import BUILDERS
from tests.running import MODEL

OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
FLOAT = onnx.TensorProto.FLOAT


def calling(bodies: dict[str, list[str]]) -> bytes:
    """Return a model that calls the first function; each body is a chain of functions and of Relu."""
    functions = []
    for name, chain in bodies.items():
        values = ["x", *(f"v{i}" for i in range(len(chain) - 1)), "y"]
        nodes = [
            helper.make_node(callee, [a], [b], domain="" if callee == "Relu" else "local")
            for callee, a, b in zip(chain, values, values[1:], strict=False)
        ]
        functions.append(helper.make_function("local", name, ["x"], ["y"], nodes, OPSETS))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(next(iter(bodies)), ["x"], ["y"], domain="local")], "g", [value("x", FLOAT, [1])],
        [value("y", FLOAT, [1])],
    )  # fmt: skip
    model = helper.make_model(graph, functions=functions, opset_imports=OPSETS, ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def doubling(depth: int) -> dict[str, list[str]]:
    bodies = {f"f{i}": [f"f{i + 1}"] * 2 for i in range(depth)}
    return {**bodies, f"f{depth}": ["Relu"]}


def nested_if(depth: int) -> bytes:
    value = helper.make_tensor_value_info
    branch = helper.make_graph([helper.make_node("Relu", ["x"], ["y0"])], "b", [], [value("y0", FLOAT, [1])])
    for i in range(1, depth + 1):
        node = helper.make_node("If", ["c"], [f"y{i}"], then_branch=branch, else_branch=branch)
        branch = helper.make_graph([node], "b", [], [value(f"y{i}", FLOAT, [1])])
    inputs = [value("x", FLOAT, [1]), value("c", onnx.TensorProto.BOOL, [])]
    graph = helper.make_graph(list(branch.node), "g", inputs, list(branch.output))
    data: bytes = helper.make_model(graph, opset_imports=OPSETS[:1], ir_version=9).SerializeToString()
    return data


# -- nodes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
def test_without_functions_the_nodes_are_counted(name):
    model = BUILDERS[name]()
    assert inlined_size(model.SerializeToString()) == len(model.graph.node)


@pytest.mark.parametrize(
    ("bodies", "calls", "leaves"),
    [
        ({"f": ["Relu"]}, 1, 1),
        ({"f": ["Relu", "Relu", "Relu"]}, 1, 3),
        ({"f": ["g", "Relu", "g"], "g": ["Relu"]}, 1 + 2, 1 + 2),
        ({"f": ["g", "h"], "g": ["h", "h"], "h": ["Relu", "Relu"]}, 1 + 1 + 3, 3 * 2),
        (doubling(10), 2**11 - 1, 2**10),
    ],
    ids=["one", "chain", "twice", "shared", "doubling"],
)
def test_calls_are_written_out(bodies, calls, leaves):
    data = calling(bodies)
    assert inlined_size(data) == calls + leaves
    inlined = onnx.inliner.inline_local_functions(onnx.load_from_string(data))
    assert len(inlined.graph.node) == leaves, "onnx's inliner leaves no node for a call"


def test_both_branches_count():
    assert inlined_size(nested_if(5)) == sum(2**i for i in range(6))


def test_the_overload_and_the_domain_are_part_of_the_name():
    value = helper.make_tensor_value_info
    functions = [
        helper.make_function("local", "f", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], OPSETS),
        helper.make_function("local", "f", ["x"], ["y"], [
            helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])], OPSETS, overload="two"),
    ]  # fmt: skip
    nodes = [
        helper.make_node("f", ["x"], ["a"], domain="local"),
        helper.make_node("f", ["a"], ["b"], domain="local", overload="two"),
        helper.make_node("f", ["b"], ["y"], domain="other"),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", FLOAT, [1])], [value("y", FLOAT, [1])])
    model = helper.make_model(graph, functions=functions, opset_imports=OPSETS, ir_version=10)
    assert inlined_size(model.SerializeToString()) == 3 + 1 + 2


@pytest.mark.parametrize("depth", [30, 1000])
@pytest.mark.parametrize("read", [cam_onnx.convert, cam_onnx.Explainer, inspect], ids=lambda f: f.__name__)
def test_functions_that_double_are_refused_at_once(read, depth):
    data = calling(doubling(depth))
    started = time.perf_counter()
    with pytest.raises(LimitExceeded, match=r"out .* nodes, the limit is 1,000,000: raise max_nodes \(.*--max-nodes\)"):
        read(data)
    assert time.perf_counter() - started < 1
    assert depth > 30 or len(data) < 3000


@pytest.mark.parametrize("bodies", [{"f": ["f"]}, {"f": ["g", "Relu"], "g": ["h"], "h": ["Relu", "f"]}], ids=str)
def test_recursion_is_no_model(bodies):
    with pytest.raises(InvalidModel, match="function 'f' calls itself"):
        cam_onnx.convert(calling(bodies))


def test_nodes_to_the_limit_pass():
    data = BUILDERS["gap_linear"]().SerializeToString()
    nodes = inlined_size(data)
    cam_onnx.convert(data, limits=Limits(max_nodes=nodes))
    with pytest.raises(LimitExceeded, match=f"functions written out {nodes} nodes, the limit is {nodes - 1}: "):
        cam_onnx.convert(data, limits=Limits(max_nodes=nodes - 1))


def test_of_a_hundred_thousand_nodes_only_those_up_to_the_limit_are_looked_at():
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"]) for i in range(100_000)]
    data = helper.make_model(helper.make_graph(nodes, "g", [], []), opset_imports=OPSETS[:1]).SerializeToString()
    assert inlined_size(data) == 100_000
    assert inlined_size(data, stop=500) == 501
    with pytest.raises(LimitExceeded):
        check_size(data, Limits(max_nodes=99_999))


# -- bytes, pixels ----------------------------------------------------------------------------------------------------


def test_the_file_s_bytes(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(BUILDERS["gap_linear"](), path)
    size = path.stat().st_size
    for source in (path, path.read_bytes()):
        for read in (cam_onnx.convert, cam_onnx.Explainer):
            read(source, limits=Limits(max_model_bytes=size))
            with pytest.raises(LimitExceeded, match=r"raise max_model_bytes \(limits=, --max-model-bytes\)"):
                read(source, limits=Limits(max_model_bytes=size - 1))


def test_external_data_counts(tmp_path):
    onnx.save(BUILDERS["gap_linear"](), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    weights = sum(t.nbytes for t in map(onnx.numpy_helper.to_array, BUILDERS["gap_linear"]().graph.initializer))
    size = (tmp_path / "m.onnx").stat().st_size + weights
    cam_onnx.convert(tmp_path / "m.onnx", limits=Limits(max_model_bytes=size))
    with pytest.raises(LimitExceeded, match=f"with its external data {size:,} bytes, the limit is {size - 1:,}"):
        cam_onnx.convert(tmp_path / "m.onnx", limits=Limits(max_model_bytes=size - 1))


def test_a_converted_file_is_limited_too(converted_demo):
    with pytest.raises(LimitExceeded, match="--max-nodes"):
        cam_onnx.Explainer(converted_demo, limits=Limits(max_nodes=50))
    with pytest.raises(LimitExceeded, match="--max-model-bytes"):
        cam_onnx.Explainer(converted_demo, limits=Limits(max_model_bytes=1000))


def test_a_file_larger_than_protobuf_can_be(tmp_path):
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(1 << 31)  # takes no space
    started = time.perf_counter()
    with pytest.raises(LimitExceeded, match="no ONNX file can be larger; export it with external data"):
        cam_onnx.convert(path)
    assert time.perf_counter() - started < 1


def test_pixels(tmp_path):
    image.save(tmp_path / "p.png", np.zeros((20, 30, 3), np.uint8))
    model = BUILDERS["gap_linear"]()
    cam_onnx.Explainer(model, limits=Limits(max_pixels=600)).explain(tmp_path / "p.png")
    with pytest.raises(LimitExceeded, match=r"30 x 20 pixels, .* limit of 599: .*raise max_pixels .*--max-pixels"):
        cam_onnx.Explainer(model, limits=Limits(max_pixels=599)).explain(tmp_path / "p.png")


# -- tensors ----------------------------------------------------------------------------------------------------------


def saved(path, array) -> str:
    np.save(path, array)
    return str(path)


@pytest.mark.parametrize(
    "array",
    [
        np.ones((2, 3, 16, 16), np.float32),
        np.asfortranarray(np.random.default_rng(0).standard_normal((3, 3, 16, 16), np.float32)),
        np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(">f4"),
    ],
    ids=["plain", "fortran", "big-endian"],
)
def test_a_tensor_s_file_is_the_tensor(tmp_path, array):
    with cam_onnx.Explainer(BUILDERS["gap_linear"]()) as explainer:
        found = explainer.explain(inputs={"image": saved(tmp_path / "x.npy", array)})
        direct = explainer.explain(inputs={"image": array})
    np.testing.assert_array_equal(found.saliency, direct.saliency)
    assert found.names == (["x"] if len(array) == 1 else [f"x.{i}" for i in range(len(array))])
    assert found.pictures == [None] * len(array)


def test_a_header_is_believed_in_nothing(tmp_path):
    """Whatever a header says, refusing it takes neither time nor memory, and no program in the file runs."""
    good = np.ones((1, 3, 16, 16), np.float32)
    path = tmp_path / "x.npy"
    np.save(path, good)
    whole = path.read_bytes()

    def lying(shape: str, descr: str = "'<f4'") -> bytes:
        text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
        text += b" " * (117 - len(text)) + b"\n"
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + good.tobytes()

    class Program:
        def __reduce__(self):
            return print, ("a program ran",)

    np.save(tmp_path / "objects.npy", np.array([Program()], object), allow_pickle=True)
    np.savez(tmp_path / "many.npz", x=good)
    rows = {
        "terabytes": (lying("(274877906944, 3, 16, 16)"), LimitExceeded, "raise max_input_bytes (limits=, --max-in"),
        "other size": (lying("(1, 3, 16, 17)"), InputError, "dimension 3 is 17, expected 16"),
        "other rank": (lying("(3, 16, 16)"), InputError, "expected rank 4 [N, 3, 16, 16], got rank 3"),
        "other type": (lying("(1, 3, 16, 16)", "'<f8'"), InputError, "expected float32, got float64"),
        "structured": (lying("(768,)", "[('a', '<f4')]"), InputError, "save a plain array"),
        "negative": (lying("(-1, 3, 16, 16)"), InputError, "negative"),
        "empty": (lying("(0, 3, 16, 16)"), InputError, "dimension 0 is 0"),
        "no shape": (lying("__import__('os')"), InputError, "its header is damaged"),
        "cut off": (whole[:-1], InputError, "is cut off at"),
        "too long": (whole + b"x", InputError, "holds more than this array"),
        "cut in the header": (whole[:50], InputError, "its header is damaged"),
        "objects": ((tmp_path / "objects.npy").read_bytes(), InputError, "not numbers"),
        "a pickle": (b"\x80\x04K\x01.", InputError, "a pickle, which is a program"),
        "an archive": ((tmp_path / "many.npz").read_bytes(), InputError, "an archive (.npz, .pt): save the one"),
        "text": (b"1 2 3", InputError, "no .npy file"),
        "nothing": (b"", InputError, "no .npy file"),
    }
    with cam_onnx.Explainer(BUILDERS["gap_linear"]()) as explainer:
        for name, (content, error, words) in rows.items():
            path.write_bytes(content)
            started = time.perf_counter()
            with pytest.raises(error) as caught:
                explainer.explain(inputs={"image": path})
            assert words in str(caught.value), (name, str(caught.value))
            assert str(path) in str(caught.value), name
            assert time.perf_counter() - started < 1, name
        path.write_bytes(whole)
        with pytest.raises(InputError, match="has no input 'imag'; did you mean 'image'"):
            explainer.explain(inputs={"imag": path})


def test_input_bytes(tmp_path):
    path = saved(tmp_path / "x.npy", np.ones((1, 3, 16, 16), np.float32))
    model = BUILDERS["gap_linear"]()
    cam_onnx.Explainer(model, limits=Limits(max_input_bytes=3072)).explain(inputs={"image": path})
    with pytest.raises(LimitExceeded, match="by its header 3,072 bytes, the limit is 3,071"):
        cam_onnx.Explainer(model, limits=Limits(max_input_bytes=3071)).explain(inputs={"image": path})


def test_a_header_is_read_without_its_data(tmp_path):
    path = saved(tmp_path / "x.npy", np.ones((2, 5), np.float16))
    found = npy.header(path)
    assert (found.dtype.name, found.shape, found.nbytes, found.start) == ("float16", (2, 5), 20, 128)


# -- limits themselves ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f.name for f in fields(Limits)])
@pytest.mark.parametrize("bad", [0, -1, "5", True, float("nan"), [1]], ids=str)
def test_a_limit_is_a_positive_number(name, bad):
    with pytest.raises(InputError, match=f"limits: {name} is {re.escape(repr(bad))}, expected a positive"):
        Limits(**{name: bad})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("explain m.onnx p.png --max-nodes 5", "raise max_nodes"),
        ("explain m.onnx p.png --max-model-bytes 99", "raise max_model_bytes"),
        ("explain m.onnx p.png --max-pixels 9", "raise max_pixels"),
        ("explain m.onnx --input image=x.npy --max-input-bytes 9", "raise max_input_bytes"),
        ("convert m.onnx --max-nodes 5", "raise max_nodes"),
        ("inspect m.onnx --max-model-bytes 99", "raise max_model_bytes"),
        ("explain m.onnx p.png --max-nodes 0", "limits: max_nodes is 0"),
        ("explain m.onnx p.png --timeout -1", "limits: timeout is -1.0"),
    ],
)
def test_the_command_line_has_them(tmp_path, monkeypatch, capsys, line, words):
    monkeypatch.chdir(tmp_path)
    onnx.save(BUILDERS["gap_linear"](), "m.onnx")
    image.save("p.png", np.zeros((20, 30, 3), np.uint8))
    saved("x.npy", np.ones((1, 3, 16, 16), np.float32))
    assert cli.main(line.split()) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


# -- many at once -----------------------------------------------------------------------------------------------------


def test_eight_conversions_at_once_give_the_bytes_of_one():
    sources = [BUILDERS[name]().SerializeToString() for name in ("residual", "opset12")] + [MODEL]
    alone = [cam_onnx.convert(source).to_bytes() for source in sources]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: cam_onnx.convert(sources[i % 3]).to_bytes(), range(12)))
    assert together == [alone[i % 3] for i in range(12)]
