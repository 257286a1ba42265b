"""A converted file contains its original, and can be converted again from there."""

from __future__ import annotations

import dataclasses

import onnx
import pytest

import cam_onnx
from cam_onnx import ContractError
from cam_onnx.autodiff.model import load
from cam_onnx.contract import KEY, Contract
from cam_onnx.graph.original import original
from models.builders import BUILDERS
from tests.running import MODEL, SETTINGS


def plain(name: str) -> onnx.ModelProto:
    return onnx.load(MODEL) if name == "demo" else BUILDERS[name]()


def as_bytes(model: onnx.ModelProto) -> bytes:
    data: bytes = model.SerializeToString(deterministic=True)
    return data


NAMES = [*BUILDERS, "demo"]


@pytest.mark.parametrize("name", NAMES)
def test_the_original_comes_back_byte_for_byte(name):
    model = plain(name)
    model.metadata_props.add(key="theirs", value="stays")
    converted = cam_onnx.convert(model, target_input="required")
    restored = original(onnx.load_from_string(converted.to_bytes()), converted.contract, "the file")
    raised = load(model)
    if "opset" in converted.contract.raised:
        raised = raised.raise_to(converted.contract.raised["opset"][1])
    assert as_bytes(restored) == as_bytes(raised.whole())
    assert converted.contract.raised or as_bytes(restored) == as_bytes(model)


@pytest.mark.parametrize("name", NAMES)
def test_reconverting_is_converting_the_original(name):
    first = cam_onnx.convert(plain(name))
    again = cam_onnx.convert(first.to_bytes(), reconvert=True)
    assert again.to_bytes() == first.to_bytes()
    assert again.contract == first.contract


def test_another_layer_and_another_input_form():
    first = cam_onnx.convert(BUILDERS["gap_linear"](), layers=["b", "features"], target_input="optional")
    again = cam_onnx.convert(first.to_bytes(), reconvert=True, layers="a", target_input="required")
    direct = cam_onnx.convert(BUILDERS["gap_linear"](), layers="a", target_input="required")
    assert again.model.graph == direct.model.graph
    assert again.contract.source_sha256 == first.contract.source_sha256


def test_preprocessing_and_labels_are_kept_unless_given(converted_demo):
    kept = cam_onnx.convert(converted_demo, reconvert=True).contract
    assert kept.preprocess == cam_onnx.Preprocess.from_json(SETTINGS["preprocess"].read_text())
    assert kept.labels is not None
    assert kept.labels[285] == "Egyptian cat"
    given = cam_onnx.convert(converted_demo, reconvert=True, preprocess="unit", labels=["a", "b"]).contract
    assert given.preprocess == cam_onnx.Preprocess(scale=1 / 255)
    assert given.labels == ("a", "b")


def test_a_plain_model_is_converted_as_without_it():
    model = BUILDERS["residual"]()
    assert cam_onnx.convert(model, reconvert=True).to_bytes() == cam_onnx.convert(model).to_bytes()


def test_external_data_stays_with_the_file(tmp_path):
    onnx.save(BUILDERS["gap_linear"](), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    cam_onnx.convert(tmp_path / "m.onnx").save(tmp_path / "c.onnx")
    (tmp_path / "m.onnx").unlink()
    cam_onnx.convert(tmp_path / "c.onnx", reconvert=True, layers="b").save(tmp_path / "d.onnx")
    direct = cam_onnx.convert(BUILDERS["gap_linear"](), layers="b")
    loaded = onnx.load(tmp_path / "d.onnx")
    assert [onnx.numpy_helper.to_array(t).tobytes() for t in loaded.graph.initializer] == [
        onnx.numpy_helper.to_array(t).tobytes() for t in direct.model.graph.initializer
    ]
    assert list(loaded.graph.node) == list(direct.model.graph.node)


def test_without_it_a_converted_file_is_refused_and_the_option_is_named():
    with pytest.raises(ContractError, match="converted already: .*reconvert=True, --reconvert"):
        cam_onnx.convert(cam_onnx.convert(BUILDERS["gap_linear"]()).to_bytes())


def change(what: str) -> bytes:
    converted = cam_onnx.convert(BUILDERS["gap_linear"]())
    model = onnx.load_from_string(converted.to_bytes())
    graph = model.graph
    if what == "a node was renamed":
        graph.node[1].name = "other"
    elif what == "a node was put in front":
        nodes = [onnx.helper.make_node("Identity", ["image"], ["copy"]), *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
    elif what == "an output was dropped":
        del graph.output[0]
    else:
        contract = dataclasses.replace(Contract.from_json(model.metadata_props[-1].value), original={})
        assert model.metadata_props[-1].key == KEY
        model.metadata_props[-1].value = contract.to_json()
    return as_bytes(model)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("a node was renamed", "changed after it was converted"),
        ("a node was put in front", "changed after it was converted"),
        ("an output was dropped", "changed after it was converted"),
        ("an older version wrote it", "an older cam_onnx converted it"),
    ],
)
def test_what_was_changed_since_is_not_cut_in_the_wrong_place(what, words):
    with pytest.raises(ContractError, match=f"{words}.*; convert the original model"):
        cam_onnx.convert(change(what), reconvert=True)
