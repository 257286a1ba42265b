"""Models with external data: read where they lie, written beside the output, never half, never over the original."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest

import cam_onnx
from cam_onnx import InputError, InvalidModel, WriteFailed, convert
from models.builders import BUILDERS, inputs
from tests.running import output_names, run

NAMES = ["residual", "float16"]


@pytest.fixture(params=NAMES)
def outside(request, tmp_path):
    """A model whose weights lie in a file beside it, and its builder."""
    folder = tmp_path / "origin"
    folder.mkdir()
    model = BUILDERS[request.param]()
    path = folder / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=64)
    return path, BUILDERS[request.param]()


def files(folder):
    return sorted(os.listdir(folder))


def test_the_saved_pair_runs_from_another_folder(outside, tmp_path):
    path, whole = outside
    there = tmp_path / "elsewhere"
    there.mkdir()
    converted = convert(path)
    assert converted.model.graph.initializer[0].data_location == onnx.TensorProto.EXTERNAL
    converted.save(there / "out.onnx")
    assert files(there) == ["out.onnx", "out.onnx.data"]
    (path.parent / "weights.bin").unlink()  # it does not lean on the original
    path.unlink()
    loaded = onnx.load(there / "out.onnx")  # with onnx's own checks of external data
    for ours, theirs in zip(loaded.graph.initializer, whole.graph.initializer, strict=False):
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(ours), onnx.numpy_helper.to_array(theirs))
    feeds = inputs(whole)
    expected = run(whole, feeds) if whole.graph.name != "float16" else run(convert(whole).to_bytes(), feeds, ["logits"])
    explained = cam_onnx.Explainer(there / "out.onnx").explain(inputs=feeds)
    np.testing.assert_array_equal(explained.logits, expected[0].astype(np.float32))


def test_an_explainer_reads_the_original_pair(outside):
    path, whole = outside
    feeds = inputs(whole)
    here, there = (cam_onnx.Explainer(source).explain(inputs=feeds) for source in (whole, path))
    np.testing.assert_array_equal(here.gradients, there.gradients)
    reference = cam_onnx.Explainer(path, backend="reference").explain(inputs=feeds)
    # two engines: float rounding; 16 bits where the network has 16
    tolerance = 1e-5 if whole.graph.name == "residual" else 5e-3
    np.testing.assert_allclose(reference.saliency, there.saliency, atol=tolerance * np.abs(there.saliency).max())


def test_several_targets_of_a_model_with_external_data(outside):
    path, whole = outside
    feeds = inputs(whole, batch=1)
    nested = cam_onnx.Explainer(path, layers="features").explain(inputs=feeds, target=[[0, 3]])
    plain = cam_onnx.Explainer(whole, layers="features").explain(inputs=feeds, target=[[0, 3]])
    np.testing.assert_array_equal(nested.gradients, plain.gradients)
    assert nested.target.tolist() == [0, 3]


def test_a_bare_file_name_in_the_model_s_own_folder(outside, monkeypatch):
    path, whole = outside
    monkeypatch.chdir(path.parent)
    converted = convert("model.onnx")
    converted.save("out.onnx")
    assert files(path.parent) == ["model.onnx", "out.onnx", "out.onnx.data", "weights.bin"]
    assert output_names(onnx.load("out.onnx"))[: len(output_names(whole))] == output_names(whole)


def test_the_same_bytes_every_time(outside, tmp_path):
    path, _ = outside
    written = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        convert(path).save(folder / "out.onnx")
        written.append([(folder / file).read_bytes() for file in files(folder)])
    assert written[0] == written[1]


def test_bytes_alone_do_not_say_where_the_data_is(outside):
    path, _ = outside
    with pytest.raises(InvalidModel, match="bytes alone do not say where that is: give the model's path"):
        convert(path.read_bytes())
    with pytest.raises(InvalidModel, match="give the model's path"):
        cam_onnx.Explainer(path.read_bytes())


def test_an_entry_that_leads_out_of_the_folder_is_refused_before_anything_is_read(outside, tmp_path):
    path, _ = outside
    (tmp_path / "secret").write_bytes(bytes(100_000))
    model = onnx.load(path, load_external_data=False)
    for location in ("../secret", str(tmp_path / "secret")):
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location
        path.write_bytes(model.SerializeToString())
        for call in (convert, cam_onnx.Explainer):
            with pytest.raises(InvalidModel, match="put the file beside the model"):
                call(path)


def test_missing_and_short_data(outside):
    path, _ = outside
    data = path.parent / "weights.bin"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(InvalidModel, match="get the file again"):
        convert(path)
    data.unlink()
    with pytest.raises(InvalidModel, match=r"'weights.bin' is missing"):
        convert(path)


def test_never_over_the_original_s_weights(outside):
    path, _ = outside
    weights = (path.parent / "weights.bin").read_bytes()
    converted = convert(path)
    (path.parent / "weights.bin").rename(path.parent / "out.onnx.data")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "out.onnx.data"
    path.write_bytes(model.SerializeToString())
    converted = convert(path)
    with pytest.raises(InputError, match="holds the original's own weights: choose another output name"):
        converted.save(path.parent / "out.onnx")
    assert (path.parent / "out.onnx.data").read_bytes() == weights
    assert files(path.parent) == ["model.onnx", "out.onnx.data"]


@pytest.mark.parametrize("before", [{}, {"out.onnx": b"old"}], ids=["new", "over an old file"])
@pytest.mark.parametrize("fail", ["write", "replace", "fsync"])
def test_a_full_disk_leaves_what_was_there(outside, tmp_path, monkeypatch, fail, before):
    """Every call that writes fails once, the first, the second, ..., until all have."""
    converted = convert(outside[0])
    there = tmp_path / "there"
    there.mkdir()
    original = getattr(os, fail)
    failures, k, count = 0, 0, 0

    def failing(*arguments):
        nonlocal count
        count += 1
        if count == k:
            raise OSError(28, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(os, fail, failing)
    while count >= k:
        k, count = k + 1, 0
        for name in files(there):
            (there / name).unlink()
        for name, content in before.items():
            (there / name).write_bytes(content)
        try:
            converted.save(there / "out.onnx")
        except WriteFailed:
            failures += 1
            assert {name: (there / name).read_bytes() for name in files(there)} == before
    assert failures >= 2, "the weights and the model"
    assert files(there) == ["out.onnx", "out.onnx.data"]


def test_a_folder_that_is_not_there(outside, tmp_path):
    converted = convert(outside[0])
    with pytest.raises(WriteFailed, match="create the folder first"):
        converted.save(tmp_path / "no" / "out.onnx")
    assert not (tmp_path / "no").exists()
