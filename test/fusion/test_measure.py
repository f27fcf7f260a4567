"""Distances against literal masks, NumPy's own medians and synthetic truth."""

import dataclasses

import numpy as np
import pytest

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.fusion.measure import Config, measure
from semantic_stereo_ros.types import Disparity, GroundPlane, Segmentation, StereoRig


def make(disparity, labels, doffs_px=0.0, ground=None):
    disparity = np.asarray(disparity, np.float32)
    height, width = disparity.shape
    rig = StereoRig((width, height), 100.0, 100.0, (width - 1) / 2, (height - 1) / 2, 0.1, doffs_px)
    sigma = np.where(np.isnan(disparity), np.nan, 0.2).astype(np.float32)
    full = Disparity(disparity, sigma, np.isfinite(disparity).astype(np.float32), rig)
    return full, Segmentation.from_labels(np.asarray(labels), ground)


def test_a_literal_mask_of_four_by_four_pixels():
    labels = np.zeros((4, 4), np.uint16)
    labels[1:3, 0:4] = 7
    disparity = np.full((4, 4), 2.0)
    disparity[1:3] = 5.0
    (m,) = measure(*make(disparity, labels), Config(min_valid_pixels=4))
    assert (m.label, m.pixels, m.valid_fraction, m.box_xyxy) == (1, 8, 1.0, (0, 1, 4, 3))
    assert m.depth_m == pytest.approx(10.0 / 5.0, rel=1e-3)
    assert m.known and m.depth_sigma_m > 0


def test_a_distance_that_is_mostly_sigma_is_none():
    """A disparity of a twentieth of a pixel is not a distance of 200 m."""
    labels = np.ones((40, 40), np.uint16)
    (far,) = measure(*make(np.full((40, 40), 0.05), labels))
    assert not far.known and np.isnan(far.distance_m) and far.box is None and far.valid_fraction == 1.0
    assert "too uncertain" in far.reason and "its distance would be 200" in far.reason
    (near,) = measure(*make(np.full((40, 40), 5.0), labels))
    assert near.known and near.distance_sigma_m < near.distance_m / 3
    (cautious,) = measure(*make(np.full((40, 40), 5.0), labels), Config(sigma_scale=30.0))
    assert not cautious.known


def test_boxes_are_left_out_on_request_and_the_nearest_point_comes_first():
    labels = np.zeros((40, 40), np.uint16)
    labels[5:25, 5:25] = 1
    disparity = np.full((40, 40), 5.0)
    disparity[5:25, 5:25] += np.arange(20) * 0.1
    for boxes in (True, False):
        (m,) = measure(*make(disparity, labels), boxes=boxes)
        assert 0 < m.depth_sigma_m < m.nearest_m < m.depth_m < m.distance_m
        assert (m.box is not None) == boxes


def test_medians_agree_with_numpy_on_many_labels():
    rng = np.random.default_rng(3)
    labels = np.zeros((240, 320), np.uint16)
    for label in range(1, 61):
        row, column = divmod(label - 1, 10)
        labels[row * 40 + 3 : row * 40 + 37, column * 32 + 2 : column * 32 + 30] = label
    mean = rng.uniform(5, 60, 61)
    disparity = mean[labels] + rng.normal(0, 0.2, labels.shape)
    disparity[rng.random(labels.shape) < 0.1] = np.nan
    full, segmentation = make(disparity, labels)
    result = measure(full, segmentation, boxes=False)
    assert [m.label for m in result] == list(range(1, 61))
    for m in result:
        inside = labels == m.label
        assert m.pixels == inside.sum()
        rows, columns = np.nonzero(inside)
        assert m.box_xyxy == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert m.valid_fraction == pytest.approx(np.isfinite(disparity[inside]).mean(), abs=0.05)  # of the pixels drawn
        assert full.rig.bf / m.depth_m == pytest.approx(np.nanmedian(disparity[inside]), abs=0.1)
        assert m.position_m[0] / m.depth_m * 100 + full.rig.cx == pytest.approx(columns.mean(), abs=1.5)
        assert m.position_m[1] / m.depth_m * 100 + full.rig.cy == pytest.approx(rows.mean(), abs=1.5)
        assert m.distance_m == pytest.approx(np.linalg.norm(m.position_m))
        assert np.linalg.eigvalsh(m.position_covariance_m2).min() > 0


def test_an_exact_slanted_plane_has_its_nearest_point_at_the_near_edge():
    columns = np.arange(200.0)
    disparity = np.tile(10.0 + 0.05 * columns, (100, 1))
    labels = np.zeros((100, 200), np.uint16)
    labels[20:80, 30:170] = 1
    full, segmentation = make(disparity, labels)
    (m,) = measure(full, segmentation, Config(), boxes=False)
    rig = full.rig
    v, u = np.mgrid[20:80, 30:170]
    z = rig.bf / disparity[20:80, 30:170]
    true_range = z * np.sqrt(1 + ((u - rig.cx) / rig.fx) ** 2 + ((v - rig.cy) / rig.fy) ** 2)
    assert m.depth_m == pytest.approx(np.median(z), rel=0.01)
    assert m.nearest_m == pytest.approx(np.percentile(true_range, 5), rel=0.01)


def test_background_in_the_rim_does_not_move_the_median():
    disparity = np.full((60, 60), 5.0)
    labels = np.zeros((60, 60), np.uint16)
    labels[20:34, 20:34] = 1
    disparity[22:32, 22:32] = 20.0  # the rim of two pixels holds the background
    (m,) = measure(*make(disparity, labels), boxes=False)
    assert m.depth_m == pytest.approx(10.0 / 20.0, rel=0.01)
    assert m.nearest_m == pytest.approx(0.5, rel=0.05)


def test_a_pole_thinner_than_the_rim_is_measured_with_a_larger_sigma():
    disparity = np.full((100, 60), 4.0)
    disparity[10:90, 28:31] = 20.0
    disparity[10:90, 5:25] = 20.0
    labels = np.zeros((100, 60), np.uint16)
    labels[10:90, 28:31] = 1
    labels[10:90, 5:25] = 2
    made, masks = make(disparity, labels)
    pole, wide = measure(dataclasses.replace(made, row_error_px=0.0), masks, boxes=False)
    assert pole.depth_m == pytest.approx(0.5, rel=0.01)
    assert pole.depth_sigma_m > 2 * wide.depth_sigma_m


def test_too_few_known_pixels_give_a_reason_and_no_number():
    disparity = np.full((40, 40), np.nan)
    disparity[10, 10:13] = 5.0
    labels = np.zeros((40, 40), np.uint16)
    labels[5:25, 5:25] = 1
    (m,) = measure(*make(disparity, labels))
    assert not m.known and "3 of 400" in m.reason
    assert np.isnan([m.depth_m, m.distance_m, m.nearest_m, m.depth_sigma_m]).all()
    assert np.isnan(m.position_m).all() and m.box is None


def test_doffs_shift_the_disparity():
    labels = np.ones((30, 30), np.uint16)
    (m,) = measure(*make(np.full((30, 30), -2.0), labels, doffs_px=7.0), boxes=False)
    assert m.depth_m == pytest.approx(10.0 / 5.0, rel=1e-3)


def test_pixels_behind_infinity_are_unknown():
    disparity = np.full((40, 40), 5.0)
    disparity[:, 20:] = -1.0
    (m,) = measure(*make(disparity, np.ones((40, 40), np.uint16)), boxes=False)
    assert m.valid_fraction == pytest.approx(0.5, abs=0.05)
    assert m.depth_m == pytest.approx(2.0, rel=1e-2)


def test_no_instances_and_wrong_sizes():
    full, segmentation = make(np.full((8, 8), 5.0), np.zeros((8, 8), np.uint16))
    assert measure(full, segmentation) == ()
    with pytest.raises(ImageError, match="label map"):
        measure(full, Segmentation.from_labels(np.zeros((8, 9), np.uint16)))


def test_boxes_stand_on_the_ground_and_span_the_object():
    disparity = np.full((120, 160), 2.0)
    labels = np.zeros((120, 160), np.uint16)
    labels[40:80, 50:110] = 1
    disparity[40:80, 50:110] = 10.0  # 1 m away: 0.6 m wide, 0.4 m high, flat
    ground = GroundPlane(np.array([0.0, -1.0, 0.0]), 0.5, 0.01)
    (m,) = measure(*make(disparity, labels, ground=ground))
    assert m.box is not None
    assert sorted(m.box.size_m) == pytest.approx([0.0, 0.4, 0.6], abs=0.04)
    assert m.box.size_m[2] == pytest.approx(0.4, abs=0.04)  # the third axis is up
    assert m.box.center_m == pytest.approx([0.0, 0.0, 1.0], abs=0.02)
    assert np.linalg.norm(m.box.orientation_xyzw) == pytest.approx(1.0)
    (without,) = measure(*make(disparity, labels, ground=ground), boxes=False)
    assert without.box is None
