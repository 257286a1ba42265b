"""The registry: lookup, what it records, and that it loads nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from cam_onnx.errors import UnknownName
from cam_onnx.methods import METHODS, NEEDS, find
from cam_onnx.methods.table import method


@pytest.mark.parametrize("name", ["grad-cam", "Grad_CAM", "GRADCAM", "grad-CAM"])
def test_case_and_dashes_do_not_matter(name):
    assert find(name).name == "grad-cam"


def test_an_unknown_method_is_named_with_the_nearest_and_the_list():
    with pytest.raises(
        UnknownName, match=r"no method 'grad-cat'; did you mean 'grad-cam'\? There are \d+: cam, grad-cam"
    ):
        find("grad-cat")


def test_the_table_keeps_the_order_of_registration():
    assert list(METHODS)[:3] == ["cam", "grad-cam", "hires-cam"]


@pytest.mark.parametrize("entry", METHODS.values(), ids=list(METHODS))
def test_every_method_has_needs_a_paper_and_a_docstring(entry):
    assert set(entry.needs) <= set(NEEDS)
    assert ("activations" in entry.needs) == (entry.at == "layer")
    assert (entry.cost != "") == bool(entry.calls or "guided" in entry.needs), "what runs is said"
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|baseline|as pytorch-grad-cam names it|\d{4}, [A-Z]", entry.paper)
    assert entry.summary.endswith(".")
    assert "Parameters" in entry.function.__doc__


def test_only_cam_asks_for_a_pooled_head():
    assert [entry.name for entry in METHODS.values() if entry.requires_pooled_head] == ["cam"]


def test_the_decorator_records_needs_and_options_and_leaves_the_function(monkeypatch):
    monkeypatch.setattr("cam_onnx.methods.table.METHODS", {})

    @method("some-cam", paper="none", relu=False)
    def some_cam(activations, gradients, *, power=2):
        """Summary.

        More."""
        return activations**power * gradients

    entry = find("somecam")
    assert (entry.needs, entry.options, entry.summary, entry.relu) == (
        ("activations", "gradients"),
        {"power": 2},
        "Summary.",
        False,
    )
    assert some_cam(3, 2) == 18
    with pytest.raises(ValueError, match="registered already"):
        method("SOME_CAM", paper="none")(some_cam)


def test_the_methods_load_neither_onnx_nor_a_runtime_nor_opencv():
    code = (
        "import sys, numpy as np, cam_onnx.methods as m;"
        "a = np.ones((1, 2, 3, 3)); m.saliency_map(m.saliency(a, a), relu=True, size=(9, 9));"
        "print(sorted({'onnx', 'onnx_ir', 'onnxruntime', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
