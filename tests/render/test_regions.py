"""Warm areas of hand-made maps, whose boxes, shares and peaks can be counted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cam_onnx.errors import InputError
from cam_onnx.render.regions import draw_regions, regions


def two_blobs():
    """A strong blob of 3 x 4 pixels and a weak one of 2 x 2, on a cool ground."""
    values = np.full((12, 16), 0.1, np.float32)
    values[2:5, 1:5] = 0.8
    values[3, 2] = 1.0
    values[8:10, 12:14] = 0.6
    return values


def test_two_blobs_have_the_boxes_areas_peaks_and_shares_that_were_drawn():
    values = two_blobs()
    strong, weak = regions(values)
    assert (strong.box, strong.area, strong.peak, strong.value) == ((1, 2, 5, 5), 12, (2, 3), 1.0)
    assert (weak.box, weak.area, weak.peak) == ((12, 8, 14, 10), 4, (12, 8))
    assert strong.share == pytest.approx((11 * 0.8 + 1.0) / values.sum(), rel=1e-6)
    assert weak.share == pytest.approx(4 * 0.6 / values.sum(), rel=1e-6)
    assert {tuple(point) for point in strong.contour.tolist()} == {(1, 2), (4, 2), (4, 4), (1, 4)}


def test_the_crop_by_a_box_holds_its_peak():
    values = two_blobs()
    for region in regions(values):
        x0, y0, x1, y1 = region.box
        assert values[y0:y1, x0:x1].max() == region.value == values[region.peak[1], region.peak[0]]


def test_the_shares_are_of_the_whole_map_and_sum_to_one_where_nothing_is_left_out():
    values = np.where(two_blobs() > 0.5, two_blobs(), 0)
    assert sum(region.share for region in regions(values, 0.01)) == pytest.approx(1)
    assert sum(region.share for region in regions(two_blobs())) < 1


def test_the_threshold_parts_and_joins():
    values = np.array([[1.0, 0.4, 0.9]])
    assert [region.box for region in regions(values, 0.5)] == [(0, 0, 1, 1), (2, 0, 3, 1)]
    assert [region.box for region in regions(values, 0.4)] == [(0, 0, 3, 1)]
    assert [region.box for region in regions(values, 1)] == [(0, 0, 1, 1)]


def test_corners_connect():
    assert [region.area for region in regions(np.eye(5))] == [5]


def test_one_pixel_is_a_region():
    values = np.zeros((7, 9))
    values[6, 8] = 1
    [region] = regions(values)
    assert (region.box, region.area, region.share, region.peak) == ((8, 6, 9, 7), 1, 1.0, (8, 6))
    assert region.contour.tolist() == [[8, 6]]


def test_a_map_that_is_warm_everywhere_is_one_region_with_the_picture_s_border():
    [region] = regions(np.ones((6, 8)))
    assert (region.box, region.area, region.share) == ((0, 0, 8, 6), 48, 1.0)
    assert {tuple(point) for point in region.contour.tolist()} == {(0, 0), (7, 0), (7, 5), (0, 5)}


@pytest.mark.parametrize("values", [np.zeros((4, 5)), np.full((4, 5), 0.3), np.full((4, 5), -1.0)], ids=str)
def test_a_blank_cool_or_negative_map_has_no_regions(values):
    assert regions(values) == []


def test_what_speaks_against_the_class_is_no_warm_area_and_no_part_of_the_map():
    values = np.array([[1.0, 0.0, -1.0, -1.0]])
    [region] = regions(values)
    assert (region.box, region.share) == ((0, 0, 1, 1), 1.0)


def test_a_round_area_keeps_within_a_pixel_of_its_border_with_few_points():
    y, x = np.mgrid[:200, :300]
    disc = (np.hypot(x - 150, y - 100) <= 80).astype(np.float32)
    [region] = regions(disc)
    assert len(region.contour) < 40
    radii = np.hypot(region.contour[:, 0] - 150, region.contour[:, 1] - 100)
    assert radii.min() >= 78.5
    assert radii.max() <= 80
    assert region.area == disc.sum()


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, np.nan, "0.5", None, True], ids=str)
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(InputError, match="above 0, at most 1"):
        regions(np.ones((2, 2)), threshold)


def test_a_map_that_is_not_normalised_is_refused():
    with pytest.raises(InputError, match="normalise"):
        regions(np.full((2, 2), 7.0))


def test_a_region_is_json():
    found = [region.to_dict() for region in regions(two_blobs())]
    read = json.loads(json.dumps(found))
    assert read[0]["box"] == [1, 2, 5, 5]
    assert read[0]["peak"] == {"x": 2, "y": 3, "value": 1.0}
    assert sorted(read[0]["contour"][::2]) == [1, 1, 4, 4]


def test_drawing_marks_a_copy_and_leaves_the_rest():
    picture = np.full((120, 160, 3), 90, np.uint8)
    values = np.zeros((120, 160))
    values[50:90, 60:120] = 1
    drawn = draw_regions(picture, regions(values))
    assert (picture == 90).all()
    assert (drawn[50, 60:120].min(axis=1) > 200).any(), "the border is white"
    assert (drawn[55:85, 65:115] == 90).all(), "the area itself stays"
    assert (drawn[95:] == 90).all()
    assert (drawn[50 - 16 : 50, 60:80] == 255).any(), "the share stands above the box"
    assert (draw_regions(picture, []) == picture).all()


def test_a_label_stays_inside_the_picture_and_tiny_pictures_have_none():
    values = np.zeros((120, 160))
    values[0:40, 130:160] = 1
    drawn = draw_regions(np.zeros((120, 160, 3), np.uint8), regions(values))
    assert (drawn[:17, 120:] == 255).all(axis=-1).sum() > 100
    assert draw_regions(np.zeros((8, 8, 3), np.uint8), regions(np.eye(8))).shape == (8, 8, 3)


def test_the_cat_s_warm_area_is_its_face(cat):
    face = cat.regions()[0]
    x0, y0, x1, y1 = face.box
    assert 40 < x0 < 120
    assert 300 < x1 < 400
    assert y0 < 80
    assert y1 > 220
    assert 0.5 < face.share < 0.9
    assert face.value == 1
    assert cat.saliency_map[0, face.peak[1], face.peak[0]] == 1


def test_of_several_samples_there_is_a_list_each_and_overlays_take_a_threshold(demo):
    from tests.running import CAT, COFFEE

    both = demo.explain([CAT, COFFEE])
    assert [len(found) > 0 for found in both.regions(0.7)] == [True, True]
    plain, outlined, narrow = both[0].overlay(), both[0].overlay(regions=True), both[0].overlay(regions=0.9)
    assert (plain != outlined).any()
    assert (narrow != outlined).any()
    np.testing.assert_array_equal(outlined, both[0].overlay(regions=0.5))


def test_saving_with_regions_writes_them(cat, tmp_path):
    cat.save(tmp_path, regions=0.6)
    saved = json.loads((tmp_path / "chelsea.explanation.json").read_text())["regions"]
    assert saved["threshold"] == 0.6
    assert saved["found"] == [region.to_dict() for region in cat.regions(0.6)]
    assert "regions" not in cat.to_dict()
