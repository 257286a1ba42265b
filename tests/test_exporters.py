"""One network as many exporters spell it: the same map with no option; and what each spelling is, so that it is one."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import onnx
import pytest

from cam_onnx import Explainer, convert
from cam_onnx.engine.preprocess import apply
from cam_onnx.graph.inspect import inspect
from models.exporters import EPSILON, SPELLINGS, pixels, weights
from tools.exporters import page
from tools.exporters.make import MAKERS, kept, made


@functools.cache
def explained(name: str):
    return Explainer(SPELLINGS[name].build()).explain(pixels())


def by_hand() -> np.ndarray:
    """Return the logits of the picture that all spellings see, in plain NumPy."""
    seen, _ = apply(Explainer(SPELLINGS["torch_script"].build()).contract.preprocess, pixels())
    value = seen[0].astype(np.float64)
    w = weights()
    for name in ("conv1", "conv2"):
        padded = np.pad(value, [(0, 0), (1, 1), (1, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        value = np.einsum("chwij,kcij->khw", windows, w[f"{name}.w"])
        normal = (value.T - w[f"{name}.m"]) / np.sqrt(w[f"{name}.v"] + EPSILON) * w[f"{name}.s"] + w[f"{name}.b"]
        value = np.maximum(normal.T, 0)
        if name == "conv1":
            value = value.reshape(8, 16, 2, 16, 2).max((2, 4))
    return w["fc.w"] @ value.mean((1, 2)) + w["fc.b"]


@pytest.mark.parametrize("name", SPELLINGS)
def test_all_spellings_have_one_map_with_no_option(name):
    """NHWC and NCHW, with and without softmax, folded and not, opset 7 to 21: maps equal to 1e-4."""
    found, first = explained(name), explained("torch_dynamo")
    np.testing.assert_allclose(found.logits[0], by_hand(), atol=1e-4)
    assert found.target.tolist() == first.target.tolist()
    np.testing.assert_allclose(found.saliency_map[0], first.saliency_map[0], atol=1e-4)
    scale = np.abs(first.saliency).max()
    np.testing.assert_allclose(found.saliency / scale, first.saliency / scale, atol=1e-4)
    assert found.saliency.shape == (1, 16, 16)
    assert found.saliency_map[0].max() == 1
    assert found.saliency_map[0].std() > 0.05, "a flat map would be equal too"


def regression(name: str) -> onnx.ModelProto:
    """Return the spelling with one output and no softmax, as the exporter writes a network of that kind."""
    model = SPELLINGS[name].build()
    softmax = model.graph.node[-1]
    assert softmax.op_type == "Softmax"
    model.graph.output[0].name = softmax.input[0]
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    del model.graph.node[-1]
    for tensor in model.graph.initializer:
        if 5 in tensor.dims:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor)[..., :1], tensor.name))
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("name", ["tf2onnx", "tf2onnx_9", "keras_export"])
def test_a_regression_of_another_exporter_is_explained_by_its_value(name):
    """Channels last at its edges, no class to choose: the map is that of this one logit in PyTorch's file."""
    found = Explainer(regression(name)).explain(pixels())
    assert found.contract.task.startswith("regression")
    logit = Explainer(SPELLINGS["torch_script"].build()).explain(pixels(), target=0)
    np.testing.assert_allclose(found.score[0], by_hand()[0], atol=1e-4)
    np.testing.assert_allclose(found.saliency, logit.saliency, atol=1e-4 * np.abs(logit.saliency).max())
    assert found.saliency_map[0].std() > 0.05
    lower = Explainer(regression(name)).explain(pixels(), target="lower")
    np.testing.assert_allclose(lower.saliency, -found.saliency, atol=1e-5 * np.abs(found.saliency).max())


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling_is_what_it_says(name):
    spelling = SPELLINGS[name]
    model = spelling.build()
    onnx.checker.check_model(model)
    assert (model.ir_version, model.opset_import[0].version) == (spelling.ir, spelling.opset)
    report = inspect(model)
    assert report.problems == ()
    assert report.unsupported == ()
    assert report.score is not None
    assert report.layer is not None


def test_spellings_differ_in_what_exporters_differ_in():
    """Layout, activation, normalisation, where weights stand: each kind is there."""
    models = {name: spelling.build() for name, spelling in SPELLINGS.items()}
    operators = {name: [node.op_type for node in model.graph.node] for name, model in models.items()}
    contracts = {name: convert(model).contract for name, model in models.items()}
    assert {"Softmax" in found for found in operators.values()} == {True, False}
    assert {"BatchNormalization" in found for found in operators.values()} == {True, False}
    assert {explained(name).contract.preprocess.layout for name in models} == {"NCHW", "NHWC"}
    assert {contract.activation for contract in contracts.values()} == {"softmax", ""}
    assert contracts["channels_last"].layers[0].axes.channel == 3
    for name, number in (("paddle2onnx_7", 1), ("mxnet_8", 0)):
        found = [a.i for node in models[name].graph.node for a in node.attribute if a.name == "spatial"]
        assert found == [number] * 2, name
    assert [len(node.output) for node in models["caffe2"].graph.node if node.op_type == "Dropout"] == [2]
    assert models["caffe2"].graph.input[0].name == "conv1_w_0"
    assert not models["paddle2onnx"].graph.initializer
    assert convert(models["skl2onnx"]).contract.score == "add_result"
    assert {f.domain for f in models["functions"].functions} == {"pkg.torch", "local"}


def operators(name: str) -> list[str]:
    return [node.op_type for node in SPELLINGS[name].build().graph.node]


def layout(name: str) -> tuple[str, int]:
    """Return the door's layout, and where the layer has its channels."""
    contract = explained(name).contract
    return contract.preprocess.layout, contract.layers[0].axes.channel


# what two spellings of one network differ in, as a fact of each
PAIRS = {
    "NCHW and NHWC at the door": ("torch_script", "tf2onnx", layout, [("NCHW", 1), ("NHWC", 1)]),
    "NCHW and NHWC at the layer": ("torch_script", "channels_last", layout, [("NCHW", 1), ("NHWC", 3)]),
    "with softmax and without": (
        "paddle2onnx", "torch_script", lambda name: (operators(name)[-1], explained(name).contract.activation),
        [("Softmax", "softmax"), ("Gemm", "")],
    ),
    "BatchNormalization as a node and in the convolution": (
        "torch_unfused", "torch_script", lambda name: operators(name).count("BatchNormalization"), [2, 0],
    ),
    "BatchNormalization as arithmetic and in the convolution": (
        "jax2onnx", "torch_script", lambda name: operators(name).count("Sub") > 0, [True, False],
    ),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_two_exporters_one_map(pair):
    one, other, fact, facts = PAIRS[pair]
    assert [fact(one), fact(other)] == facts
    np.testing.assert_allclose(explained(one).saliency_map[0], explained(other).saliency_map[0], atol=1e-4)
    scale = np.abs(explained(other).gradients).max()
    np.testing.assert_allclose(explained(one).gradients, explained(other).gradients, atol=1e-4 * scale)


@pytest.mark.parametrize("tool", ["onnxsim", "onnxslim"])
@pytest.mark.parametrize("name", ["torch_unfused", "channels_last", "paddle2onnx", "jax2onnx", "mxnet_8"])
def test_a_simplified_file_has_the_same_map(tool, name):
    module = pytest.importorskip(tool, reason=f"{tool} is not installed (extra zoo has it)")
    model = SPELLINGS[name].build()
    simplified = module.simplify(model)[0] if tool == "onnxsim" else module.slim(model)
    assert [n.op_type for n in simplified.graph.node] != [n.op_type for n in model.graph.node]
    found = Explainer(simplified).explain(pixels())
    np.testing.assert_allclose(found.saliency_map[0], explained(name).saliency_map[0], atol=1e-4)


# -- exporters themselves ---------------------------------------------------------------------------------------------


@pytest.mark.zoo
@pytest.mark.parametrize("name", MAKERS)
def test_what_an_exporter_writes_has_the_spellings_map_with_no_option(name):
    """Exported here where its packages are installed; what another Python has made is read."""
    try:
        model, _ = made(name)
    except PackageNotFoundError as error:
        if (before := kept(name)) is None:
            pytest.skip(f"{error} (python -m tools.exporters.make)")
        model, _ = before
    found = Explainer(model).explain(pixels())
    np.testing.assert_allclose(found.saliency_map[0], explained("torch_script").saliency_map[0], atol=1e-4)
    np.testing.assert_allclose(found.logits[0], by_hand(), atol=1e-4)


def test_the_page_has_a_row_for_every_exporter():
    rows = [row[2:].split(" | ") for row in page.table("real")[2:]]
    assert [row[0] for row in rows] == list(MAKERS)
    assert max(float(row[-1].rstrip(" |")) for row in rows) < 1e-4


# -- onnx's own files of the Caffe2 time ------------------------------------------------------------------------------

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
# the last grid before the pooling or the flattening, as the papers have it; the activation behind the score
GRIDS = {
    "bvlc_alexnet": ((256, 6, 6), "softmax"),
    "densenet121": ((1024, 7, 7), ""),
    "inception_v1": ((1024, 6, 6), "softmax"),
    "inception_v2": ((1024, 7, 7), "softmax"),
    "resnet50": ((2048, 7, 7), "softmax"),
    "shufflenet": ((544, 7, 7), "softmax"),
    "squeezenet": ((1000, 13, 13), "softmax"),
    "vgg19": ((512, 7, 7), "softmax"),
    "zfnet512": ((512, 6, 6), "softmax"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_a_file_of_ir_3_is_understood(name):
    """Opset 9, weights among the inputs (some before the picture), their values in ConstantOfShape."""
    file = LIGHT / f"light_{name}.onnx"
    if not file.is_file():
        pytest.skip("this onnx comes without its light_* files")
    contract = convert(file).contract
    [layer] = contract.layers
    shapes = {value.name: value.shape for value in inspect(file).candidates}
    assert shapes[layer.name] == (1, *GRIDS[name][0])
    assert contract.activation == GRIDS[name][1]
    assert contract.roles["image"].endswith("data_0")
    assert len(contract.labels) == 1000


@pytest.mark.parametrize("name", ["squeezenet"])
def test_a_file_of_ir_3_is_explained(name):
    file = LIGHT / f"light_{name}.onnx"
    if not file.is_file():
        pytest.skip("this onnx comes without its light_* files")
    found = Explainer(file).explain(pixels(), target=3)
    assert found.saliency.shape == (1, 13, 13)
    assert found.reasons == [None]
    assert any("raised from IR version 3" in note for note in found.notes)
