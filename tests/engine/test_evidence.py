"""One run's values come out as (N, C), (N,) and (N, K, *S), whatever layout the model has."""

from __future__ import annotations

import numpy as np
import pytest

from cam_onnx.contract import Axes, Contract, Layer
from cam_onnx.engine import Tensor
from cam_onnx.engine.evidence import gather
from cam_onnx.errors import ContractError, InputError, RunFailed

ROLES = {"image": "x", "target": "which", "logits": "l", "score": "s", "class": "c"}


class FakeEngine:
    """Answers every run with the same values, and keeps what it was asked."""

    provider = "fake"
    note = None
    inputs = (Tensor("x", "float32", ("N", 2)), Tensor("which", "int64", ("T",), optional=True))

    def __init__(self, **values):
        self.values = values
        self.outputs = tuple(Tensor(name, "float32", None) for name in values)

    def run(self, feeds, outputs=None):
        self.feeds, self.asked = feeds, outputs
        return {name: self.values[name] for name in outputs}


NCHW = Axes()


def contract(axes=NCHW, **changes):
    return Contract(roles=ROLES, layers=(Layer("conv", "a", "g", axes),), score="logits", **changes)


def values(**changes):
    rng = np.random.default_rng(0)
    base = dict(
        l=rng.normal(size=(2, 5)).astype(np.float32),
        s=np.array([1, 2], np.float32),
        c=np.array([3, 4]),
        a=rng.normal(size=(2, 3, 4, 6)).astype(np.float32),
        g=rng.normal(size=(2, 3, 4, 6)).astype(np.float32),
        other=np.zeros(1),
    )
    return {**base, **changes}


X = {"x": np.ones((2, 2), np.float32)}


def test_only_the_contract_is_asked_for_and_the_target_is_fed():
    engine = FakeEngine(**values())
    found = gather(engine, contract(), X, [3, -1])
    assert sorted(engine.asked) == ["a", "c", "g", "l", "s"]
    np.testing.assert_array_equal(engine.feeds["which"], np.array([3, -1], np.int64))
    np.testing.assert_array_equal(found.logits, engine.values["l"])
    np.testing.assert_array_equal(found.layers["conv"].activations, engine.values["a"])
    np.testing.assert_array_equal(found.layers["conv"].gradients, engine.values["g"])
    assert found.target.tolist() == [3, 4]
    assert found.score.tolist() == [1, 2]


def test_the_default_target_is_the_predicted_class():
    engine = FakeEngine(**values())
    gather(engine, contract(), X)
    assert engine.feeds["which"].tolist() == [-1]


@pytest.mark.parametrize("asked", [[285, -1], [3, 2], [2]], ids=str)
def test_a_provider_that_explains_another_class_than_was_asked_for_is_refused(asked):
    with pytest.raises(RunFailed, match=r"was asked for, and fake explained [34]: it does not read the input which"):
        gather(FakeEngine(**values()), contract(), X, asked)


def test_of_rows_the_class_is_asked_for():
    found = gather(FakeEngine(**values(c=np.array([13, 24]))), contract(each=10), X, [3, 24])
    assert found.target.tolist() == [13, 24]
    with pytest.raises(RunFailed, match="class 5 was asked for"):
        gather(FakeEngine(**values(c=np.array([13, 24]))), contract(each=10), X, [3, 5])


LAYOUTS = [
    (Axes(0, 3, (1, 2)), (2, 4, 6, 3), (2, 3, 4, 6)),
    (Axes(0, 2, (1,)), (2, 7, 3), (2, 3, 7)),
    (Axes(1, 0, (2, 3, 4)), (3, 2, 4, 5, 6), (2, 3, 4, 5, 6)),
    (Axes(0, 1, ()), (2, 3), (2, 3)),
]


@pytest.mark.parametrize(("axes", "shape", "expected"), LAYOUTS, ids=str)
def test_layers_are_turned(axes, shape, expected):
    a = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    layer = gather(FakeEngine(**values(a=a, g=-a)), contract(axes), X).layers["conv"]
    assert layer.activations.shape == expected
    np.testing.assert_array_equal(layer.activations, a.transpose(axes.order()))
    np.testing.assert_array_equal(layer.gradients, -layer.activations)
    assert layer.activations.flags.c_contiguous


SCORES = [
    ((2, 5), {}, (2, 5)),
    ((2, 3, 4), {}, (2, 12)),
    ((7, 2, 5), {"batch_axis": 1}, (2, 35)),
    ((2,), {}, (2, 1)),
    ((5,), {"single": True}, (1, 5)),
    ((), {"single": True}, (1, 1)),
    ((3, 5), {"single": True}, (1, 15)),
]


@pytest.mark.parametrize(("shape", "changes", "expected"), SCORES, ids=str)
def test_logits_are_flattened(shape, changes, expected):
    logits = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    found = gather(FakeEngine(**values(l=logits)), contract(**changes), X).logits
    assert found.shape == expected
    if changes.get("batch_axis"):
        np.testing.assert_array_equal(found[1], logits[:, 1].ravel())
    else:
        np.testing.assert_array_equal(found.ravel(), logits.ravel())


@pytest.mark.parametrize(("given", "expected"), [("f2", "f4"), ("f4", "f4"), ("f8", "f8")])
def test_float64_is_kept_and_the_rest_is_float32(given, expected):
    changed = {name: value.astype(given) for name, value in values().items() if name in "lsag"}
    found = gather(FakeEngine(**values(**changed)), contract(), X)
    for array in (found.logits, found.score, found.layers["conv"].activations, found.layers["conv"].gradients):
        assert array.dtype == expected


def test_a_contract_that_the_model_does_not_keep():
    engine = FakeEngine(**values())
    del engine.values["g"]
    engine.outputs = tuple(Tensor(name, "float32", None) for name in engine.values)
    with pytest.raises(ContractError, match="names an output 'g' that the model lacks"):
        gather(engine, contract(), X)
    with pytest.raises(ContractError, match=r"'conv' has shape \(2, 3, 4, 6\)"):
        gather(FakeEngine(**values()), contract(Axes(0, 1, (2,))), X)
    with pytest.raises(ContractError, match="batch axis 2"):
        gather(FakeEngine(**values()), contract(batch_axis=2), X)


@pytest.mark.parametrize("target", [1.5, "cat", [[1]], [None]], ids=str)
def test_targets_are_integers(target):
    with pytest.raises(InputError, match="target: expected class indices"):
        gather(FakeEngine(**values()), contract(), X, target)
