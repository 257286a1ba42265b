"""Files as exporters and tools leave them: where the weights stand, how large they are, and what is asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cam_onnx import Explainer, InputError, convert
from models.builders import BUILDERS, inputs
from tests.running import run

NETWORKS = ["residual", "silu_se", "vgg_like", "densenet_like", "vit_class"]


def constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """As Paddle's exporter: every weight the output of a node."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in model.graph.initializer]
    del changed.graph.initializer[:]
    del changed.graph.node[:]
    changed.graph.node.extend([*nodes, *model.graph.node])
    return changed


def among_the_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights that a caller may replace: initializers are the defaults of inputs."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in model.graph.initializer:
        changed.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return changed


def of_ir_3(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = among_the_inputs(model)
    changed.ir_version = 3
    return changed


def symbolic(model: onnx.ModelProto) -> onnx.ModelProto:
    """No size of anything is said."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for value in [*changed.graph.input, *changed.graph.output]:
        for i, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"{value.name}_{i}"
    del changed.graph.value_info[:]
    return changed


def minus_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """As Paddle's exporter and onnxsim write a size that may be any."""
    changed = symbolic(model)
    for value in [*changed.graph.input, *changed.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = -1
    return changed


@pytest.mark.parametrize("as_written", [constants, among_the_inputs, of_ir_3, symbolic, minus_one])
@pytest.mark.parametrize("name", NETWORKS)
def test_where_weights_stand_and_what_is_said_of_sizes_changes_nothing(name, as_written):
    model = BUILDERS[name]()
    feeds = inputs(model)
    plain = Explainer(model, layers="features", providers="cpu").explain(inputs=feeds)
    other = Explainer(as_written(model), layers="features", providers="cpu").explain(inputs=feeds)
    assert plain.gradients.any()
    np.testing.assert_allclose(other.gradients, plain.gradients, atol=1e-6 * np.abs(plain.gradients).max())
    np.testing.assert_array_equal(other.target, plain.target)


def test_a_weight_that_is_an_input_can_still_be_replaced():
    """The gradient is then that of the network with the other weight."""
    model = BUILDERS["gap_linear"]()
    feeds = inputs(model)
    converted = convert(among_the_inputs(model), layers="features")
    [weight] = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "w3"]
    [layer] = converted.contract.layers
    names, target = [layer.gradients], {converted.contract.roles["target"]: np.array([1], np.int64)}
    [before] = run(converted.to_bytes(), {**feeds, **target}, names)
    [after] = run(converted.to_bytes(), {**feeds, **target, "w3": weight * np.float32(2)}, names)
    assert before.any()
    np.testing.assert_allclose(after, 2 * before, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["gap_linear", "gmp_linear", "vgg_like", "densenet_like", "split_slice_pad", "float16"]
)
def test_a_batch_of_none_gives_empty_arrays_and_explains_nothing(name):
    model = BUILDERS[name]()
    feeds = {k: v[:0] for k, v in inputs(model).items()}
    converted = convert(model)
    [layer] = converted.contract.layers
    names = [layer.activations, layer.gradients, "logits"]
    whole = run(converted.to_bytes(), inputs(model), names)
    for value, full in zip(run(converted.to_bytes(), feeds, names), whole, strict=True):
        assert value.shape == (0, *full.shape[1:])
        assert value.dtype == full.dtype
    with pytest.raises(InputError, match="at least 1"):
        Explainer(model, providers="cpu").explain(inputs=feeds)


@pytest.mark.parametrize("also", ["", ", float[N,5] probabilities"], ids=["alone", "beside numbers"])
def test_labels_and_a_map_of_scores_as_outputs(also):
    """As Custom Vision writes classifiers: a string, and a map for each picture."""
    text = """<ir_version: 8, opset_import: ["": 18, "ai.onnx.ml": 3]>
        labelled (float[N,3,8,8] image) => (string[N,1] label ALSO) {
        features = Relu(image) pooled = GlobalAveragePool(features) flat = Flatten(pooled) logits = MatMul(flat, w)
        probabilities = Softmax<axis=1>(logits) best = ArgMax<axis=1, keepdims=1>(probabilities)
        label = ai.onnx.ml.LabelEncoder<keys_int64s=[0,1,2,3,4], values_strings=["a","b","c","d","e"]>(best)
        loss = ai.onnx.ml.ZipMap<classlabels_strings=["a","b","c","d","e"]>(probabilities) }"""
    model = onnx.parser.parse_model(text.replace("ALSO", also))
    rng = np.random.default_rng(0)
    w = rng.standard_normal((3, 5)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    loss = model.graph.output.add(name="loss").type.sequence_type.elem_type.map_type
    loss.key_type, loss.value_type.tensor_type.elem_type = TensorProto.STRING, TensorProto.FLOAT
    image = rng.standard_normal((2, 3, 8, 8)).astype(np.float32)
    converted = convert(model)
    assert (converted.contract.score, converted.contract.activation) == ("logits", "softmax")
    e = Explainer(model, providers="cpu").explain(inputs={"image": image}, target=1)
    np.testing.assert_allclose(e.gradients[0, :, 0, 0], w[:, 1] / 64, rtol=1e-5)
    [label, maps] = run(converted.to_bytes(), {"image": image}, ["label", "loss"])
    assert label[0, 0] == max(maps[0], key=maps[0].get)


# -- more than fits twice ----------------------------------------------------------------------------------------------

WIDE, LAYERS = 11_200, 5  # five square matrices of 0.5 GB
LARGEST = WIDE * WIDE * 4
MEASURED = """
import sys
{body}
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024)
"""  # not ru_maxrss: it begins with what the process that started this one had


def peak(body: str, *arguments: object) -> int:
    """Return the most bytes of memory that a program of its own had."""
    command = [sys.executable, "-c", MEASURED.format(body=body), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.splitlines()[-1])


@pytest.fixture
def large(tmp_path):
    """A network of 2.5 GB whose weights, seeded, lie in a file beside it."""
    rng, offset, tensors = np.random.default_rng(0), 0, []
    with (tmp_path / "weights.bin").open("wb") as file:
        for i in range(LAYERS):
            tensor = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[WIDE, WIDE])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", offset), ("length", LARGEST)):
                tensor.external_data.add(key=key, value=str(value))
            tensors.append(tensor)
            for _ in range(WIDE // 700):  # a slice at a time
                file.write(rng.random((700, WIDE), np.float32).tobytes())
            offset += LARGEST
    products = " ".join(f"m{i} = MatMul({'flat' if not i else f'm{i - 1}'}, w{i})" for i in range(LAYERS))
    text = f"""<ir_version: 8, opset_import: ["": 18]>
        large (float[N,{WIDE},2,2] features_in) => (float[N,{WIDE}] logits)
        {{ features = Relu(features_in) pooled = GlobalAveragePool(features) flat = Flatten(pooled)
           {products} logits = Relu(m{LAYERS - 1}) }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(tensors)
    (tmp_path / "large.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "large.onnx"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_two_and_a_half_gigabytes_are_converted_in_less_than_one_tensor_and_a_bit(large, tmp_path):
    out = tmp_path / "out.onnx"
    body = "import cam_onnx\ncam_onnx.convert(sys.argv[1], layers='features').save(sys.argv[2])"
    assert peak(body, large, out) < LARGEST + 300e6
    made, source = tmp_path / "out.onnx.data", tmp_path / "weights.bin"
    assert made.stat().st_size >= source.stat().st_size > 2.5e9 - 1e7
    moved = onnx.load(out, load_external_data=False)
    for i in (0, LAYERS - 1):
        said = {e.key: e.value for e in moved.graph.initializer[i].external_data}
        ours = np.memmap(made, np.float32, "r", int(said["offset"]), (WIDE, WIDE))
        theirs = np.memmap(source, np.float32, "r", i * LARGEST, (WIDE, WIDE))
        np.testing.assert_array_equal(ours[::997], theirs[::997])
    os.remove(made)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_of_outputs_of_gigabytes_only_what_is_asked_for_is_fetched(tmp_path):
    """A second output of 2.1 GB: the runtime makes it, and no copy of it is made."""
    model = BUILDERS["gap_linear"]()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 8, 8192, 8192]), "wide"))
    model.graph.node.append(helper.make_node("Expand", ["pooled", "wide"], ["big"]))
    model.graph.output.append(helper.make_tensor_value_info("big", TensorProto.FLOAT, ["N", 8, 8192, 8192]))
    onnx.save(model, tmp_path / "big.onnx")
    body = """
import numpy as np, cam_onnx
e = cam_onnx.Explainer(sys.argv[1], layers="features", providers="cpu")
image = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
assert e.explain(inputs={{"image": image}}, target=0).gradients.any()
"""
    assert peak(body.replace("{{", "{").replace("}}", "}"), tmp_path / "big.onnx") < 2.15e9 + 400e6
