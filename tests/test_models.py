"""What lies in models/: the builders make valid networks that run, and the files are the ones named."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from cam_onnx.contract import Preprocess
from models.builders import BUILDERS, inputs
from tools.models import verify

MODELS = Path(__file__).parent.parent / "models"


@pytest.mark.parametrize("name", BUILDERS)
def test_a_built_network_is_valid_runs_and_is_well_scaled(name):
    runtime = pytest.importorskip("onnxruntime")
    model = BUILDERS[name]()
    onnx.checker.check_model(model, full_check=True)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for output in session.run(None, inputs(model)):
        assert np.isfinite(output).all()
        assert 0.02 < np.abs(output).max() < 20
        assert np.abs(output[0] - output[-1]).max() > 1e-4 or len(output) == 1, "the output depends on the input"


@pytest.mark.parametrize("name", BUILDERS)
def test_a_built_network_is_the_same_every_time(name):
    first, second = (BUILDERS[name]().SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", BUILDERS)
def test_a_built_network_has_features_and_named_nodes(name):
    graph = BUILDERS[name]().graph
    assert "features" in {value for node in graph.node for value in node.output}
    names = [node.name for node in graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_the_files_are_the_ones_named():
    states = verify()
    assert set(states.values()) == {"ok"}
    listed = set(states)
    weights = {p.relative_to(MODELS).as_posix() for p in MODELS.rglob("*") if p.suffix in {".onnx", ".png", ".jpg"}}
    assert weights <= listed


def test_a_changed_or_missing_file_is_found(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"changed")
    digest = hashlib.sha256(b"a").hexdigest()
    (tmp_path / "sha256.txt").write_text(f"{digest}  a\n{digest}  b\n{digest}  c\n")
    assert verify(tmp_path) == {"a": "ok", "b": "differs", "c": "missing"}


def test_every_file_stands_in_the_readme_with_a_licence():
    table = re.findall(r"^\| (\S+) \|[^|]+\| ([^|]+) \|", (MODELS / "README.md").read_text(), re.MULTILINE)
    licences = {name: licence for name, licence in table if name != "file"}
    listed = set(verify())
    assert set(licences) == {name for name in listed if not name.endswith(".json")}
    assert all(re.search(r"Apache-2\.0|MIT|CC0", licence) for licence in licences.values())


def test_the_labels_are_a_thousand_different_names_in_class_order():
    labels = (MODELS / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines()
    assert len(set(labels)) == 1000
    assert {285: "Egyptian cat", 967: "espresso", 0: "tench", 999: "toilet tissue"}.items() <= dict(
        enumerate(labels)
    ).items()


def test_the_preprocessing_beside_the_model_reads_as_a_preprocess():
    text = (MODELS / "efficientnet-lite0.json").read_text()
    assert Preprocess.from_json(text) == Preprocess(
        size=(224, 224), interpolation="bicubic", mean=(127.0,), std=(128.0,), scale=1.0
    )
    assert json.loads(text)["fit"] == "stretch"
