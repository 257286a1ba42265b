"""Who may import whom. Read from the source, so that an import inside a function counts as well.

The floors: a module imports only from lower ones, and within its own unit. A unit is the first name below
cam_onnx (a package or a module); the modules of floors 0, 4 and 5 may use one another.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import cam_onnx

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cam_onnx"

FLOORS = [
    {
        "axes",
        "bundled",
        "contract",
        "declared",
        "distributions",
        "errors",
        "expression",
        "external",
        "files",
        "inlined",
        "inputs",
        "kinds",
        "limits",
        "options",
        "preprocess",
        "presets",
        "sources",
        "wire",
        "words",
    },
    {"render"},
    {"autodiff", "methods"},
    {"graph", "engine"},
    {
        "beside",
        "blank",
        "calls",
        "differences",
        "directions",
        "doctor",
        "explainer",
        "explanation",
        "maps",
        "opened",
        "picks",
        "probes",
        "ranking",
        "reading",
        "runs",
        "saving",
        "showing",
        "smoothing",
        "targets",
        "telling",
        "verification",
        "verifying",
    },
    {"__main__", "arguments", "cli", "commands", "listing", "parsing", "places", "printing", "progress", "refused"},
]
OPEN_WITHIN = {0, 4, 5}  # floors whose units may import each other

# Other people's packages: where each may be imported, as prefixes of "unit/module".
HOMES = {
    "cv2": ["render/image.py"],
    "matplotlib": ["render/figure.py"],
    "numpy": [
        "render/",
        "autodiff/",
        "methods/",
        "graph/",
        "engine/",
        "beside",
        "differences",
        "directions",
        "blank",
        "explainer",
        "calls",
        "explanation",
        "kinds",
        "maps",
        "picks",
        "ranking",
        "saving",
        "showing",
        "smoothing",
        "targets",
        "verif",
        "words",
    ],
    "onnx": ["autodiff/", "graph/", "engine/reference.py"],
    "onnx_ir": ["autodiff/", "graph/", "engine/reference.py"],
    "ml_dtypes": ["autodiff/", "graph/", "engine/"],
    "onnxruntime": ["engine/onnxruntime.py"],
    "rich": ["printing.py", "progress.py"],
}
# Only where they are used, never on top: whoever imports the module has not asked for them yet.
LAZY = {"matplotlib", "onnxruntime", "rich"}


def imports(tree: ast.AST) -> list[tuple[str, bool]]:
    """Return every imported module's dotted name, and whether it is imported with the module itself."""
    top = {id(node) for node in ast.iter_child_nodes(tree)}
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor"
            # `from cam_onnx import files` imports cam_onnx.files
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in {"import_module", "__import__"}:
                names = [str(node.args[0].value)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cam_onnx":
            names = [f"cam_onnx.{node.attr}"]
        found += [(name, id(node) in top) for name in names]
    return found


def floor(unit: str) -> int | None:
    return next((i for i, units in enumerate(FLOORS) if unit in units), None)


def violations(module: str, source: str) -> list[str]:
    """Say what is wrong with the imports of `module` (a path below cam_onnx)."""
    unit = module.split("/")[0].removesuffix(".py")
    own = floor(unit)
    if own is None:
        return [f"{module} stands on no floor"]
    wrong = []
    for name, on_top in imports(ast.parse(source)):
        first, *rest = name.split(".")
        if first == "cam_onnx":
            other = rest[0] if rest else "__version__"  # what a bare `import cam_onnx` is good for
            if other == "__version__":
                continue
            if other in cam_onnx.__all__:  # a public name counts as the module that it is loaded from
                other = cam_onnx._HOMES.get(other, "cam_onnx.errors").split(".")[1]
            theirs = floor(other)
            if other == unit:
                continue
            if theirs is None:
                wrong.append(f"{module} imports {name}, which stands on no floor")
            elif theirs > own or (theirs == own and own not in OPEN_WITHIN):
                wrong.append(f"{module} (floor {own}) imports {name} (floor {theirs})")
        elif first in sys.stdlib_module_names:
            continue
        elif not any(module.startswith(home) for home in HOMES.get(first, [])):
            wrong.append(f"{module} imports {first}")
        elif on_top and first in LAZY:
            wrong.append(f"{module} imports {first} on top, not where it is used")
    return wrong


MODULES = sorted(
    path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"
)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_lower_floors(module):
    assert violations(module, (PACKAGE / module).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "words"),
    [
        ("contract.py", "import numpy", "imports numpy"),
        ("render/overlay.py", "from cam_onnx.methods import find", "floor 1"),
        ("methods/gradient.py", "def f():\n    import onnx", "imports onnx"),
        ("methods/gradient.py", "from cam_onnx.autodiff import table", "floor 2"),
        ("graph/convert.py", "from cam_onnx.engine import evidence", "floor 3"),
        ("engine/evidence.py", "from importlib import import_module\nimport_module('cam_onnx.graph.head')", "floor 3"),
        ("engine/evidence.py", "import onnxruntime as ort", "imports onnxruntime"),
        ("engine/onnxruntime.py", "import onnxruntime", "on top"),
        ("engine/preprocess.py", "import cv2", "imports cv2"),
        ("render/image.py", "from cam_onnx import convert", "floor 3"),
        ("engine/evidence.py", "import cam_onnx\ndef f():\n    cam_onnx.convert()", "floor 3"),
        ("engine/evidence.py", "from cam_onnx import utils", "no floor"),
        ("explainer.py", "from cam_onnx.cli import main", "floor 5"),
        ("printing.py", "import rich.table", "on top"),
        ("utils.py", "", "no floor"),
    ],
    ids=str,
)
def test_the_check_finds(module, source, words):
    [message] = violations(module, source)
    assert words in message


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("printing.py", "def f():\n    from rich.table import Table\n    from cam_onnx.explainer import Explainer"),
        ("explainer.py", "from cam_onnx import files\ndef f():\n    from cam_onnx.graph.convert import convert"),
        ("engine/onnxruntime.py", "def f():\n    import onnxruntime"),
        ("contract.py", "from cam_onnx.errors import InputError"),
        ("graph/convert.py", "import cam_onnx\ncam_onnx.__version__"),
    ],
)
def test_the_check_lets_pass(module, source):
    assert violations(module, source) == []


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.name)
def test_tools_are_thin_fronts(path):
    outside = {name.split(".")[0] for name, _ in imports(ast.parse(path.read_text(encoding="utf-8")))}
    assert outside - set(sys.stdlib_module_names) <= {"cam_onnx", "benchmarks", "models", "tools"}


def test_no_module_is_longer_than_it_should_be():
    lengths = {module: (PACKAGE / module).read_text(encoding="utf-8").count("\n") for module in MODULES}
    assert {module: n for module, n in lengths.items() if n > 300} == {}
