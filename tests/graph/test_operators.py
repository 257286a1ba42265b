"""The table of operators: nothing of the standard is absent, and a model's rows are its path."""

from __future__ import annotations

import json
from collections import Counter

import onnx
import pytest

from cam_onnx.cli import main
from cam_onnx.graph.operators import operators
from models.builders import BUILDERS


def test_no_operator_of_the_standard_is_absent():
    found = {row.name: row for row in operators()}
    assert set(found) == {s.name for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""}
    assert {name for name, row in found.items() if row.how == "none"} == set()
    assert [name for name, row in found.items() if row.how == "zero" and not row.reason] == []


@pytest.mark.parametrize(
    ("name", "how", "inputs"),
    [
        ("GridSample", "rule", ("X", "grid")),
        ("Where", "rule", ("X", "Y")),
        ("Hardmax", "zero", ()),
        ("Swish", "body", ()),
        ("Upsample", "raised", ()),
    ],
)
def test_how(name, how, inputs):
    row = next(row for row in operators() if row.name == name)
    assert (row.how, row.inputs) == (how, inputs)


def test_a_model_shows_its_path_with_counts():
    model = BUILDERS["gap_linear"]()
    counts = {row.name: row.count for row in operators(model)}
    assert counts.items() <= Counter(node.op_type for node in model.graph.node).items()
    assert (counts["Conv"] or 0) > 0


def test_the_command_prints_a_table_and_json(tmp_path, capsys):
    path = tmp_path / "m.onnx"
    path.write_bytes(BUILDERS["gap_linear"]().SerializeToString())
    assert main(["operators", str(path)]) == 0
    assert "Conv" in capsys.readouterr().out
    assert main(["operators", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    row = next(row for row in rows if row["name"] == "Det")
    assert (row["how"], row["order"]) == ("rule", "any")


def test_order_of_a_function_is_that_of_its_body():
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1, "acme": 1]>
        g (float[2,3] x) => (float[2,3] y) { h = local.F(x) y = local.G(h) }
        <domain: "local", opset_import: ["": 17]> F (a) => (b) { b = Tanh(a) }
        <domain: "local", opset_import: ["": 17, "acme": 1]> G (a) => (b) { c = Tanh(a) b = acme.Own(c) }"""
    orders = {row.name: row.order for row in operators(onnx.parser.parse_model(text), score="y")}
    assert orders == {"Tanh": "any", "Own": 0}
