"""What a fresh process loads, and what the package offers."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import cam_onnx
from cam_onnx import errors

ROOT = Path(__file__).parent.parent
HEAVY = {"cv2", "ml_dtypes", "numpy", "onnx", "onnx_ir", "onnxruntime", "rich", "sympy"}


def loaded(code: str) -> set[str]:
    """Return the top-level packages in memory after `code` in a fresh process."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_loads_nothing_heavy():
    assert loaded("import cam_onnx") & HEAVY == set()


def test_the_errors_and_the_preprocessing_load_nothing_heavy():
    assert loaded("from cam_onnx import Preprocess, CamOnnxError; Preprocess(size=224)") & HEAVY == set()


def test_saliency_of_arrays_needs_numpy_alone():
    code = (
        "import numpy as np, cam_onnx; a = np.ones((1, 2, 3, 3), 'f4'); cam_onnx.saliency(a, a, method='grad-cam')\n"
        "import types; assert isinstance(cam_onnx.saliency, types.FunctionType)"
    )
    assert loaded(code) & HEAVY == {"numpy"}


def test_all_is_sorted_and_complete():
    assert cam_onnx.__all__ == sorted(cam_onnx.__all__)
    raised = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert raised <= set(cam_onnx.__all__)
    tree = ast.parse((ROOT / "cam_onnx" / "__init__.py").read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    twins = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert twins | {"__version__"} == set(cam_onnx.__all__)
    assert set(cam_onnx.__all__) <= set(dir(cam_onnx))


@pytest.mark.parametrize("name", cam_onnx.__all__)
def test_every_public_name_resolves(name):
    assert getattr(cam_onnx, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'sailency'"):
        cam_onnx.sailency  # noqa: B018


def test_the_version_is_the_distribution_s():
    from importlib.metadata import PackageNotFoundError, version

    try:
        assert version("cam-onnx") == cam_onnx.__version__
    except PackageNotFoundError:
        pytest.skip("runs from the tree")
