"""What a model may be given as: path, bytes, ModelProto, onnx_ir model, session; all explain alike."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest

from cam_onnx import ContractError, Explainer, InputError, convert
from models.builders import BUILDERS, inputs

CPU = ["CPUExecutionProvider"]


@pytest.fixture
def converted(tmp_path):
    path = tmp_path / "m.onnx"
    convert(BUILDERS["residual"]()).save(path)
    return path


def same(one, other):
    np.testing.assert_array_equal(one.saliency_map, other.saliency_map)
    np.testing.assert_array_equal(one.gradients, other.gradients)


@pytest.mark.parametrize("plain", [True, False])
def test_every_form_of_a_model_explains_alike(plain, tmp_path):
    model = BUILDERS["residual"]() if plain else convert(BUILDERS["residual"]()).model
    path, x = tmp_path / "m.onnx", inputs(BUILDERS["residual"]())
    onnx.save(model, path)
    expected = Explainer(str(path)).explain(inputs=x)
    data = path.read_bytes()
    forms = [
        path, data, memoryview(data), model, onnx_ir.from_proto(model), onnx_ir.load(path),
        onnxruntime.InferenceSession(path, providers=CPU), onnxruntime.InferenceSession(data, providers=CPU),
    ]  # fmt: skip
    for form in forms:
        same(Explainer(form).explain(inputs=x), expected)


class Counting:
    """A session that counts its runs."""

    def __init__(self, session):
        self.session, self.runs = session, 0

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, *arguments):
        self.runs += 1
        return self.session.run(*arguments)


def test_the_session_that_was_given_is_the_one_that_runs(converted):
    session = Counting(onnxruntime.InferenceSession(converted, providers=CPU))
    x = inputs(BUILDERS["residual"]())
    explainer = Explainer(session)
    same(explainer.explain(inputs=x), Explainer(converted).explain(inputs=x))
    assert session.runs == 1
    assert explainer.provider == "CPUExecutionProvider"
    assert explainer.notes == []
    explainer.explain(inputs=x, target=[[0, 1], [2]])  # the head is a further session
    assert session.runs == 1


def test_an_explainer_of_a_session_pickles(converted):
    x = inputs(BUILDERS["residual"]())
    explainer = Explainer(onnxruntime.InferenceSession(converted, providers=CPU))
    same(pickle.loads(pickle.dumps(explainer)).explain(inputs=x), explainer.explain(inputs=x))


def test_a_session_of_a_file_that_has_changed_is_refused(converted):
    session = onnxruntime.InferenceSession(converted, providers=CPU)
    convert(BUILDERS["residual"](), labels=["a"] * 5).save(converted)
    with pytest.raises(ContractError, match="changed after its session was made"):
        Explainer(session)


def test_a_session_that_does_not_say_what_it_is_is_refused(converted):
    session = onnxruntime.InferenceSession(converted, providers=CPU)
    session._model_path = None
    with pytest.raises(InputError, match="does not say what it was made of"):
        Explainer(session)


def test_provider_options_change_no_map(converted):
    """Another arena changes nothing in the map; that options reach the provider, tests/engine/test_engines.py shows."""
    x = inputs(BUILDERS["residual"]())
    how = [("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})]
    same(Explainer(converted, providers=how).explain(inputs=x), Explainer(converted).explain(inputs=x))


@pytest.mark.parametrize("smallest", [0, 64])
def test_external_data_of_a_read_only_folder_and_of_links(smallest, tmp_path):
    """A plain file with its weights outside, both links into a folder of hashes, none of it writable.

    Sizes that lie outside too are read when the graph is understood; ONNX Runtime itself wants these inside.
    """
    blobs, home = tmp_path / "blobs", tmp_path / "snapshots"
    blobs.mkdir()
    home.mkdir()
    model, x = BUILDERS["residual"](), inputs(BUILDERS["residual"]())
    expected = Explainer(model).explain(inputs=x)
    onnx.save(model, blobs / "aa", save_as_external_data=True, location="model.onnx.data", size_threshold=smallest)
    (blobs / "model.onnx.data").rename(blobs / "bb")
    (home / "model.onnx").symlink_to("../blobs/aa")
    (home / "model.onnx.data").symlink_to("../blobs/bb")
    for folder in (home, blobs):
        folder.chmod(0o555)
    try:
        assert convert(home / "model.onnx").contract.score == "logits"
        if smallest:
            same(Explainer(home / "model.onnx").explain(inputs=x), expected)
    finally:
        for folder in (home, blobs):
            folder.chmod(0o755)
    assert {path.name for path in home.iterdir()} == {"model.onnx", "model.onnx.data"}
