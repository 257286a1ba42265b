"""Which data files a model may read. One row a way out of the folder, or a way to lie about sizes."""

from __future__ import annotations

import os
import socket

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from onnx import TensorProto

from cam_onnx.errors import InvalidModel
from cam_onnx.external import check_external, external

GOOD = {"location": "w.bin", "offset": "0", "length": "16"}
SECRET = b"0123456789abcdef"


def tensor(entries=GOOD, dims=(4,), dtype=TensorProto.FLOAT, name="w"):
    out = TensorProto(name=name, data_type=dtype, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in entries.items() if isinstance(entries, dict) else entries:
        out.external_data.add(key=key, value=value)
    return out


def model_of(*tensors, nodes=(), **kwargs):
    y = oh.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = oh.make_graph([*nodes], "g", [], [y], [*tensors], **kwargs)
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.fixture
def folder(tmp_path):
    """A model's folder with a data file of 16 bytes, beside it a secret that no model may read."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "w.bin").write_bytes(SECRET)
    inside = tmp_path / "model"
    inside.mkdir()
    np.arange(4, dtype=np.float32).tofile(inside / "w.bin")
    return inside


def test_a_good_entry_is_found_and_resolved(folder):
    (found,) = check_external(model_of(tensor()), folder / "m.onnx")
    assert (found.name, found.location, found.dims, found.dtype) == ("w", "w.bin", (4,), TensorProto.FLOAT)
    assert (found.offset, found.length, found.file) == (0, 16, str(folder / "w.bin"))


def test_a_model_without_external_data_has_none(folder):
    assert check_external(model_of(onnx.numpy_helper.from_array(np.ones(3), "w")), None) == []


def test_bytes_without_a_path_cannot_have_external_data():
    with pytest.raises(InvalidModel, match=r"tensor 'w' has its data in the file 'w\.bin'.*give the model's path"):
        check_external(model_of(tensor()), None)


def at(location):
    return dict(location=location)


def entries(**changes):
    return {**GOOD, **changes}


def links(name, target):
    return lambda folder: os.symlink(target, folder / name)


ROWS = {
    # the way out
    "dot dot": (tensor(at("../secret")), None, "leads out of the model's folder"),
    "dot dot inside": (tensor(at("a/../../secret")), None, "leads out of the model's folder"),
    "dot dot with backslash": (tensor(at("..\\secret")), None, "leads out of the model's folder"),
    "absolute": (tensor(at("/etc/hostname")), None, "is an absolute path"),
    "absolute on Windows": (tensor(at("C:\\w.bin")), None, "is an absolute path"),
    "symlink out": (tensor(at("l")), links("l", "../secret"), "is a link out of the model's folder"),
    "folder symlink out": (tensor(at("d/w.bin")), links("d", "../outside"), "is a link out of the model's folder"),
    "hard link": (tensor(at("h")), lambda f: os.link(f.parent / "secret", f / "h"), "is a hard link"),
    "NUL": (tensor(at("w.bin\0x")), None, "has no usable name"),
    "newline": (tensor(at("w\n.bin")), None, "has no usable name"),
    "empty": (tensor(at("")), None, "has no usable name"),
    "memory address": (tensor(at("*/_ORT_MEM_ADDR_/*")), None, "is an address in memory"),
    # no file
    "missing": (tensor(at("none.bin")), None, "'none.bin' is missing; put it into"),
    "below a file": (tensor(at("w.bin/x")), None, "cannot be read"),
    "circle": (tensor(at("l")), links("l", "l"), "'l'"),
    "fifo": (tensor(at("p")), lambda f: os.mkfifo(f / "p"), "is not a regular file"),
    "folder": (tensor(at("d")), lambda f: (f / "d").mkdir(), "is not a regular file"),
    "the folder itself": (tensor(at(".")), None, "is not a regular file"),
    "socket": (tensor(at("s")), lambda f: _socket(f / "s"), "is not a regular file"),
    # lies
    "offset past the end": (tensor(entries(offset="1000")), None, "ends at 16, before byte 1016"),
    "too short": (tensor(entries(offset="1")), None, "ends at 16, before byte 17"),
    "no length, too short": (tensor(at("w.bin"), dims=[5]), None, "ends at 16, before byte 20"),
    "negative offset": (tensor(entries(offset="-1")), None, "external offset is '-1'"),
    "text offset": (tensor(entries(offset="abc")), None, "external offset is 'abc'"),
    "other digits": (tensor(entries(offset="٣")), None, "external offset"),
    "negative length": (tensor(entries(length="-16")), None, "external length is '-16'"),
    "length 2^40": (tensor(entries(length=str(1 << 40))), None, f"hold {1 << 40} bytes of it, but its shape needs 16"),
    "length of 100 digits": (tensor(entries(length="9" * 100)), None, "external length"),
    "length differs": (tensor(entries(length="12")), None, "hold 12 bytes of it, but its shape needs 16"),
    "dims 2^40": (tensor(dims=[1 << 40]), None, f"its shape needs {1 << 42}"),
    "dims overflow 64 bits": (tensor(dims=[1 << 40, 1 << 40]), None, f"its shape needs {1 << 82}"),
    "negative dims": (tensor(dims=[-4]), None, "[-4] has a negative dimension"),
    "a million dims": (tensor(dims=[1 << 62] * 1000), None, "more than 64 dimensions"),
    "unknown key": (tensor(entries(command="x")), None, "data entry 'command' (known: location"),
    "key twice": (tensor([*GOOD.items(), ("location", "w.bin")]), None, "'location' twice"),
    "no location": (tensor([("offset", "0"), ("basepath", "location")]), None, "'basepath'"),
    "string type": (tensor(dtype=TensorProto.STRING), None, "type 8 has no fixed size"),
    "type of the future": (tensor(dtype=99), None, "type 99 has no fixed size"),
}


@pytest.mark.parametrize("how", ["bare name", "./", "absolute"])
@pytest.mark.parametrize("row", ROWS)
def test_refused(row, how, folder, monkeypatch):
    bad, prepare, words = ROWS[row]
    if prepare:
        prepare(folder)
    monkeypatch.chdir(folder)
    path = {"bare name": "m.onnx", "./": "./m.onnx", "absolute": str(folder / "m.onnx")}[how]
    with pytest.raises(InvalidModel) as caught:
        check_external(model_of(bad), path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(path)
    assert str(caught.value).isprintable()


def test_the_entry_counts_when_only_the_location_kind_says_otherwise():
    """Readers differ in which of the two they believe, and enums are cut to 32 bits."""
    plain = tensor(at("../secret"))
    plain.data_location = TensorProto.DEFAULT
    assert [found.location for found in external(model_of(plain))] == ["../secret"]
    kind = TensorProto(name="w", data_type=1, dims=[4]).SerializeToString() + b"\x70\x81\x80\x80\x80\x10"
    graph = b"\x2a" + bytes([len(kind)]) + kind
    data = b"\x08\x08\x32\x08location\x3a" + bytes([len(graph)]) + graph + b"\x42\x02\x10\x11"
    with pytest.raises(InvalidModel, match="no location says where"):
        external(data)


def test_two_halves_of_one_message_are_refused():
    """Parsers merge them, so that the whole tensor is in no part of the file."""
    half = oh.make_attribute("value", tensor()).SerializeToString()
    twice = half + oh.make_attribute("value", tensor(at("../secret"))).SerializeToString()
    node = b"\x2a" + bytes([len(twice)]) + twice
    graph = b"\x0a" + bytes([len(node)]) + node
    data = b"\x08\x08\x3a" + bytes([len(graph), len(graph) >> 7])[:1] + graph + b"\x42\x02\x10\x11"
    if len(graph) > 0x7F:
        data = b"\x08\x08\x3a" + bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7]) + graph + b"\x42\x02\x10\x11"
    with pytest.raises(InvalidModel, match="field 5 twice"):
        external(data)


PLACES = {
    "initializer": lambda bad: model_of(bad),
    "attribute": lambda bad: model_of(nodes=[oh.make_node("Constant", [], ["y"], value=bad)]),
    "attribute list": lambda bad: model_of(nodes=[oh.make_node("X", [], ["y"], ts=[bad])]),
    "subgraph": lambda bad: model_of(
        nodes=[oh.make_node("If", ["c"], ["y"], then_branch=oh.make_graph([], "t", [], [], [bad]))]
    ),
    "sparse": lambda bad: model_of(
        sparse_initializer=[oh.make_sparse_tensor(bad, oh.make_tensor("i", TensorProto.INT64, [1], [0]), [9])]
    ),
    "function": lambda bad: oh.make_model(
        oh.make_graph([], "g", [], []),
        functions=[oh.make_function("d", "F", [], ["y"], [oh.make_node("Constant", [], ["y"], value=bad)], [], [])],
    ).SerializeToString(),
}


@pytest.mark.parametrize("place", PLACES)
def test_checked_wherever_it_stands(place, folder):
    with pytest.raises(InvalidModel, match="tensor 'w': its data file '../secret' leads out"):
        check_external(PLACES[place](tensor(at("../secret"))), folder / "m.onnx")
    assert check_external(PLACES[place](tensor()), folder / "m.onnx")[0].length == 16


def test_a_link_inside_the_folder_works(folder):
    os.symlink("w.bin", folder / "l")
    assert check_external(model_of(tensor(at("l"))), folder / "m.onnx")[0].file == str(folder / "l")


def test_a_cache_of_links_into_one_folder_works(tmp_path):
    """Model and data are links with good names to files with hashes for names, as in Hugging Face's cache."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "aa").write_bytes(model_of(tensor()))
    np.arange(4, dtype=np.float32).tofile(blobs / "bb")
    os.symlink("../../blobs/aa", snapshot / "m.onnx")
    os.symlink("../../blobs/bb", snapshot / "w.bin")
    assert check_external((blobs / "aa").read_bytes(), snapshot / "m.onnx")[0].file == str(snapshot / "w.bin")
    os.remove(snapshot / "m.onnx")
    (snapshot / "m.onnx").write_bytes(b"not a link: the data is out of the folder")
    with pytest.raises(InvalidModel, match="is a link out"):
        check_external((blobs / "aa").read_bytes(), snapshot / "m.onnx")


def test_hard_links_can_be_allowed(folder):
    os.link(folder / "w.bin", folder / "h")
    assert check_external(model_of(tensor()), folder / "m.onnx", allow_hard_links=True)


SIZES = [
    (TensorProto.INT4, [5], 3),
    (TensorProto.UINT4, [4], 2),
    (TensorProto.BFLOAT16, [3], 6),
    (TensorProto.COMPLEX128, [1], 16),
    (TensorProto.BOOL, [], 1),
    (TensorProto.INT64, [0, 7], 0),
    (TensorProto.FLOAT8E4M3FN, [3], 3),
]


@pytest.mark.parametrize(("dtype", "dims", "size"), SIZES)
def test_size_is_type_times_shape(dtype, dims, size, folder):
    bad = tensor(entries(length=str(size)), dims=dims, dtype=dtype)
    assert check_external(model_of(bad), folder / "m.onnx")[0].length == size
    worse = tensor(entries(length=str(size + 1)), dims=dims, dtype=dtype)
    with pytest.raises(InvalidModel, match=f"needs {size};"):
        check_external(model_of(worse), folder / "m.onnx")


def test_every_type_of_the_standard_has_a_size(folder):
    for name, code in TensorProto.DataType.items():
        if name not in ("UNDEFINED", "STRING"):
            assert external(model_of(tensor(dtype=code)))[0].nbytes * 8 >= 4


def _socket(path):
    cwd = os.getcwd()
    os.chdir(path.parent)  # socket paths are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(cwd)
