"""Verification of whole files, through the library and the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

import cam_onnx
from benchmarks import power
from cam_onnx import InputError, cli
from cam_onnx.autodiff.model import load
from cam_onnx.beside import CLAUSES, compare
from cam_onnx.contract import Preprocess
from cam_onnx.engine import Tensor, natural
from cam_onnx.engine.providers import CPU, CUDA, Choice, without_tf32
from cam_onnx.graph.candidates import candidates
from cam_onnx.graph.locate import find_score
from cam_onnx.graph.plain import Plain
from cam_onnx.render import image
from cam_onnx.verification import GradientCheck, Verification
from models.builders import BUILDERS, bias, he, ints, network, reals
from tests.running import CAT, COFFEE, MODEL, SETTINGS

CPU_ALONE = {"providers": "cpu"}


def explainer(model, layers=None, **options):
    given = CPU_ALONE if options.get("backend", "onnxruntime") == "onnxruntime" else {}
    return cam_onnx.Explainer(model, layers=layers, **{**given, **options})


def summary(found):
    return [(check.layer, check.verdict) for check in found.gradients]


def run(capsys, *argv):
    code = cli.main([str(word) for word in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- what agrees -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["onnxruntime", "reference"])
@pytest.mark.parametrize(
    "name",
    [
        "gap_linear",
        "silu_se",
        "signal_1d",
        "volume_3d",
        "depthwise_asymmetric",
        "nhwc_tail",
        "fixed_batch",
        "regression",
    ],
)
def test_layer_and_input_agree(name, backend):
    model = BUILDERS[name]()
    image = model.graph.input[0].name
    found = explainer(model, ["features", image], backend=backend).verify()
    assert summary(found) == [("features", "agrees"), (image, "agrees")]
    assert found.ok
    assert found.outputs == "bit-identical"
    limits = [3e-3, 1e-2]
    assert all(check.error <= limit for check, limit in zip(found.gradients, limits, strict=True))
    assert all(check.runs >= 35 for check in found.gradients)
    assert {check.sample for check in found.gradients} == {"seeded input"}


@pytest.mark.parametrize("name", ["vgg_like", "opset7", "split_slice_pad"])
def test_every_layer_agrees_also_in_front_of_a_maximum(name):
    """Behind a Relu whole windows of a maximum are 0: any position is a right answer there."""
    model = load(BUILDERS[name]())
    names = [place.name for place in candidates(model, find_score(model, None))]
    found = explainer(BUILDERS[name](), names).verify()
    assert summary(found) == [(name, "agrees") for name in names]
    assert any("entries that equal others" in check.text for check in found.gradients) == (
        name in ("vgg_like", "opset7")
    )


@pytest.mark.slow
def test_the_bundled_network_agrees_at_a_layer_and_at_the_picture(capsys):
    code, out, err = run(
        capsys, "verify", MODEL, CAT, "--preprocess", SETTINGS["preprocess"], "--layer", "hardtanh_32",
        "--layer", "image", "--providers", "cpu", "--json",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert found["ok"] is True
    assert found["outputs"] == "bit-identical"
    assert [(c["layer"], c["sample"], c["target"], c["verdict"]) for c in found["gradients"]] == [
        ("hardtanh_32", "chelsea", 285, "agrees"),
        ("image", "chelsea", 285, "agrees"),
    ]


def test_a_flat_picture_gets_noise_and_agrees():
    """Without it every window of a maximum is a tie."""
    grey = np.full((32, 32, 3), 128, np.uint8)
    found = explainer(BUILDERS["vgg_like"](), ["image"]).verify(grey)
    assert summary(found) == [("image", "agrees")]


def test_several_layers_targets_and_pictures_of_several_sizes():
    image.save("small.png", image.load(CAT).pixels[40:56, 80:104])
    image.save("other.png", image.load(COFFEE).pixels[40:60, 80:98])
    done = []
    found = explainer(BUILDERS["residual"](), ["b1", "features"]).verify(
        ["small.png", "other.png"], target=[[0, 2]], progress=lambda i, n: done.append((i, n))
    )
    assert [(c.sample, c.target, c.layer) for c in found.gradients] == [
        (sample, target, layer) for sample in ("small", "other") for target in (0, 2) for layer in ("b1", "features")
    ]
    assert all(check.verdict == "agrees" for check in found.gradients)
    assert done == [(i + 1, 8) for i in range(8)]


def test_tensors_are_taken_sample_by_sample():
    x = np.random.default_rng(0).standard_normal((3, 2, 40)).astype(np.float32)
    found = explainer(BUILDERS["signal_1d"]()).verify(inputs={"signal": x}, target=[0, 1, 2])
    assert [(c.sample, c.target, c.verdict) for c in found.gradients] == [(f"sample{i}", i, "agrees") for i in range(3)]


def test_a_float64_network():
    model = network(
        "double (double[N,3,8,8] image) => (double[N,5] logits)",
        """
        a = Conv<pads=[1,1,1,1]>(image, w1, b1)
        features = Tanh(a)
        flat = ReduceMean<keepdims=0>(features, axes)
        logits = MatMul(flat, w2)
        """,
        dict(w1=he(20, 3, 3, 3), b1=bias(20), axes=ints(2, 3), w2=he(20, 5, fan=20)), dtype="f8",
    )  # fmt: skip
    found = explainer(model, ["features", "image"], backend="reference").verify()
    assert found.ok
    assert max(check.error for check in found.gradients) < 1e-4


def test_a_converted_file_is_verified_as_it_is(here, capsys):
    cam_onnx.convert(BUILDERS["silu_se"](), layers=["features", "image"]).save("model.cam.onnx")
    code, out, err = run(capsys, "verify", "model.cam.onnx")
    assert code == 0, err
    assert "runs on CPUExecutionProvider" in out
    assert "features  seeded input" in out
    assert out.endswith(
        "original outputs: bit-identical\nverified: 2 of 2 gradients agree with differences of the score\n"
    )


def test_a_raised_file_is_compared_with_its_raised_form():
    found = explainer(BUILDERS["old_ir3"]()).verify()
    assert found.ok
    assert any("compared with its raised form" in note and "opset 9 to" in note for note in found.notes)


# -- what does not ---------------------------------------------------------------------------------------------------


def broken(name, corruption, at=-1):
    """A network converted by rules of which one is broken, at the layer a third of the way and at the input."""
    model = BUILDERS[name]().SerializeToString()
    case = [case for case in power.cases(name, model) if case.corruption == corruption][at]
    opset = load(model).opset
    return cam_onnx.convert(model, layers=power.places(model), table=power.broken(case, opset))


@pytest.mark.parametrize(
    ("name", "corruption"),
    [
        ("gap_linear", "flipped sign"),
        ("silu_se", "times 1.1"),
        ("gap_linear", "times 1.03"),
        ("densenet_like", "a lost branch"),
        ("depthwise_asymmetric", "padding on the wrong side"),
    ],
)
def test_a_broken_rule_is_found(name, corruption, capsys):
    broken(name, corruption).save("model.cam.onnx")
    code, out, _ = run(capsys, "verify", "model.cam.onnx", "--json")
    assert code == 1
    found = json.loads(out)
    assert found["ok"] is False
    assert [check["verdict"] for check in found["gradients"]] == ["wrong", "wrong"]
    assert found["outputs"] == "bit-identical"
    code, out, _ = run(capsys, "verify", "model.cam.onnx")
    assert code == 1
    assert "differences say" in out
    assert out.endswith("NOT VERIFIED: 0 of 2 gradients agree with differences of the score\n")


def test_the_standard_rules_are_not_changed_by_a_table_over_them():
    model = BUILDERS["gap_linear"]()
    before = cam_onnx.convert(model, layers=["image"]).to_bytes()
    assert broken("gap_linear", "flipped sign").to_bytes() != before
    assert cam_onnx.convert(model, layers=["image"]).to_bytes() == before


def waves(scale):
    return network(
        "waves (float[N,3,8,8] image) => (float[N,5] logits)",
        """
        a = Conv<pads=[1,1,1,1]>(image, w1, b1)
        features = Tanh(a)
        fast = Mul(features, scale)
        wave = Sin(fast)
        both = Add(features, wave)
        flat = ReduceMean<keepdims=0>(both, axes)
        logits = MatMul(flat, w2)
        """,
        dict(w1=he(20, 3, 3, 3), b1=bias(20), scale=reals(scale), axes=ints(2, 3), w2=he(20, 5, fan=20)),
    )  # fmt: skip


def test_where_differences_disagree_it_is_inconclusive(here, capsys):
    onnx.save(waves(1e4), "model.onnx")
    code, out, err = run(capsys, "verify", "model.onnx", "--layer", "features")
    assert code == 1, err
    assert "inconclusive" in out
    assert "of the predicted change with growing steps" in out
    assert "wrong" not in out
    assert explainer(waves(1.0), ["features"]).verify().ok


def test_a_16_bit_score_is_said_to_be_one():
    found = explainer(BUILDERS["float16"]()).verify()
    assert summary(found) == [("features", "inconclusive")]
    assert "rounded to 5e-04 of its size" in found.gradients[0].text
    assert found.outputs in ("bit-identical", "float rounding")
    assert found.difference <= 2**-10


@pytest.mark.parametrize(
    "word", ["probability", "residual-softmax", "finer", "not:1", "unit:2", "no-unit:2", "logits[:,1] - logits[:,2]"]
)
def test_every_kind_of_target_is_verified(word):
    """The score is the file's own, behind the logits."""
    found = explainer(BUILDERS["gap_linear"]()).verify(target=word)
    assert summary(found) == [("features", "agrees")], found
    assert found.ok


def test_a_converted_file_is_verified_for_its_own_kind_only():
    made = cam_onnx.convert(BUILDERS["gap_linear"](), target="probability")
    assert explainer(made.to_bytes()).verify().ok
    with pytest.raises(cam_onnx.ContractError, match="probability"):
        explainer(made.to_bytes()).verify(target="residual-softmax")


@pytest.mark.parametrize("form", ["QDQ int8", "QOperator int8", "QOperator uint8 per channel", "dynamic"])
def test_a_quantised_model_is_a_staircase_and_never_called_wrong(form, here):
    from tools.production.forms import calibration, make

    preprocess = cam_onnx.Explainer(MODEL, **SETTINGS).contract.preprocess
    path = make(form, MODEL, here / "quantised.onnx", calibration(COFFEE, onnx.load(MODEL), preprocess))
    found = cam_onnx.Explainer(path, **SETTINGS, providers="cpu").verify(CAT)
    assert [check.verdict for check in found.gradients] == ["inconclusive"]
    assert found.outputs_hold


def dead(shift):
    return network(
        "dead (float[N,3,8,8] image) => (float[N,5] logits)",
        """
        features = Conv<pads=[1,1,1,1]>(image, w1, b1)
        low = Add(features, shift)
        off = Relu(low)
        flat = ReduceMean<keepdims=0>(off, axes)
        product = MatMul(flat, w2)
        logits = Add(product, b2)
        """,
        dict(w1=he(20, 3, 3, 3), b1=bias(20), shift=reals(shift), axes=ints(2, 3), w2=he(20, 5, fan=20), b2=bias(5)),
    )  # fmt: skip


def test_a_zero_gradient_has_its_own_text():
    found = explainer(dead(-1000.0), ["features"]).verify()
    assert summary(found) == [("features", "agrees")]
    assert found.gradients[0].text == "the gradient is zero, and the score does not change either"
    assert np.isnan(found.gradients[0].error)
    assert "-" in found.rows()[0]
    assert explainer(dead(0.0), ["features"]).verify().gradients[0].text == ""


def test_a_file_changed_after_conversion_is_not_compared(capsys):
    converted = cam_onnx.convert(BUILDERS["gap_linear"]()).model
    converted.graph.node[0].name = "renamed"
    onnx.save(converted, "model.cam.onnx")
    code, out, err = run(capsys, "verify", "model.cam.onnx")
    assert code == 1
    assert "original outputs: not compared" in out
    assert "1 of 1 gradients agree with differences of the score, the original outputs do not hold" in out
    assert "note: the plain file is not known: " in err
    assert "was changed after it was converted" in err


@pytest.mark.parametrize(
    ("change", "clause", "codes"),
    [(0.0, "bit-identical", (0, 0)), (1e-7, "float rounding", (0, 1)), (1e-3, "worse", (1, 1))],
)
def test_exact_lets_rounding_fail(here, capsys, monkeypatch, change, clause, codes):
    """The plain file's logits are moved a little, as a runtime does that fuses otherwise."""
    from cam_onnx import verifying

    def moved(plain, converted, expected):
        first = next(iter(plain))
        top = np.abs(plain[first]).max()
        return compare({**plain, first: plain[first] + np.float32(change) * top}, converted, expected)

    monkeypatch.setattr(verifying, "compare", moved)
    onnx.save(BUILDERS["gap_linear"](), "model.onnx")
    for code, options in zip(codes, ([], ["--exact"]), strict=True):
        got, out, _ = run(capsys, "verify", "model.onnx", *options)
        assert got == code
        assert f"original outputs: {clause}" in out
        assert ("--exact asks for the same bits" in out) == (clause == "float rounding" and bool(options))


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("nothing.onnx", "nothing.onnx"),
        ("model.onnx missing.png", "missing.png"),
        ("model.onnx cat.png --input image=x.npy", "give either images or inputs="),
        ("model.onnx --layer feature", "did you mean 'features'"),
        ("model.onnx --target 9", "target 9 is out of range"),
        ("model.onnx --backend refrence", "did you mean 'reference'"),
        ("counts.onnx", "no input can be made up for 'counts' (int64"),
        ("model.onnx --exat", "did you mean '--exact'"),
    ],
)
def test_bad_input_is_one_line(here, capsys, argv, words):
    onnx.save(BUILDERS["gap_linear"](), "model.onnx")
    whole = network(
        "whole (int64[N,3,8,8] counts) => (float[N,5] logits)",
        """
        features = Cast<to=1>(counts)
        flat = ReduceMean<keepdims=0>(features, axes)
        logits = MatMul(flat, w)
        """,
        dict(axes=ints(2, 3), w=he(3, 5, fan=3)),
    )
    onnx.save(whole, "counts.onnx")
    code, out, err = run(capsys, "verify", *argv.split())
    assert code == 2
    assert out == ""
    assert words in err
    assert len([line for line in err.splitlines() if not line.startswith("note: ")]) == 1


def test_a_closed_explainer_cannot_verify():
    closed = explainer(BUILDERS["gap_linear"]())
    closed.close()
    with pytest.raises(cam_onnx.RunFailed, match="closed"):
        closed.verify()
    with pytest.raises(InputError, match="either images or inputs"):
        explainer(BUILDERS["gap_linear"]()).verify(CAT, inputs={"image": np.zeros((1, 3, 16, 16), np.float32)})


# -- the parts -------------------------------------------------------------------------------------------------------

LOGITS = np.array([[1.0, -20.0, 3.0]], np.float32)


@pytest.mark.parametrize(
    ("plain", "converted", "expected", "clause"),
    [
        (LOGITS, LOGITS.copy(), Plain(b""), "bit-identical"),
        (LOGITS, LOGITS + np.float32(1.5e-5), Plain(b""), "float rounding"),
        (LOGITS, LOGITS + np.float32(5e-5), Plain(b""), "worse"),
        (LOGITS, LOGITS + np.float32(1e-2), Plain(b"", half=2.0**-10), "float rounding"),
        (LOGITS, LOGITS + np.float32(3e-2), Plain(b"", half=2.0**-10), "worse"),
        (LOGITS, LOGITS + np.float32(0.15), Plain(b"", quantised=True), "one quantisation step"),
        (LOGITS, LOGITS + np.float32(0.5), Plain(b"", quantised=True), "worse"),
        (LOGITS, LOGITS + np.float32(0.5), Plain(b"", quantised=True, steps={"y": 0.5}), "one quantisation step"),
        (LOGITS, LOGITS + np.float32(0.5), Plain(b"", quantised=False, steps={"y": 0.5}), "worse"),
        (LOGITS.astype("f8"), LOGITS.astype("f8") + 1e-12, Plain(b""), "worse"),
        (LOGITS.astype("f2"), (LOGITS * (1 + 2.0**-10)).astype("f2"), Plain(b""), "float rounding"),
        (np.array([0.0], "f4"), np.array([-0.0], "f4"), Plain(b""), "float rounding"),
        (np.array([np.nan, 1], "f4"), np.array([np.nan, 1], "f4"), Plain(b""), "bit-identical"),
        (np.array([np.nan, 1], "f4"), np.array([1, np.nan], "f4"), Plain(b""), "worse"),
        (np.array([np.inf, 1], "f4"), np.array([1e38, 1], "f4"), Plain(b""), "worse"),
        (np.array([3]), np.array([3]), Plain(b""), "bit-identical"),
        (np.array([3]), np.array([4]), Plain(b"", quantised=True), "worse"),
        (LOGITS, LOGITS[0], Plain(b""), "worse"),
    ],
)
def test_the_clause_of_two_outputs(plain, converted, expected, clause):
    found = compare({"y": plain}, {"y": converted, "cam_score": plain}, expected)
    assert found.clause == clause
    assert (found.output == "") == (clause == "bit-identical")


def test_the_weakest_output_counts():
    found = compare({"a": LOGITS, "b": LOGITS}, {"a": LOGITS, "b": LOGITS + 1}, Plain(b""))
    assert (found.clause, found.output) == ("worse", "b")
    assert found.difference == pytest.approx(1 / 20)


def test_what_the_plain_file_computes_in_is_read_off_it():
    from cam_onnx.graph.plain import plain

    quantised = network(
        "quantised (float[N,4] x) => (float[N,4] y)",
        """
        q = QuantizeLinear(x, scale, zero)
        y = DequantizeLinear(q, scale, zero)
        """,
        dict(scale=reals(0.25), zero=np.array(3, np.uint8)),
    )
    contract = cam_onnx.convert(BUILDERS["gap_linear"]()).contract
    from cam_onnx.graph.original import outline

    def known(model):
        return plain(model.SerializeToString(), replace(contract, original=outline(model)))

    assert known(quantised) == Plain(quantised.SerializeToString(), quantised=True, steps={"y": 0.25})
    assert known(BUILDERS["float16"]()).half == 2**-10
    converted = cam_onnx.convert(BUILDERS["gap_linear"]())
    assert plain(converted.to_bytes(), converted.contract).model == BUILDERS["gap_linear"]().SerializeToString()


def test_what_holds_and_what_is_said():
    check = GradientCheck("features", "cat", 3, "agrees", 0.001, 35)
    for clause in (*CLAUSES, "not compared"):
        found = Verification((check,), clause, exact=False)
        assert found.ok == (clause in CLAUSES[:3])
        assert Verification((check,), clause, exact=True).ok == (clause == "bit-identical")
    wrong = replace(check, verdict="wrong", text="why")
    found = Verification((check, wrong), "bit-identical")
    assert not found.ok
    assert str(found).splitlines() == [
        "features, cat, target 3: agrees, error 0.100%, 35 runs",
        "features, cat, target 3: wrong, error 0.100%, 35 runs",
        "features, cat: wrong: why",
        "original outputs: bit-identical",
        "NOT VERIFIED: 1 of 2 gradients agree with differences of the score",
    ]
    assert found.to_dict()["gradients"][1]["text"] == "why"


def test_inputs_are_seeded_and_never_flat():
    drawn = natural.picture(Preprocess(size=(150, 224)))
    assert drawn.shape == (150, 224, 3)
    assert np.array_equal(drawn, natural.picture(Preprocess(size=(150, 224))))
    assert 30 < drawn.std() < 90
    steps, shuffled = (
        np.abs(np.diff(x.astype(float), axis=1)).mean()
        for x in (drawn, np.random.default_rng(0).permutation(drawn.reshape(-1, 3)).reshape(drawn.shape))
    )
    assert steps < 0.6 * shuffled, "neighbours are alike, as in photographs"
    assert natural.tensor(Tensor("x", "float32", ("N", 2, None))).shape == (1, 2, 64)
    with pytest.raises(InputError, match="no input can be made up for 'x'"):
        natural.tensor(Tensor("x", "int64", ("N", 2)))
    for flat in (np.zeros((1, 3, 8, 8), np.float32), np.full((1, 3, 8, 8), 5, np.float32)):
        assert len(np.unique(natural.noisy(flat))) == flat.size
    pixels = natural.noisy(np.full((1, 8, 8, 3), 255, np.uint8))
    assert pixels.dtype == np.uint8
    assert set(np.unique(pixels)) == {254, 255}


def test_tensorfloat_is_off(monkeypatch):
    first, last = without_tf32([Choice(CUDA, {"device_id": 1}), Choice(CPU, {})])
    assert (first.options, last.options) == ({"device_id": 1, "use_tf32": "0"}, {})
    from cam_onnx import engine

    opened = []
    whole = engine.open

    def noted(*args, **options):
        opened.append(options["exact"])
        return whole(*args, **options)

    monkeypatch.setattr(engine, "open", noted)
    subject = explainer(BUILDERS["residual"](), ["b1"])
    assert opened == [False]
    subject.verify(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    assert opened == [False, True, True, True, True], "converted, plain, head, trunk"


# -- what it finds ---------------------------------------------------------------------------------------------------


def test_the_benchmark_of_what_is_found(capsys):
    name = "depthwise_asymmetric"
    model = BUILDERS[name]().SerializeToString()
    chosen = list(power.cases(name, model))
    assert {case.corruption for case in chosen} == set(power.CORRUPTIONS)
    found = list(power.measure(name, model, chosen[:2]))
    assert [outcome.case for outcome in found] == [None, *chosen[:2]]
    assert [outcome.verdicts for outcome in found] == [("agrees",) * 2, ("wrong",) * 2, ("wrong",) * 2]
    rows = power.table(found).splitlines()
    assert rows[2] == "| flipped sign | 2 of 2 | 2 of 2 |"
    assert rows[-3:] == ["| nothing broken | alarm in 0 of 1 | alarm in 0 of 1 |", "", f"Networks: {name} (2 breaks)."]
    missed = replace(found[1], verdicts=("agrees", "wrong"))
    assert "| flipped sign | 1 of 2 (missed: up to 200.0% of the gradient) | 2 of 2 |" in power.table(
        [missed, found[2]]
    )


def test_the_page_has_its_table():
    page = power.PAGE.read_text(encoding="utf-8")
    table = page.partition("<!-- power:begin -->\n")[2].partition("<!-- power:end -->")[0]
    names = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert names == ["in one place", "---", *power.CORRUPTIONS, "nothing broken"]
    networks = table.partition("Networks: ")[2]
    assert [name for name in power.NETWORKS if f"{name} (" in networks] == list(power.NETWORKS)


def test_an_unknown_network_is_said(capsys):
    with pytest.raises(SystemExit):
        power.main(["silu"])
    assert "no network 'silu'; did you mean 'silu_se'" in capsys.readouterr().err
