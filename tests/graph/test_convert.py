"""``convert`` keeps every byte of the original, adds what the contract says, and its gradients are right."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto

import cam_onnx
from cam_onnx import autodiff, convert
from cam_onnx.autodiff.model import load
from cam_onnx.autodiff.spelling import LOWEST
from cam_onnx.contract import KEY, Contract
from cam_onnx.graph.candidates import candidates
from cam_onnx.graph.convert import TARGET_INPUTS
from cam_onnx.graph.locate import find_score
from models.builders import BUILDERS, inputs
from tests.running import CAT, MODEL, ROOT, RUNNERS, evaluate, output_names, run, session

RAISED = {"opset12": 13, "old_ir3": 13, "opset7": 13}
# ONNX Runtime has no 16-bit kernels on the CPU: it computes in float32 and drops pairs of casts between two nodes,
# at every optimisation level; a value that is read from outside keeps its rounding. One rounding of the logits:
HALF = 2.0**-10


def every_candidate(model) -> list[str]:
    """Names of all values of a model (raised where `convert` raises it) that may be a target layer."""
    loaded = load(model)
    loaded = loaded.raise_to(LOWEST) if loaded.opset < LOWEST else loaded
    return [place.name for place in candidates(loaded, find_score(loaded, None))]


def with_foreign_parts(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add what a round trip through another representation loses or rewrites."""
    model.metadata_props.add(key="zeta", value="last\nline")
    model.metadata_props.add(key="author", value="Ünï\u202e")
    model.producer_name, model.model_version, model.doc_string = "", 0, "what it is"  # present, although empty
    node = model.graph.node[0]
    node.doc_string = ""
    node.metadata_props.add(key="k", value="v")
    model.graph.doc_string = "a graph"
    model.graph.value_info.add(name="no_such_value").type.tensor_type.elem_type = TensorProto.FLOAT
    model.opset_import.add(domain="com.acme", version=3)
    values = onnx.numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "sparse")
    places = onnx.numpy_helper.from_array(np.array([1, 4]), "")
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, places, [6]))
    packed = onnx.helper.make_tensor("unpacked", TensorProto.FLOAT, [2], [3.0, 4.0])  # float_data, not raw_data
    model.graph.initializer.insert(0, packed)
    return model


def without_additions(converted: onnx.ModelProto, original: onnx.ModelProto) -> onnx.ModelProto:
    """Drop everything behind the original's last node, initializer, input, ...: additions are appended only."""
    left = onnx.ModelProto()
    left.CopyFrom(converted)
    for name in ("node", "initializer", "value_info", "input", "output"):
        del getattr(left.graph, name)[len(getattr(original.graph, name)) :]
    for name in ("opset_import", "metadata_props"):
        del getattr(left, name)[len(getattr(original, name)) :]
    return left


@pytest.mark.parametrize("target_input", TARGET_INPUTS)
@pytest.mark.parametrize("name", sorted(set(BUILDERS) - set(RAISED)))
def test_the_original_is_inside_byte_for_byte(name, target_input):
    model = with_foreign_parts(BUILDERS[name]())
    before = model.SerializeToString(deterministic=True)
    layers = every_candidate(model)
    converted = convert(model, layers=layers, target_input=target_input).model
    assert without_additions(converted, model).SerializeToString(deterministic=True) == before
    assert model.SerializeToString(deterministic=True) == before, "the argument is not changed"
    assert len(converted.graph.node) > len(model.graph.node)
    assert [entry.key for entry in converted.metadata_props] == ["zeta", "author", KEY]
    assert [(o.domain, o.version) for o in converted.opset_import] == [
        (o.domain, o.version) for o in model.opset_import
    ]


@pytest.mark.parametrize("name", RAISED)
def test_a_raised_file_is_inside_byte_for_byte_and_keeps_foreign_metadata(name):
    model = BUILDERS[name]()
    model.metadata_props.add(key="author", value="Ünï\u202e")
    converted = convert(model).model
    raised = load(model).raise_to(RAISED[name]).whole()
    assert without_additions(converted, raised) == raised
    assert converted.metadata_props[0] == model.metadata_props[0]


@pytest.mark.parametrize("name", RAISED)
def test_an_old_file_is_raised_with_a_notice_and_gives_equal_outputs(name):
    model = BUILDERS[name]()
    converted = convert(model)
    old, new = model.opset_import[0].version, RAISED[name]
    assert converted.model.opset_import[0].version == new
    assert converted.contract.raised["opset"] == [old, new]
    assert converted.notes[0] == f"raised from opset {old} to {new} (onnx's version converter)"
    assert converted.contract.score == "logits", "the user's own value, not one that the converter put behind it"
    feeds = inputs(model)
    for optimised in (False, True):
        plain = run(model, feeds, optimised=optimised)
        for x, y in zip(plain, run(converted.to_bytes(), feeds, output_names(model), optimised), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["old_ir3", "opset7"])
def test_weights_of_an_ir_3_file_leave_the_inputs(name):
    model = BUILDERS[name]()
    converted = convert(model)
    assert model.ir_version == 3
    assert converted.model.ir_version >= 4
    assert converted.contract.raised["ir_version"] == [3, converted.model.ir_version]
    assert any("raised from IR version 3" in note for note in converted.notes)
    weights = {t.name for t in converted.model.graph.initializer}
    assert {i.name for i in converted.model.graph.input} & weights == {"cam_target"}


def test_an_ir_3_file_of_a_new_opset_keeps_its_opset():
    model = BUILDERS["gap_linear"]()
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    converted = convert(model)
    assert converted.contract.raised == {"ir_version": [3, 4]}
    assert [i.name for i in converted.model.graph.input] == ["image", "cam_target"]
    assert converted.model.opset_import == model.opset_import


# A Gather on the path needs ScatterElements with a reduction, which is there from opset 16 on.
@pytest.mark.parametrize(("layer", "opset"), [("features", 13), ("b", 16)])
def test_only_what_is_emitted_decides_the_opset(layer, opset):
    model = BUILDERS["split_slice_pad"]()
    model.opset_import[0].version = 13
    converted = convert(model, layers=layer)
    assert converted.model.opset_import[0].version == opset
    assert converted.contract.raised == ({} if opset == 13 else {"opset": [13, 16]})
    assert bool(converted.notes) == (opset == 16)
    feeds = inputs(model)
    np.testing.assert_array_equal(run(model, feeds)[0], run(converted.to_bytes(), feeds, ["logits"])[0])


def test_a_file_that_cannot_be_raised_says_what_to_do():
    model = BUILDERS["opset7"]()
    model.opset_import[0].version = 6
    with pytest.raises(cam_onnx.UnsupportedOpset, match="opset 6 is below 7: export it again"):
        convert(model)


@pytest.mark.parametrize("target_input", TARGET_INPUTS)
@pytest.mark.parametrize("name", BUILDERS)
def test_the_full_check_passes(name, target_input):
    model = BUILDERS[name]()
    for layers in (None, every_candidate(model)):
        converted = convert(model, layers=layers, target_input=target_input)
        onnx.checker.check_model(converted.model, full_check=True)
        assert converted.model.opset_import[0].version == RAISED.get(name, model.opset_import[0].version)
        values = {v.name: v.type for v in converted.model.graph.value_info}
        emitted = {y for node in converted.model.graph.node for y in node.output if y.startswith(("grad/", "cam/"))}
        assert emitted <= set(values), "every added inner value has its type"


# -- the same bytes everywhere ---------------------------------------------------------------------------------------

HASHES = """
import hashlib, sys
sys.path.insert(0, {root!r})
from cam_onnx import convert
from models.builders import BUILDERS
for name in {names!r}:
    model = BUILDERS[name]()
    layers = {layers!r}[name]
    print(hashlib.sha256(convert(model, layers=layers).to_bytes()).hexdigest())
"""


def test_same_file_and_arguments_give_the_same_bytes_in_every_process():
    names = sorted(BUILDERS)
    layers = {name: every_candidate(BUILDERS[name]()) for name in names}
    here = [hashlib.sha256(convert(BUILDERS[n](), layers=layers[n]).to_bytes()).hexdigest() for n in names]
    again = [hashlib.sha256(convert(BUILDERS[n](), layers=layers[n]).to_bytes()).hexdigest() for n in names]
    assert here == again
    code = HASHES.format(root=str(ROOT), names=names, layers=layers)
    for seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120
        )
        assert done.stdout.split() == here, done.stderr


def test_path_bytes_and_proto_give_the_same_file(tmp_path):
    model = BUILDERS["residual"]()
    data = model.SerializeToString(deterministic=True)
    path = tmp_path / "möd el.onnx"
    path.write_bytes(data)
    files = {convert(source).to_bytes() for source in (model, data, path, str(path))}
    assert len(files) == 1
    assert convert(path).contract.source_sha256 == hashlib.sha256(data).hexdigest()


def test_the_saved_file_is_to_bytes(tmp_path):
    converted = convert(BUILDERS["gap_linear"]())
    assert converted.save(tmp_path / "out.onnx") == str(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == converted.to_bytes()
    assert os.listdir(tmp_path) == ["out.onnx"]


def test_weights_are_not_copied(converted_demo):
    grown = converted_demo.stat().st_size - MODEL.stat().st_size
    assert grown < 30_000, "labels, preprocessing, names and a few nodes; the linear layer alone has 5 MB"


# -- original outputs ------------------------------------------------------------------------------------------------


def largest_difference(plain, converted) -> float:
    """Return the largest difference of any output, in units of that output's largest entry; 0 is bit for bit."""
    pairs = list(zip(plain, converted, strict=True))
    assert all(x.dtype == y.dtype and x.shape == y.shape for x, y in pairs)
    return max(float(np.abs(x - y).max() / np.abs(x).max()) for x, y in pairs)


@pytest.mark.parametrize("name", BUILDERS)
def test_original_outputs_do_not_change(name):
    model = BUILDERS[name]()
    feeds, names = inputs(model), output_names(model)
    everywhere = [i.name for i in model.graph.input if i.name in feeds] + every_candidate(model)
    rounding = HALF if name == "float16" else 0
    plain = run(model, feeds, optimised=False)
    for layers in (None, everywhere):  # as the graph is written: bit for bit, wherever one looks
        data = convert(model, layers=layers).to_bytes()
        assert largest_difference(plain, run(data, feeds, names, optimised=False)) <= rounding
    plain = run(model, feeds)
    if not name.startswith("vit_"):  # the input of an attention lies inside what runtimes fuse
        assert largest_difference(plain, run(convert(model).to_bytes(), feeds, names)) <= rounding
    for layer in (None, *everywhere):
        converted = convert(model, layers=layer)
        difference = largest_difference(plain, run(converted.to_bytes(), feeds, names))
        # a fusion that no longer happens rounds otherwise, and the contract says where that may be
        assert difference <= max(rounding, 1e-6), layer
        assert difference == 0 or rounding or converted.contract.cuts_fusion, layer


@pytest.mark.parametrize("name", ["float16", "residual", "opset12"])
def test_original_outputs_do_not_change_in_the_reference_evaluator(name):
    """It executes the graph as written, 16-bit values too."""
    model = BUILDERS[name]()
    base = load(model).raise_to(LOWEST).whole() if name in RAISED else model  # it takes old Softmax for the new one
    feeds = inputs(model)
    converted = convert(model, layers=every_candidate(model)).to_bytes()
    assert largest_difference(evaluate(base, feeds), evaluate(converted, feeds, output_names(model))) == 0


def test_original_outputs_of_the_bundled_network_do_not_change(demo_candidates):
    feeds = {"image": np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)}
    plain = run(MODEL, feeds, optimised=False)
    converted = convert(MODEL, layers=["image", *demo_candidates]).to_bytes()
    assert largest_difference(plain, run(converted, feeds, ["logits"], optimised=False)) == 0
    plain = run(MODEL, feeds)
    assert largest_difference(plain, run(convert(MODEL).to_bytes(), feeds, ["logits"])) == 0
    assert largest_difference(plain, run(converted, feeds, ["logits"])) <= 1e-6  # float rounding: cut fusions
    assert len(demo_candidates) > 80
    for layer in demo_candidates[5::17]:
        one = convert(MODEL, layers=layer)
        difference = largest_difference(plain, run(one.to_bytes(), feeds, ["logits"]))
        assert difference <= 1e-6, layer
        assert difference == 0 or one.contract.cuts_fusion, layer


def test_an_old_caller_keeps_its_feeds_and_outputs():
    model = BUILDERS["multi_head"]()
    opened = session(convert(model).to_bytes())
    assert [i.name for i in opened.get_inputs()] == ["image"]
    assert [i.name for i in opened.get_overridable_initializers()] == ["cam_target"]
    assert [o.name for o in opened.get_outputs()][:2] == ["species", "colour"]


# -- what is added ---------------------------------------------------------------------------------------------------


def declared(values) -> dict[str, tuple[int, list]]:
    return {
        v.name: (v.type.tensor_type.elem_type, [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim])
        for v in values
    }


def test_outputs_are_appended_and_typed():
    model = BUILDERS["silu_se"]()
    converted = convert(model)
    added = list(converted.model.graph.output)[1:]
    assert [o.name for o in added] == ["cam_logits", "cam_activations", "cam_gradients", "cam_score", "cam_class"]
    assert declared(added) == {
        "cam_logits": (TensorProto.FLOAT, ["N", 6]),
        "cam_activations": (TensorProto.FLOAT, ["N", 8, 8, 8]),
        "cam_gradients": (TensorProto.FLOAT, ["N", 8, 8, 8]),
        "cam_score": (TensorProto.FLOAT, ["N"]),
        "cam_class": (TensorProto.INT64, ["N"]),
    }
    assert converted.contract.roles == {
        "image": "image", "target": "cam_target", "logits": "cam_logits", "score": "cam_score", "class": "cam_class"
    }  # fmt: skip
    assert converted.contract.activation == "softmax"
    [kind, dims] = declared(converted.model.graph.input)["cam_target"]
    assert kind == TensorProto.INT64
    assert len(dims) == 1
    assert isinstance(dims[0], str)
    assert dims[0] not in ("", "N"), "a symbol of its own: its length is 1 or N"


def test_logits_that_are_an_output_are_not_given_twice():
    contract = convert(BUILDERS["gap_linear"]()).contract
    assert contract.roles["logits"] == "logits"


def test_several_layers_are_numbered():
    converted = convert(BUILDERS["residual"](), layers=["b", "features"])
    assert [(x.name, x.activations, x.gradients) for x in converted.contract.layers] == [
        ("b", "cam_activations_0", "cam_gradients_0"),
        ("features", "cam_activations_1", "cam_gradients_1"),
    ]
    batch, channels, *space = declared(converted.model.graph.output)["cam_gradients_0"][1]
    assert (batch, channels) == ("N", 6)
    assert all(isinstance(size, str) and size for size in space), "dynamic stays dynamic"


TAKEN = """
<ir_version: 8, opset_import: ["": 18]>
taken (float[N,3,8,8] cam_target, float[1] cam_targets) => (float[N,3] cam_score, float[N,3,8,8] cam_activations) {
    cam_gradients = Relu(cam_target)
    cam_activations = Mul(cam_gradients, cam_targets)
    cam_class = GlobalAveragePool(cam_activations)
    cam_score = Flatten(cam_class)
}
"""


def test_names_that_the_model_has_give_way_to_a_suffix():
    model = onnx.parser.parse_model(TAKEN)
    model.graph.node[0].name = "cam/Flatten"
    converted = convert(model, layers="cam_gradients")
    onnx.checker.check_model(converted.model, full_check=True)
    roles, [layer] = converted.contract.roles, converted.contract.layers
    assert roles == {
        "image": "cam_target", "target": "cam_target_2", "logits": "cam_score", "score": "cam_score_2",
        "class": "cam_class_2",
    }  # fmt: skip
    assert (layer.activations, layer.gradients) == ("cam_activations_2", "cam_gradients_2")
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    explainer = cam_onnx.Explainer(converted.to_bytes())
    e = explainer.explain(inputs={"cam_target": x, "cam_targets": np.array([3], np.float32)}, target=[1, 2])
    assert e.target.tolist() == [1, 2]
    np.testing.assert_allclose(e.gradients[0].sum((1, 2)), [0, 3, 0], rtol=1e-6)


def test_the_contract_is_in_the_file_and_reads_back(converted_demo):
    model = onnx.load(converted_demo, load_external_data=False)
    [entry] = [e for e in model.metadata_props if e.key == KEY]
    contract = Contract.from_json(entry.value)
    assert (
        contract
        == convert(
            MODEL, preprocess=ROOT / "models/efficientnet-lite0.json", labels=ROOT / "models/imagenet_labels.txt"
        ).contract
    )
    assert contract.tool == f"cam_onnx {cam_onnx.__version__}"
    assert contract.source_sha256 == hashlib.sha256(MODEL.read_bytes()).hexdigest()
    assert contract.preprocess is not None
    assert contract.preprocess.size == (224, 224)
    assert contract.labels is not None
    assert contract.labels[285] == "Egyptian cat"
    assert contract.method == "grad-cam"
    assert (contract.target_input, contract.cuts_fusion, contract.raised) == ("optional", (), {})


@pytest.mark.parametrize("name", ["gap_linear", "nhwc", "silu_se", "regression", "float16", "opset7"])
def test_behind_pooling_and_a_linear_layer_only_a_row_is_gathered(name):
    model = BUILDERS[name]()
    for converted in (convert(model), convert(model, score="logits" if name != "regression" else None)):
        count = len(
            without_additions(converted.model, load(model).raise_to(13).whole() if name in RAISED else model).graph.node
        )
        added = [node.op_type for node in converted.model.graph.node[count:]]
        assert "Gather" in added
        assert set(added) & {"MatMul", "Gemm", "Conv", "ConvTranspose", "OneHot"} == set()
        assert len(added) < 30, "what resolves and checks the target, and a handful behind it"


# -- cam_target ------------------------------------------------------------------------------------------------------

BAD_TARGETS = {
    "-2": (2, [-2, 0]),
    "C'": (2, [0, 5]),
    "a huge one": (2, [0, 2**62]),
    "the smallest": (1, [-(2**63)]),
    "length 3 for 4": (4, [0, 1, 2]),
    "length 2 for 4": (4, [0, 1]),
    "length 3 for batch 1": (1, [0, 1, 2]),
    "bad at length 1": (3, [5]),
    "bad and compensated by the length": (2, [-2]),
    "length 3 with one bad for 2": (2, [0, 9, 1]),
    "empty": (2, []),
    "empty for batch 1": (1, []),
}


@pytest.mark.parametrize("backend", RUNNERS)
@pytest.mark.parametrize("target_input", TARGET_INPUTS)
@pytest.mark.parametrize("row", BAD_TARGETS)
def test_a_bad_cam_target_makes_the_run_fail(row, target_input, backend):
    batch, target = BAD_TARGETS[row]
    model = BUILDERS["gap_linear"]()
    converted = convert(model, target_input=target_input).to_bytes()
    feeds = {**inputs(model, batch), "cam_target": np.array(target, np.int64)}
    with pytest.raises(Exception) as caught:
        RUNNERS[backend](converted, feeds, ["cam_class", "cam_score", "cam_gradients"])
    assert "cam" in str(caught.value) or backend == "reference", "the message names the node"


@pytest.mark.parametrize("output", ["cam_class", "cam_score", "cam_gradients"])
def test_a_bad_cam_target_fails_whichever_output_is_asked_for(output):
    model = BUILDERS["gap_linear"]()
    feeds = {**inputs(model), "cam_target": np.array([5])}
    with pytest.raises(Exception, match="cam/"):
        run(convert(model).to_bytes(), feeds, [output])


@pytest.mark.parametrize("backend", RUNNERS)
@pytest.mark.parametrize("target_input", TARGET_INPUTS)
def test_good_targets(target_input, backend):
    model = BUILDERS["gap_linear"]()
    converted = convert(model, target_input=target_input).to_bytes()
    feeds = inputs(model, 3)
    outputs = ["logits", "cam_class", "cam_score"]
    rows = {(0,): [0, 0, 0], (4, 0, 2): [4, 0, 2], (-1, 3, -1): None, (-1,): None}
    for target, expected in rows.items():
        logits, chosen, score = RUNNERS[backend](converted, {**feeds, "cam_target": np.array(target)}, outputs)
        best = logits.argmax(1)
        expected = [best[i] if t == -1 else t for i, t in enumerate(np.broadcast_to(target, 3))]
        assert chosen.tolist() == expected
        np.testing.assert_array_equal(score, logits[range(3), expected])
    if target_input == "optional":
        assert RUNNERS[backend](converted, feeds, ["cam_class"])[0].tolist() == best.tolist()
    else:
        with pytest.raises(Exception, match="cam_target"):
            RUNNERS[backend](converted, feeds, outputs)


# -- gradients -------------------------------------------------------------------------------------------------------


def test_gradients_at_the_last_convolution_are_the_class_s_weights(cat):
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(MODEL).graph.initializer}
    [weight] = [t for t in tensors.values() if t.shape in {(1000, 1280), (1280, 1000)}]
    row = weight[285] if len(weight) == 1000 else weight[:, 285]
    expected = np.broadcast_to(row[:, None, None] / 49, (1280, 7, 7))
    np.testing.assert_allclose(cat.gradients[0], expected, rtol=1e-5)


def test_behind_max_pooling_the_gradient_sits_on_the_maximum():
    model = BUILDERS["gmp_linear"]()
    x = inputs(model, 1)
    found = dict(
        zip(
            o := ["cam_activations", "cam_gradients"],
            run(convert(model).to_bytes(), {**x, "cam_target": np.array([2])}, o),
            strict=True,
        )
    )
    weight = onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "w3"))
    a, g = (v[0].reshape(8, -1) for v in found.values())
    expected = np.zeros_like(a)
    expected[range(8), a.argmax(1)] = weight[2]
    np.testing.assert_allclose(g, expected, rtol=1e-6)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_gradient_is_the_general_differentiator_s(name):
    """One seed for the chosen class, through `autodiff.gradient`, which knows nothing of targets and layers."""
    model = BUILDERS[name]()
    layers = every_candidate(model)
    converted = convert(model, layers=layers)
    contract = converted.contract
    feeds = inputs(model)
    if feeds[contract.roles["image"]].shape[0] == 1:
        target = np.array([0])
    else:
        target = np.array([0, (0 if name == "regression" else 2)])
    names = [layer.gradients for layer in contract.layers]
    ours = run(converted.to_bytes(), {**feeds, contract.roles["target"]: target}, [*names, contract.roles["logits"]])
    seed = np.zeros(ours[-1].shape, np.float32)
    seed[range(len(target)), target] = 1
    base = load(model).raise_to(LOWEST).whole() if name in RAISED else model
    general = autodiff.gradient(base, layers, [contract.score])
    theirs = run(general, {**feeds, f"cotangent/{contract.score}": seed}, [f"grad/{layer}" for layer in layers])
    for layer, x, y in zip(layers, ours[:-1], theirs, strict=True):
        assert np.abs(y).max() > 0, layer
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6 * np.abs(y).max(), err_msg=layer)  # float32 sums


def test_the_input_gradient_of_the_bundled_network_is_the_directional_difference(demo):
    """Directions along the gradient, on a real picture with small noise, so that no ties are crossed."""
    from cam_onnx.engine import preprocess
    from cam_onnx.render import image

    rng = np.random.default_rng(0)
    x, _ = preprocess.apply(demo.contract.preprocess, image.load(CAT).pixels)
    x = (x + 0.02 * rng.standard_normal(x.shape)).astype(np.float32)
    converted = convert(MODEL, layers="image").to_bytes()
    outputs = ["logits", "cam_class", "cam_gradients"]
    [logits], [chosen], [g] = run(converted, {"image": x}, outputs)
    assert g.shape == x.shape[1:]
    g = g.astype(np.float64)
    halves = []
    for _ in range(4):
        grid = rng.permutation(64).reshape(8, 8) < 32
        patches = np.kron(grid, np.ones((28, 28)))
        halves += [g * patches, g * (1 - patches)]
    change = 5e-4 * max(abs(float(logits[chosen])), float(logits.std()))  # larger: kinks; smaller: rounding
    opened, errors = session(MODEL), []
    for direction in (g, *halves):
        step = change / np.vdot(g, direction) * direction / 2
        pair = np.stack([x[0] + step, x[0] - step]).astype(np.float32)
        predicted = np.vdot(g, pair[0].astype(np.float64) - pair[1])  # the step as it is after rounding
        scores = opened.run(["logits"], {"image": pair})[0][:, chosen].astype(np.float64)
        errors.append(abs(scores[0] - scores[1] - predicted) / abs(predicted))
    assert max(errors) < 1e-2, errors  # right gradients gave up to 5e-3 at the image, on five pictures


def test_a_layer_that_is_an_output_already_is_exposed_under_its_role_too():
    model = BUILDERS["gap_linear"]()
    model.graph.output.append(onnx.helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 8, 8, 8]))
    converted = convert(model)
    onnx.checker.check_model(converted.model, full_check=True)
    kept, exposed = run(converted.to_bytes(), inputs(model), ["features", "cam_activations"])
    np.testing.assert_array_equal(kept, exposed)
