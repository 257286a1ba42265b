"""The contract goes into JSON and comes back; what is damaged, newer or unknown is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cam_onnx import Contract, ContractError, InputError, Preprocess
from cam_onnx.axes import Axes, Tokens
from cam_onnx.contract import SCHEMA, Layer

SHORT: Any = Preprocess  # takes short forms, and what the tests give wrong on purpose

FULL = Contract(
    roles={"image": "x", "target": "t", "logits": "l", "score": "s", "class": "c"},
    layers=(Layer("conv", "a0", "g0"), Layer("nhwc", "a1", "g1", Axes(0, 3, (1, 2)), "average-pooling + linear")),
    score="the score",
    target_input="required",
    activation="softmax",
    method="hires-cam",
    preprocess=Preprocess(size=(2, 3), mean=(1, 2, 3)),
    labels=("cät", "d\nog"),
    batch_axis=1,
    single=True,
    cuts_fusion=("conv",),
    raised={"opset": [9, 13]},
    tool="cam_onnx 1",
    source_sha256="ab",
)


def test_json_and_back():
    assert Contract.from_json(FULL.to_json()) == FULL
    small = Contract(
        roles={"target": "t", "logits": "l", "score": "s", "class": "c"}, layers=(Layer("c", "a", "g"),), score="l"
    )
    assert Contract.from_json(small.to_json()) == small


def test_only_tokens_need_the_newer_schema():
    plain = json.loads(FULL.to_json())
    assert plain["schema"] == 1
    assert all(set(layer["axes"]) == {"batch", "channel", "spatial"} for layer in plain["layers"])
    listed = FULL.with_(layers=(Layer("t", "a", "g", Axes(0, 2, (1,), Tokens(5, (14, None)))), *FULL.layers))
    data = json.loads(listed.to_json())
    assert data["schema"] == 2
    assert data["layers"][0]["axes"]["tokens"] == {"first": 5, "grid": [14, None]}
    assert Contract.from_json(listed.to_json()) == listed


def test_equal_contracts_are_equal_bytes():
    shuffled = FULL.with_(roles=dict(reversed(FULL.roles.items())))
    assert shuffled.to_json() == FULL.to_json()
    assert "\n" not in FULL.to_json()


def test_what_a_later_version_adds_within_the_schema_is_ignored():
    data = json.loads(FULL.to_json())
    data["novelty"] = 1
    data["layers"][0]["novelty"] = 1
    assert Contract.from_json(json.dumps(data)) == FULL


def damaged(**changes):
    data = json.loads(FULL.to_json())
    for key, value in changes.items():
        if value is ...:
            del data[key]
        else:
            data[key] = value
    return json.dumps(data)


def with_tokens(tokens, spatial=(1,)):
    axes = {"batch": 0, "channel": 2, "spatial": spatial, "tokens": tokens}
    return damaged(layers=[dict(name="a", activations="a", gradients="g", axes=axes)])


DAMAGED = {
    "newer": (damaged(schema=SCHEMA + 1), f"schema {SCHEMA + 1}, this cam_onnx reads up to {SCHEMA}: upgrade"),
    "schema of another kind": (damaged(schema="1"), "has schema '1'"),
    "no schema": (damaged(schema=...), "(KeyError: 'schema'); convert the original model again"),
    "not JSON": ("{", "is not a cam_onnx contract (JSONDecodeError"),
    "empty": ("", "is not a cam_onnx contract"),
    "not an object": ("[1]", "is not a cam_onnx contract"),
    "null": ("null", "is not a cam_onnx contract"),
    "deep": ("[" * 10**5, "is not a cam_onnx contract"),
    "no layers": (damaged(layers=[]), "no layers or bad roles"),
    "layers of another kind": (damaged(layers=3), "is not a cam_onnx contract"),
    "axes of another kind": (damaged(layers=[dict(name="a", activations="a", gradients="g", axes=1)]), "is not a cam"),
    "tokens of another kind": (with_tokens(3), "is not a cam_onnx contract"),
    "tokens without a grid": (with_tokens({"first": 1, "grid": []}), "is not a cam_onnx contract"),
    "tokens before the list": (with_tokens({"first": -1, "grid": [2, 2]}), "is not a cam_onnx contract"),
    "a grid of nothing": (with_tokens({"first": 1, "grid": [0, 2]}), "a grid of 0 positions"),
    "tokens on two axes": (with_tokens({"first": 1, "grid": [2, 2]}, (1, 3)), "on 2 axes"),
    "no roles": (damaged(roles=...), "is not a cam_onnx contract"),
    "roles of another kind": (damaged(roles=[1]), "is not a cam_onnx contract"),
    "a role that is no name": (damaged(roles={"target": 1, "logits": "l"}), "no layers or bad roles"),
    "no target": (damaged(roles={"logits": "l", "score": "s", "class": "c"}), "'target'"),
    "no class": (damaged(roles={"logits": "l", "score": "s", "target": "t"}), "'class'"),
    "bad preprocessing": (damaged(preprocess={"fit": "x"}), "InputError: preprocess: fit is 'x'"),
    "no score": (damaged(score=...), "is not a cam_onnx contract"),
    "a score that is no name": (damaged(score=3), "is not a cam_onnx contract"),
    "a batch axis that is no number": (damaged(batch_axis="0"), "is not a cam_onnx contract"),
    "labels of another kind": (damaged(labels=3), "is not a cam_onnx contract"),
    "a method that is no name": (damaged(method=None), "is not a cam_onnx contract"),
}  # fmt: skip


@pytest.mark.parametrize("row", DAMAGED)
def test_a_damaged_contract_is_an_error_of_its_own(row):
    text, words = DAMAGED[row]
    with pytest.raises(ContractError) as caught:
        Contract.from_json(text, "m.onnx")
    assert words in str(caught.value)
    assert str(caught.value).startswith("m.onnx: ")
    assert len(str(caught.value)) < 400


def test_readers_ask_by_layer():
    assert FULL.layer("nhwc").axes.order() == (0, 3, 1, 2)
    assert FULL.names() == ["l", "s", "c", "a0", "g0", "a1", "g1"]
    with pytest.raises(KeyError):
        FULL.layer("other")


# -- Preprocess ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [Preprocess(), FULL.preprocess, SHORT(size=7, channels="GRAY", std=3)], ids=str)
def test_preprocess_to_json_and_back(settings):
    assert Preprocess.from_json(settings.to_json()) == settings
    assert hash(Preprocess.from_json(settings.to_json())) == hash(settings)


def test_short_forms():
    assert SHORT(size=7).size == (7, 7)
    assert SHORT(mean=127, std=[1, 2, 3]) == Preprocess(mean=(127.0,), std=(1.0, 2.0, 3.0))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "fit": (dict(fit="Stretch"), "fit is 'Stretch', expected one of stretch, crop, letterbox"),
    "channels": (dict(channels="RGBA"), "channels is 'RGBA'"),
    "mean of two": (dict(mean=(1, 2)), "mean has 2 entries"),
    "grey mean of three": (dict(channels="GRAY", mean=(1, 2, 3)), "mean has 3 entries"),
    "std 0": (dict(std=(1, 0, 1)), "must not be 0 or NaN"),
    "scale NaN": (dict(scale=float("nan")), "must not be 0 or NaN"),
    "size 0": (dict(size=(0, 3)), "must be positive (height, width)"),
    "size of three": (dict(size=(1, 2, 3)), "preprocess:"),
    "size text": (dict(size="224x224"), "preprocess:"),
    "mean text": (dict(mean="a"), "preprocess: could not convert"),
    "crop": (dict(crop_pct=1.5), "crop_pct is 1.5, expected a number in (0, 1]"),
    "dtype": (dict(dtype="int64"), "dtype is 'int64'"),
    "unhashable": (dict(fit=["stretch"]), "fit is ['stretch']"),
}


@pytest.mark.parametrize("row", BAD)
def test_preprocess_names_the_field_the_value_and_the_choices(row):
    changes, words = BAD[row]
    with pytest.raises(InputError) as caught:
        Preprocess(**changes)
    assert words in str(caught.value)
