"""``autodiff.gradient``: what it adds, what it leaves alone, and what it refuses."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from cam_onnx import InputError, autodiff
from models.builders import BUILDERS, inputs
from tests.running import run


def test_inputs_and_outputs_are_named_after_their_values():
    model = BUILDERS["gap_linear"]()
    added = autodiff.gradient(model, ["image", "features"], ["logits"])
    assert [i.name for i in added.graph.input] == ["image", "cotangent/logits"]
    assert [o.name for o in added.graph.output] == ["logits", "grad/image", "grad/features"]
    shape = added.graph.output[1].type.tensor_type.shape
    assert [d.dim_value or d.dim_param for d in shape.dim] == ["N", 3, 16, 16]
    onnx.checker.check_model(added, full_check=True)


def test_the_original_keeps_every_byte():
    model = BUILDERS["residual"]()
    before = model.SerializeToString(deterministic=True)
    added = autodiff.gradient(model, ["image"], ["logits"])
    assert model.SerializeToString(deterministic=True) == before
    for name in ("node", "initializer", "input", "output", "value_info"):
        theirs = list(getattr(model.graph, name))
        assert list(getattr(added.graph, name))[: len(theirs)] == theirs


def test_names_that_exist_get_a_suffix():
    model = BUILDERS["gap_linear"]()
    model.graph.node[-1].output[0] = model.graph.output[0].name = "grad/image"
    added = autodiff.gradient(model, ["image"], ["grad/image"])
    names = [o.name for o in added.graph.output]
    assert names[0] == "grad/image"
    assert names[1].startswith("grad/image_")


@pytest.mark.parametrize("node", ["Relu(z)", "LeakyRelu<alpha=0.0>(z)", "Clip(z, low, high)"])
def test_no_steep_slope_is_shifted_by_0(node):
    """OpenVINO takes a HardSigmoid's beta of 0 for one that is not there, so for 0.5: half a gradient behind a Relu."""
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[N,4] z) => (float[N,4] y) <float low = {{0}}, float high = {{6}}> {{ y = {node} }}""")
    steep = [n for n in autodiff.gradient(model, ["z"], ["y"]).graph.node if n.op_type == "HardSigmoid"]
    assert steep
    assert all(a.f for n in steep for a in n.attribute if a.name == "beta")
    z = np.array([[-1, 0, 2, 7]], np.float32)
    [grad] = run(autodiff.gradient(model, ["z"], ["y"]), {"z": z, "cotangent/y": np.ones_like(z)}, ["grad/z"])
    assert grad.tolist() == [[0, 0, 1, 0 if "Clip" in node else 1]]


# The reflecting Pad of the first is put back by ScatterElements with a reduction.
@pytest.mark.parametrize(("name", "opset"), [("opset12", 16), ("old_ir3", 13), ("opset7", 13)])
def test_old_files_are_raised(name, opset):
    model = BUILDERS[name]()
    added = autodiff.gradient(model, ["image"], ["logits"])
    assert added.opset_import[0].version == opset
    feeds = inputs(model)
    seed = np.ones((2, 5), np.float32)
    [grad] = run(added, {**feeds, "cotangent/logits": seed}, ["grad/image"])
    assert grad.shape == (2, 3, 16, 16)
    assert np.abs(grad).max() > 0


def test_a_gather_on_the_path_raises_13_to_16():
    model = BUILDERS["split_slice_pad"]()
    model.opset_import[0].version = 13
    assert autodiff.gradient(model, ["features"], ["logits"]).opset_import[0].version == 13
    assert autodiff.gradient(model, ["image"], ["logits"]).opset_import[0].version == 16


def test_a_weight_with_two_names_is_read_where_it_is_stored():
    """PyTorch's older exporter writes equal weights once; ONNX Runtime loses the other name if folding reads it."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 17]> shared (float[N,4,5,5] image) => (float[N,4,5,5] y) {
            again = Identity(w)
            z = Relu(image)
            y = BatchNormalization(z, again, b, m, v)
        }
    """)
    for name, value in {"w": 3, "b": 0, "m": 0, "v": 4}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(4, value, np.float32), name))
    feeds = {"image": np.ones((2, 4, 5, 5), np.float32), "cotangent/y": np.ones((2, 4, 5, 5), np.float32)}
    [grad] = run(autodiff.gradient(model, ["image"], ["y"]), feeds, ["grad/image"])
    np.testing.assert_allclose(grad, 1.5, rtol=1e-5)


WRONG = {
    "unknown": (["imagee"], ["logits"], "has no value 'imagee'; did you mean 'image'"),
    "unknown of": (["image"], ["logit"], "has no value 'logit'; did you mean 'logits'"),
    "integer": (["axes"], ["logits"], "'axes' is INT64: it has no derivative"),
}


@pytest.mark.parametrize("row", WRONG)
def test_names_are_checked(row):
    wrt, of, words = WRONG[row]
    with pytest.raises(InputError) as caught:
        autodiff.gradient(BUILDERS["residual"](), wrt, of)
    assert words in str(caught.value)


def test_what_is_read_several_times_is_added_up_the_same_at_each_run():
    """ONNX Runtime's ScatterND loses sums where its threads meet: of this many rows, in half of the runs."""
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 64, (4000, 1))
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 18]> g (float[64,512] x) => (float[4000,512] y) { y = GatherND(x, i) }"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(indices, "i"))
    session = onnxruntime.InferenceSession(autodiff.gradient(model, ["x"], ["y"]).SerializeToString())
    u = rng.standard_normal((4000, 512)).astype(np.float32)
    expected = np.zeros((64, 512))
    np.add.at(expected, indices[:, 0], u.astype(float))
    for _ in range(20):
        [gradient] = session.run(["grad/x"], {"x": np.zeros((64, 512), np.float32), "cotangent/y": u})
        assert np.abs(gradient - expected).max() < 1e-4  # 60 summands of 1, in float32
