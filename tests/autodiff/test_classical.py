"""Linear models of ai.onnx.ml, written in standard operators: the same numbers, and what cannot be is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from cam_onnx.autodiff.classical import DOMAIN
from cam_onnx.autodiff.model import load
from cam_onnx.engine.onnxruntime import _import

W = "coefficients=[1.0, -2.0, 0.5, 0.25, 1.5, -1.0, 0.0, 3.0, -0.5]"
B = "intercepts=[0.1, -0.2, 0.3]"
L = "classlabels_ints=[7, 8, 9]"
BOTH = "int64[N] l, float[N,3] y"


def of(text, outputs=BOTH, inputs="float[N,3] x"):
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17, "{DOMAIN}": 1]> g ({inputs}) => ({outputs}) {{ {text} }}'
    )
    onnx.checker.check_model(model)
    return model


ROWS = [
    (f'l, y = {DOMAIN}.LinearClassifier<{W}, {B}, {L}, post_transform="SOFTMAX">(x)', BOTH),
    (f'l, y = {DOMAIN}.LinearClassifier<{W}, {B}, {L}, post_transform="LOGISTIC">(x)', BOTH),
    (f"l, y = {DOMAIN}.LinearClassifier<{W}, {B}, {L}>(x)", BOTH),
    (
        f'l, y = {DOMAIN}.LinearClassifier<{W}, {B}, classlabels_strings=["a", "b", "c"]>(x)',
        "string[N] l, float[N,3] y",
    ),
    (f"l, unread = {DOMAIN}.LinearClassifier<{W}, {B}, {L}>(x)", "int64[N] l"),
    (f"y = {DOMAIN}.LinearRegressor<{W}, {B}, targets=3>(x)", "float[N,3] y"),
    (f"y = {DOMAIN}.LinearRegressor<coefficients=[1.0, 2.0, 3.0]>(x)", "float[N,1] y"),
    (f"y = {DOMAIN}.Scaler<offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 1.0]>(x)", "float[N,3] y"),
    (f"y = {DOMAIN}.Scaler<offset=[1.0], scale=[0.5]>(x)", "float[N,3] y"),
    (f'y = {DOMAIN}.Normalizer<norm="L2">(x)', "float[N,3] y"),
    (f'p = Softmax(x) y = {DOMAIN}.Normalizer<norm="L1">(p)', "float[N,3] y"),
    (f'p = Sigmoid(x) y = {DOMAIN}.Normalizer<norm="L1">(p)', "float[N,3] y"),
    (
        f"""s = {DOMAIN}.Scaler<offset=[1.0], scale=[0.5]>(x)
            l, p = {DOMAIN}.LinearClassifier<{W}, {B}, {L}, post_transform="SOFTMAX">(s)
            y = {DOMAIN}.Normalizer<norm="L1">(p)""",
        BOTH,
    ),
]
X = np.array([[0.3, -1, 2], [1, 1, 1], [-2, 0.5, -0.1], [0, 0, 0.01]], np.float32)


def run(model, x):
    options = {"providers": ["CPUExecutionProvider"]}
    return _import().InferenceSession(model.SerializeToString(), **options).run(None, {"x": x})


@pytest.mark.parametrize(("text", "outputs"), ROWS)
def test_the_outputs_are_the_runtimes_own(text, outputs):
    pytest.importorskip("onnxruntime")
    model = of(text, outputs)
    loaded = load(model)
    written = loaded.whole()
    assert {node.domain for node in written.graph.node} == {""}
    assert loaded.raised == {f"nodes of {DOMAIN}": [text.count(DOMAIN), 0]}
    assert [o.name for o in written.graph.output] == [o.name for o in model.graph.output]
    onnx.checker.check_model(written, full_check=True)
    for ours, theirs in zip(run(written, X), run(model, X), strict=True):
        if ours.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
        else:
            assert ours.tolist() == theirs.tolist()


KEPT = [
    (f'l, y = {DOMAIN}.LinearClassifier<{W}, {B}, {L}, post_transform="PROBIT">(x)', BOTH, "float[N,3] x"),
    (
        f"l, y = {DOMAIN}.LinearClassifier<coefficients=[1.0, 2.0, 3.0], intercepts=[0.1], classlabels_ints=[0, 1]>(x)",
        "int64[N] l, float[N,2] y", "float[N,3] x",
    ),
    (f"l, y = {DOMAIN}.LinearClassifier<{W}, {B}, {L}>(x)", BOTH, "int64[N,3] x"),
    (f'y = {DOMAIN}.LinearRegressor<{W}, targets=3, post_transform="PROBIT">(x)', "float[N,3] y", "float[N,3] x"),
    (f'y = {DOMAIN}.Normalizer<norm="MAX">(x)', "float[N,3] y", "float[N,3] x"),
    (f"y = {DOMAIN}.Scaler<offset=[1.0], scale=[0.5]>(x)", "float[3] y", "float[3] x"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "outputs", "inputs"), KEPT)
def test_what_has_no_such_form_stays(text, outputs, inputs):
    model = of(text, outputs, inputs)
    loaded = load(model)
    assert loaded.whole() == model
    assert loaded.raised == {}


def test_names_that_are_taken_are_left_alone():
    text = f"a = Identity(x) l, y = {DOMAIN}.LinearClassifier<{W}, {B}, {L}>(a)"
    model = of(text)
    model.graph.node[0].name = "y/raw"
    written = load(model).whole()
    names = [value for node in written.graph.node for value in (*node.output, node.name) if value]
    assert len(names) == len(set(names))
