"""What inference is told in place of ONNX Runtime's own operators: types and shapes that a file need not declare."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cam_onnx.autodiff.model import load
from tests.autodiff.cases import CASES, Case
from tests.autodiff.check import Trial

STATISTICS = {"m", "v"}  # of a normalisation, which no rule reads
ROWS = [case for case in CASES if "com.microsoft." in case.text or case.op_type == "SimplifiedLayerNormalization"]


@pytest.mark.parametrize("case", ROWS, ids=str)
def test_what_is_inferred_is_what_the_operator_gives(case: Case):
    """All that a rule may ask for: of every value its type, its rank, and what is known of its sizes."""
    trial = Trial(case, "float32")
    model = onnx.ModelProto()
    model.CopyFrom(trial.model)
    names = [y for node in model.graph.node for y in node.output if y and y not in STATISTICS]
    del model.graph.value_info[:], model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = load(model).values
    seen = {name: np.asarray(value) for name, value in zip(names, trial.run(model, trial.feeds), strict=True)}
    for name, array in seen.items():
        value = values[name]
        assert value.dtype is not None, name
        assert value.dtype.numpy() == array.dtype, name
        assert value.shape is not None, name
        assert len(value.shape) == array.ndim, name
        assert all(d == n for d, n in zip(value.shape, array.shape, strict=True) if isinstance(d, int)), name
