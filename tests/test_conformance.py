"""The rules against onnx's own test data: a few cases now, and what the whole run said by name."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cam_onnx import autodiff
from cam_onnx.autodiff.table import RULES
from tests.autodiff.cases import CASES
from tools.conformance.cases import cases, differentiable, loaded
from tools.conformance.engines import ENGINES, trials
from tools.conformance.judge import differences, judge

ROOT = Path(__file__).parent.parent
DATA = json.loads((ROOT / "docs" / "conformance.json").read_text())
BUCKETS: dict[str, list[str]] = DATA["cases"]

# by name and with the reason, so that none comes unseen; what works is taken out
FORWARD = dict.fromkeys(("test_gradient_of_add", "test_gradient_of_add_and_mul"), "ai.onnx.preview.training::Gradient")
OTHER = {
    "test_maxunpool_export_with_output_shape": "indices in the larger output, as PyTorch",
    "test_maxunpool_export_with_output_shape@11": "indices in the larger output, as PyTorch",
    "test_resize_downsample_scales_cubic_align_corners": "align_corners by the rounded length, as PyTorch",
    "test_resize_downsample_scales_linear_align_corners": "align_corners by the rounded length, as PyTorch",
}
# operators whose versions no case of onnx's proves, and why; rows of tests/autodiff/cases.py do
UNPROVEN = {
    "GlobalLpPool": "onnx has no case of it",
    "Hardmax": "its derivative is zero, whatever the tag says",
    "MaxRoiPool": "onnx has no case of it",
    "Trilu": "onnx's cases are of whole numbers",
}
# cases that are not compared: as many as there were, so that none moves there unseen
MOST = {"zero": 54, "input": 423, "type": 115, "random": 12, "old": 109, "kink": 57}
QUICK = [
    "test_relu", "test_softmax_axis_1", "test_gemm_all_attributes", "test_matmul_3d", "test_basic_conv_with_padding",
    "test_averagepool_2d_ceil", "test_maxpool_2d_dilations", "test_layer_normalization_4d_axis1",
    "test_group_normalization_example", "test_batchnorm_example", "test_rms_normalization_4d_axis1",
    "test_rotary_embedding", "test_attention_4d", "test_affine_grid_2d", "test_affine_grid_3d_align_corners",
    "test_gridsample_bicubic", "test_center_crop_pad_crop_axes_hwc_expanded",
    "test_reduce_mean_default_axes_keepdims_example", "test_reduce_max_empty_set", "test_reshape_allowzero_reordered",
    "test_mod_float_edge_cases_fmod_0_float32", "test_scatter_without_axis", "test_scatter_elements_with_axis",
    "test_gather_elements_0", "test_slice_neg_steps", "test_resize_upsample_scales_cubic",
    "test_resize_downsample_scales_linear_align_corners", "test_maxunpool_export_with_output_shape",
    "test_lstm_bidirectional", "test_lstm_defaults", "test_gru_batchwise", "test_simple_rnn_defaults", "test_loop11",
    "test_scan9_scalar", "test_if", "test_scan_sum", "test_einsum_batch_matmul", "test_det_2d", "test_cumsum_1d",
    "test_shrink_soft", "test_spacetodepth_crd_mode_example", "test_range_float_type_positive_delta",
    "test_dequantizelinear", "test_argmax_no_keepdims_random", "test_shape", "test_optional_get_element_tensor",
    "test_tan", "test_nllloss_NC", "test_dynamicquantizelinear", "test_sequence_model1", "test_sequence_model7",
    "test_thresholdedrelu@10", "test_reduce_l1_keep_dims_example@13",
    "test_sce_mean", "test_swish", "test_where_example", "test_clip", "test_top_k",
]  # fmt: skip

pytestmark = pytest.mark.skipif(DATA["onnx"] != onnx.__version__, reason="the page is of another onnx")


@cache
def by_name() -> dict[str, Any]:
    return {case.name: case for case in cases()}


@pytest.mark.parametrize(
    ("bucket", "named"), [("disagree", {}), ("refused", {}), ("forward", FORWARD), ("other", OTHER)]
)
def test_what_does_not_agree_is_named(bucket, named):
    assert BUCKETS[bucket] == sorted(named)


@pytest.mark.parametrize("bucket", MOST)
def test_no_bucket_grows(bucket):
    assert len(BUCKETS[bucket]) <= MOST[bucket]


def test_every_bucket_but_those_that_agree_is_watched():
    assert set(BUCKETS) == {"agree", "disagree", "refused", "forward", "other", *MOST}


def test_every_version_that_onnx_tags_differentiable_has_a_case_that_agrees():
    proven = {(name, version) for name, versions in DATA["versions"].items() for version in versions}
    missing = differentiable() - proven
    assert {name for name, _ in missing} == set(UNPROVEN)
    assert {name for name in UNPROVEN if RULES.find(name, 20) is None} == set()
    assert set(UNPROVEN) <= {case.op_type for case in CASES} | {"Hardmax"}


def test_the_page_counts_what_its_data_names():
    page = (ROOT / "docs" / "conformance.md").read_text()
    counts = {name: int(count) for name, count in re.findall(r"^- \*\*(\w+)\*\*: .*: (\d+)$", page, re.MULTILINE)}
    assert counts == {bucket: len(names) for bucket, names in BUCKETS.items()}


def test_every_case_is_in_one_bucket():
    assert sorted(name for names in BUCKETS.values() for name in names) == sorted(by_name())


@pytest.mark.parametrize("name", QUICK)
def test_a_case_is_still_in_its_bucket(name):
    with np.errstate(all="ignore"):
        verdict = judge(by_name()[name])
    assert name in BUCKETS[verdict.bucket], verdict


def test_a_gradient_that_is_one_per_cent_off_disagrees():
    model, feeds, expected = loaded(by_name()["test_gemm_all_attributes"])
    trial = next(trials(model, feeds, expected))
    trial.wrt, trial.of = list(feeds), [model.graph.output[0].name]
    run = ENGINES[trial.engine](autodiff.gradient(trial.model, trial.wrt, trial.of))

    def off(feeds):
        y, *grads = run(feeds)
        return [y, *(1.01 * np.asarray(g) for g in grads)]

    assert differences(trial, run, trial.feeds) == ""
    assert differences(trial, off, trial.feeds).startswith("a: gradient")
