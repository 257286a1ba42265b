"""Layers that are asked for by more than a name: an index, a word, a glob, a module of the framework."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.parser
import pytest

import cam_onnx
from cam_onnx import InputError, LayerNotFound
from cam_onnx.autodiff.model import load
from cam_onnx.cli import main
from cam_onnx.graph.inspect import inspect
from cam_onnx.graph.layers import find_layers
from cam_onnx.graph.locate import find_score
from cam_onnx.graph.modules import modules
from models.builders import BUILDERS, inputs
from tests.running import MODEL

# two stages of two convolutions each: the first layer of the second stage still lies on the first one's grid
NODES = """
    stem_out = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(image, w0)
    a = Relu(stem_out)
    b = Conv<kernel_shape=[1,1]>(a, w1)
    c = Relu(b)
    d = Conv<kernel_shape=[1,1], strides=[2,2]>(c, w2)
    side = Conv<kernel_shape=[1,1], strides=[2,2]>(a, w2)
    e = Add(d, side)
    f = Relu(e)
    g = Conv<kernel_shape=[1,1]>(f, w3)
    h = Relu(g)
    i = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(h, w4)
    j = Conv<kernel_shape=[1,1], strides=[2,2]>(f, w5)
    k = Add(i, j)
    "495" = Relu(k)
    pooled = GlobalAveragePool("495")
    flat = Flatten(pooled)
    logits = Gemm<transB=1>(flat, v)
""".replace('"495"', "n495")
MODULES = {
    "stem_out": "stem", "a": "stem/act", "b": "layer1/layer1.0", "c": "layer1/layer1.0/act", "d": "layer1/layer1.1",
    "side": "layer1/down", "e": "layer1/layer1.1", "f": "layer1/layer1.1/act", "g": "layer2/layer2.0",
    "h": "layer2/layer2.0/act", "i": "layer2/layer2.1", "j": "layer2/down", "k": "layer2/layer2.1",
    "n495": "layer2/layer2.1/act", "pooled": "pool", "flat": "", "logits": "fc",
}  # fmt: skip


def network(spelled: str = "torchscript") -> onnx.ModelProto:
    """The network, with the names of its modules as PyTorch's older or newer exporter leaves them."""
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> net (float[N,3,32,32] image) => (float[N,5] logits) {{{NODES}}}'
    )
    rng = np.random.default_rng(0)
    shapes = dict(w0=(4, 3, 3, 3), w1=(4, 4, 1, 1), w2=(6, 4, 1, 1), w3=(6, 6, 1, 1), w4=(8, 6, 3, 3), w5=(8, 6, 1, 1),
                  v=(5, 8))  # fmt: skip
    for name, shape in shapes.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype("f4"), name))
    for node in model.graph.node:
        path = MODULES[node.output[0]]
        if spelled == "torchscript":
            node.name = "/" + "/".join(filter(None, [path, node.op_type])) + f"_{node.output[0]}"
        else:
            dotted = modules(onnx_node(f"/{path}/x"))
            node.name = f"node_{node.output[0]}"
            node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr(["", *dotted, node.output[0]]))
        for at, name in enumerate(node.input):
            node.input[at] = "495" if name == "n495" else name
        if node.output[0] == "n495":
            node.output[0] = "495"
    return model


def onnx_node(name: str):
    import onnx_ir as ir

    return ir.Node("", "Relu", [], name=name)


def found(names, model: onnx.ModelProto | None = None) -> list[str]:
    loaded = load(model or network())
    return [place.name for place in find_layers(loaded, names, find_score(loaded, None))]


ASKED = {
    "a value": ("f", ["f"]),
    "a node": ("/layer1/down/Conv_side", ["side"]),
    "a value that looks like an index": ("495", ["495"]),
    "an index": ("3", ["c"]),
    "an index, a number": (3, ["c"]),
    "an index from the end": ("-1", ["495"]),
    "an index from the end, a number": (-3, ["j"]),
    "the last convolution": ("last-conv", ["j"]),
    "every stage": ("all-stages", ["a", "f", "495"]),
    "a glob of nodes": ("/layer2/*/Conv_?", ["g", "i", "j"]),
    "a glob of values": ("[ab]", ["a", "b"]),
    "a module": ("layer1", ["f"]),
    "a module in a module": ("layer1.0", ["c"]),
    "a module without a number in one": ("layer2.down", ["j"]),
    "a glob of modules: the outermost": ("layer*", ["f", "495"]),
    "a glob of modules, further in": ("layer1.?", ["c", "f"]),
    "several": (["layer1", "last-conv", "f"], ["f", "j"]),
    "several, overlapping": (["495", "all-stages"], ["495", "a", "f"]),
}


@pytest.mark.parametrize("row", ASKED)
def test_what_is_asked_for_is_found(row):
    asked, names = ASKED[row]
    assert found(asked) == names
    with_gradients = cam_onnx.convert(network(), layers=asked).contract
    assert [layer.name for layer in with_gradients.layers] == names


@pytest.mark.parametrize("asked", ["layer1", "layer1.0", "layer*", "layer2.down"])
def test_modules_are_known_of_both_exporters(asked):
    assert found(asked, network("dynamo")) == found(asked, network("torchscript"))


def test_a_name_in_the_file_wins_over_every_other_meaning():
    model = network()
    renamed = {"c": "last-conv", "e": "all-stages", "g": "2", "h": "layer*", "i": "layer1"}
    for node in model.graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                names[at] = renamed.get(name, name)
    for name in renamed.values():
        assert found(name, model) == [name]
    assert found(2, model) == ["b"]


REFUSED = {
    "an index too far": ("14", LayerNotFound, "has no candidate layer 14: there are 14, from 0 to 13"),
    "an index too far from the end": (-15, LayerNotFound, "no candidate layer -15: there are 14"),
    "a glob that nothing matches": ("layer9*", LayerNotFound, "no module matches 'layer9*'; did you mean 'layer"),
    "a glob like nothing": ("zzz*", LayerNotFound, "matches 'zzz*'; candidates: 495, k, j, i"),
    "a module that is not there": ("layer1.7", LayerNotFound, "no value or node 'layer1.7'; did you mean 'layer1."),
    "a word, misspelt": ("lastconv", LayerNotFound, "did you mean 'last-conv'?"),
    "twice by name": (["f", "/layer1/layer1.1/act/Relu_f"], InputError, "name one value twice"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_not_there_is_said_with_what_is_near(row):
    asked, error, words = REFUSED[row]
    with pytest.raises(error) as caught:
        cam_onnx.convert(network(), layers=asked)
    assert words in str(caught.value)


def test_no_convolution_is_said():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[N,3,8,8] x) => (float[N,3] y) {r = Relu(x) '
        "p = GlobalAveragePool(r) y = Flatten(p)}"
    )
    with pytest.raises(LayerNotFound, match="no convolution with spatial extent lies on the way to 'p'"):
        cam_onnx.convert(model, layers="last-conv", score="p")


def test_an_index_means_what_inspect_lists_also_where_the_file_has_to_be_raised():
    model = BUILDERS["opset7"]()
    listed = inspect(model).candidates
    for entry in listed:
        assert cam_onnx.convert(model, layers=entry.index).contract.layers[0].name == entry.name


def test_the_list_of_a_converted_file_is_the_original_s(tmp_path):
    path = tmp_path / "net.cam.onnx"
    cam_onnx.convert(network(), layers="all-stages").save(path)
    plain, converted = inspect(network()), inspect(str(path))
    assert converted.converted
    assert [(e.index, e.name, e.stride) for e in converted.candidates] == [
        (e.index, e.name, e.stride) for e in plain.candidates
    ]
    again = cam_onnx.convert(str(path), layers=3, reconvert=True)
    assert [layer.name for layer in again.contract.layers] == [plain.candidates[3].name]


def test_several_layers_are_fused():
    explainer = cam_onnx.Explainer(network(), layers="all-stages")
    explanation = explainer.explain(inputs=inputs(network(), batch=2, size=32))
    assert list(explanation.layers) == ["a", "f", "495"]
    assert [part.activations.shape[2:] for part in explanation.layers.values()] == [(16, 16), (8, 8), (4, 4)]
    singles = [cam_onnx.Explainer(network(), layers=name).explain(inputs=inputs(network(), batch=2, size=32))
               for name in ("a", "f", "495")]  # fmt: skip
    mean = np.mean([single.saliency_map for single in singles], axis=0)
    np.testing.assert_allclose(explanation.saliency_map, mean, atol=1e-5)


# -- inspect ----------------------------------------------------------------------------------------------------------


def test_candidates_have_an_index_a_grid_and_a_stride():
    report = inspect(network())
    assert [entry.index for entry in report.candidates] == list(range(14))
    rows = {entry.name: (entry.grid, entry.stride, entry.marks) for entry in report.candidates}
    assert rows["stem_out"] == ((16, 16), (2.0, 2.0), ())
    assert rows["a"] == ((16, 16), (2.0, 2.0), ("stage",))
    assert rows["j"] == ((4, 4), (8.0, 8.0), ("last-conv",))
    assert rows["495"] == ((4, 4), (8.0, 8.0), ("default", "stage"))
    assert report.layers == ("495",)


def test_the_command_line_takes_them_and_prints_the_list(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "net.onnx")
    assert main(["inspect", "net.onnx"]) == 0
    out = capsys.readouterr().out
    assert "layer: 495, index 13, 4 x 4, stride 8: the last value with spatial axes" in out.splitlines()
    assert "candidate layers: 14" in out.splitlines()
    for layer, names in (("-1", "495"), ("all-stages", "a, f, 495"), ("layer1.?", "c, f"), ("5", "side")):
        assert main(["convert", "net.onnx", "-o", "out.onnx", "--layer", layer]) == 0
        assert capsys.readouterr().out.startswith(f"out.onnx: layer {names}, score logits")
    assert main(["convert", "net.onnx", "--layer", "layr1"]) == 2
    assert "did you mean 'layer1'" in capsys.readouterr().err


def test_a_long_list_shows_stages_and_the_end_and_all_of_it_on_request(capsys):
    assert main(["inspect", str(MODEL)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "layer: hardtanh_32, index 90, 7 x 7, stride 32: the last value with spatial axes" in out
    [title] = [line for line in out if line.startswith("candidate layers: 91, of which")]
    rows = out[out.index(title) + 2 :]
    rows = rows[: rows.index("--all lists every one") + 1]
    shown = [line.split()[0] for line in rows if "more" not in line and "--all" not in line]
    left = sum(int(line.split()[1]) for line in rows if "more" in line)
    assert len(shown) + left == 91
    assert len(shown) <= 30
    marked = [line.removesuffix("stage").removesuffix("default, ") for line in rows if line.endswith("stage")]
    stages = [line.split()[-1] for line in marked]
    assert stages == ["2", "4", "8", "16", "32"]
    assert main(["inspect", str(MODEL), "--all"]) == 0
    every = capsys.readouterr().out.splitlines()
    assert sum(line.split()[:1] == [str(i)] for i in range(91) for line in every) == 91
    assert main(["inspect", str(MODEL), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["candidates"][90]["stride"] == [32.0, 32.0]
    assert report["layers"] == ["hardtanh_32"]


def test_sizes_that_only_inference_named_are_not_known():
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 18]>
        g (float[N,3,H,W] x) => (float[N,4] y) <float[4,3,3,3] w = {WEIGHTS}> {
            a = Conv<strides=[2,2]>(x, w) b = Relu(a) c = GlobalAveragePool(b) y = Flatten(c) }""".replace(
        "WEIGHTS", ",".join(["0.1"] * 108)))  # fmt: skip
    report = inspect(model)
    assert [c.shape for c in report.candidates] == [("N", 4, None, None)] * 2
    assert [c.grid for c in report.candidates] == [(None, None)] * 2
