"""What is guessed of the preprocessing where the graph shows what kind of network it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cam_onnx import Preprocess, convert
from cam_onnx.autodiff.model import load
from cam_onnx.graph.detectors import find
from models.levels import HEADS as LEVELED
from models.levels import SIZE
from tests.graph.test_task import HEADS, TASKS, proto_of

WAYS = {
    "grid": ("as YOLOX is fed", Preprocess(channels="BGR", fit="corner", fill=114)),
    "centre": ("as YOLO is fed", Preprocess(scale=1 / 255, fit="letterbox", fill=114)),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_raw_head_is_fed_as_its_family_is(name):
    (outputs, nodes, weights), _ = HEADS[name]
    proto = proto_of(outputs, nodes, **weights)
    head = find(load(proto.SerializeToString()))
    contract = convert(proto).contract
    if head.boxes is not head.scores or head.form not in WAYS:
        assert contract.preprocess is None
        return
    family, how = WAYS[head.form]
    assert contract.preprocess == replace(how, size=None if name.endswith("of any size") else (64, 64))
    assert family in contract.origin["preprocess"]
    assert "partly a guess" in contract.origin["guess"]


@pytest.mark.parametrize(
    ("name", "family", "how"),
    [
        ("darknet", "YOLO", Preprocess(scale=1 / 255, fit="letterbox", fill=114)),
        ("yolo_v5", "YOLO", Preprocess(scale=1 / 255, fit="letterbox", fill=114)),
        ("yolox_heads", "YOLOX", Preprocess(channels="BGR", fit="corner", fill=114)),
        ("yunet", "YuNet", Preprocess(channels="BGR", fit="corner", fill=0)),
        ("fastest", "FastestDet", Preprocess(channels="BGR", scale=1 / 255)),
    ],
)
def test_so_is_one_with_outputs_of_each_level(name, family, how):
    contract = convert(LEVELED[name]()).contract
    assert contract.preprocess == replace(how, size=(SIZE, SIZE))
    assert contract.origin["preprocess"].startswith(f"a guess: as {family} is fed")


@pytest.mark.parametrize("name", ["retinanet_heads", "ssd_heads", "fcos_heads"])
def test_of_others_nothing_is_known(name):
    assert convert(LEVELED[name]()).contract.preprocess is None


def test_what_the_file_says_goes_before_and_a_classifier_has_none():
    (outputs, nodes, weights), _ = HEADS["YOLO v8 to v12"]
    proto = proto_of(outputs, nodes, **weights)
    proto.metadata_props.add(key="Image.NominalPixelRange", value="NominalRange_0_255")
    contract = convert(proto).contract
    assert (contract.preprocess.scale, contract.preprocess.fit) == (1, "letterbox")
    assert contract.origin["preprocess"].startswith(
        "values: metadata Image.* (ONNX); channels and fit: a guess: as YOLO"
    )
    assert "guess" not in contract.origin
    outputs, nodes, weights = TASKS["logits"][0]
    assert convert(proto_of(outputs, nodes, **weights)).contract.preprocess is None
