"""One network in one form: is it explained, as the plain file is, and at what cost?"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from cam_onnx import CamOnnxError, Explainer, convert
from cam_onnx.autodiff.model import Model
from cam_onnx.graph.locate import picture_input
from tools.production.forms import calibration, make
from tools.production.networks import Network
from tools.said import said

__all__ = ["Row", "measure"]

ROOT = Path(__file__).parent.parent.parent
PICTURES = ROOT / "models" / "pictures"
CALIBRATED, EXPLAINED = PICTURES / "coffee.png", PICTURES / "chelsea.png"
PAIRS = 7
Array = NDArray[Any]


@dataclass(frozen=True)
class Row:
    """What was found of a form.

    Attributes
    ----------
    refused : str
        Why it is not explained, or could not be made; else empty.
    nodes, added : int
    layer : float
        Cosine of dy/dA at the default layer with the plain file's.
    error : float
        Norm of their difference over the plain one's.
    image : float
        Cosine of the input gradients.
    cost : float
        A run of the converted form over one of the form.
    verdict : str
        Of `Explainer.verify`.
    own : str
        Which operators of com.microsoft it has, and how many.
    """

    network: str
    form: str
    refused: str = ""
    nodes: int = 0
    added: int = 0
    layer: float = 0.0
    error: float = 0.0
    image: float = 0.0
    cost: float = 0.0
    verdict: str = ""
    own: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(name: str, network: Network, form: str) -> Row:
    """Make the form, explain the picture with it and with the plain file, and compare."""
    source = network.path()
    with tempfile.TemporaryDirectory() as folder:
        path = source
        if form != "plain":
            try:
                feeds = calibration(CALIBRATED, onnx.load(source), _preprocess(source, network))
                path = make(form, source, Path(folder) / "form.onnx", feeds, network.transformer)
                onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])  # else nobody runs it
            except Exception as error:  # noqa: BLE001  (a tool that cannot write this form is part of the table)
                return Row(name, form, f"not made: {type(error).__name__}: {said(error, folder, source.parent)[:120]}")
        try:
            return _compare(name, form, network, source, path)
        except CamOnnxError as error:
            text = said(error, folder, source.parent).replace(f"{path.name}: ", "")
            return Row(name, form, f"{type(error).__name__}: {text[:200]}")


def _preprocess(source: Path, network: Network) -> Any:
    return Explainer(source, preprocess=network.preprocess, providers="cpu").contract.preprocess


def _compare(name: str, form: str, network: Network, source: Path, path: Path) -> Row:
    given = {"preprocess": network.preprocess, "providers": "cpu"}
    plain, formed = (Explainer(file, **given) for file in (source, path))
    ours = plain.explain(EXPLAINED)
    target = int(ours.target[0])
    theirs = formed.explain(EXPLAINED, target=target)
    picture = picture_input(Model(onnx.load(source), None))
    assert picture is not None
    of_input = [
        Explainer(file, layers=picture.name, **given).explain(EXPLAINED, target=target).gradients
        for file in (source, path)
    ]
    made = convert(path)
    nodes, whole = (len(onnx.load_from_string(data).graph.node) for data in (path.read_bytes(), made.to_bytes()))
    [check] = formed.verify(EXPLAINED, target=target).gradients
    assert ours.gradients is not None
    assert theirs.gradients is not None
    difference = np.linalg.norm(theirs.gradients.astype(float) - ours.gradients)
    return Row(
        name,
        form,
        nodes=nodes,
        added=whole - nodes,
        layer=_cosine(theirs.gradients, ours.gradients),
        error=float(difference / np.linalg.norm(ours.gradients)),
        image=_cosine(*of_input),
        cost=_cost(path.read_bytes(), made.to_bytes()),
        verdict=check.verdict,
        own=_own(path),
    )


def _own(path: Path) -> str:
    counts = Counter(node.op_type for node in onnx.load(path).graph.node if node.domain == "com.microsoft")
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _cosine(a: Any, b: Any) -> float:
    a, b = np.ravel(a).astype(float), np.ravel(b).astype(float)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def _cost(plain: bytes, converted: bytes) -> float:
    """Return the median ratio of runs side by side, all outputs fetched."""
    from benchmarks.networks import session

    sessions = [session(data) for data in (converted, plain)]
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    feeds = {
        x.name: np.random.default_rng(0).standard_normal(
            [d if isinstance(d, int) else (1 if i == 0 else 224) for i, d in enumerate(x.shape)]
        ).astype(kinds[x.type])
        for x in sessions[1].get_inputs()
    }  # fmt: skip

    def seconds(run: Callable[[], object]) -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    def once() -> float:
        ours, theirs = (seconds(lambda s=s: s.run(None, feeds)) for s in sessions)  # type: ignore[misc]
        return ours / theirs

    once()
    return statistics.median(once() for _ in range(PAIRS))
