"""The types refuse what cannot be right, and say what came and what was expected."""

import numpy as np
import pytest

from semantic_stereo_ros.checks import CalibrationError, ImageError
from semantic_stereo_ros.types import (
    Disparity,
    Measured,
    ObjectState,
    SceneObject,
    Segmentation,
    StereoFrame,
    StereoRig,
    as_rgb8,
)

RIG = StereoRig(size_wh=(8, 6), fx=10.0, fy=10.0, cx=3.5, cy=2.5, baseline_m=0.1, doffs_px=2.0)
GREY = np.zeros((6, 8), np.uint8)


@pytest.mark.parametrize("baseline", [0.0, -0.1])
def test_a_baseline_that_is_not_above_zero_is_refused(baseline):
    with pytest.raises(CalibrationError, match="baseline must be above zero"):
        StereoRig((8, 6), 10.0, 10.0, 3.5, 2.5, baseline)


@pytest.mark.parametrize("field", ["fx", "fy", "cx", "cy", "baseline_m", "doffs_px"])
def test_nan_in_any_field_is_refused(field):
    values = dict(size_wh=(8, 6), fx=10.0, fy=10.0, cx=3.5, cy=2.5, baseline_m=0.1, doffs_px=0.0)
    with pytest.raises(CalibrationError, match="finite"):
        StereoRig(**{**values, field: float("nan")})


def test_resizing_keeps_a_point_on_its_ray():
    """A pixel centre of a doubled image, mapped as cv2.resize does, sees along the same ray at the same depth."""
    double = RIG.resized((16, 12))
    u, v, disparity = 5.0, 1.0, 3.0
    u2, v2 = (u + 0.5) * 2 - 0.5, (v + 0.5) * 2 - 0.5
    assert (u2 - double.cx) / double.fx == pytest.approx((u - RIG.cx) / RIG.fx)
    assert (v2 - double.cy) / double.fy == pytest.approx((v - RIG.cy) / RIG.fy)
    assert double.bf / (2 * disparity + double.doffs_px) == pytest.approx(RIG.bf / (disparity + RIG.doffs_px))


def test_images_of_two_shapes_are_refused():
    with pytest.raises(ImageError, match=r"one shape, got \(6, 8\) and \(6, 7\)"):
        StereoFrame(GREY, GREY[:, :7], RIG)


def test_images_that_are_not_the_calibrations_size_are_refused():
    big = np.zeros((12, 16), np.uint8)
    with pytest.raises(ImageError, match="images are 16x12 but the calibration is for 8x6"):
        StereoFrame(big, big, RIG)


@pytest.mark.parametrize("bad", [GREY.astype(np.float32), np.zeros((6, 8, 4), np.uint8), np.zeros((0, 8), np.uint8)])
def test_float_four_channel_and_empty_images_are_refused(bad):
    with pytest.raises(ImageError):
        StereoFrame(bad, bad, RIG)


def test_sixteen_bit_is_toned_to_the_full_range_for_display_and_kept_in_the_frame():
    ramp = np.linspace(1000, 1200, 48).astype(np.uint16).reshape(6, 8)
    frame = StereoFrame(ramp, ramp, RIG)
    assert frame.left.dtype == np.uint16
    shown = as_rgb8(ramp)
    assert shown.shape == (6, 8, 3)
    assert shown.dtype == np.uint8
    assert shown.max() > 240
    assert shown.min() < 15


def test_validity_counts_doffs():
    """With doffs 2 a raw disparity of -1 still lies in front of the camera, and -2 at infinity."""
    values = np.full((6, 8), np.nan, np.float32)
    values[0, :3] = (-1.0, -2.0, -3.0)
    disparity = Disparity(values, values, np.zeros_like(values), RIG)
    assert disparity.valid[0, :4].tolist() == [True, False, False, False]


@pytest.mark.parametrize(("known", "enough"), [(0, False), (19, False), (20, True), (400, True)])
def test_a_view_can_tell_from_a_twentieth_of_its_pixels_on(known, enough):
    rig = StereoRig((20, 20), 30.0, 30.0, 9.5, 9.5, 0.1)
    values = np.full(400, np.nan, np.float32)
    values[:known] = 3.0
    disparity = Disparity(values.reshape(20, 20), values.reshape(20, 20), np.zeros((20, 20), np.float32), rig)
    assert disparity.known_fraction == known / 400
    assert disparity.can_tell() is enough


def test_given_instance_ids_are_renumbered_and_remembered():
    ids = np.array([[0, 0, 700], [40000, 40000, 700]], np.int32)
    segmentation = Segmentation.from_labels(ids)
    assert segmentation.labels.tolist() == [[0, 0, 1], [2, 2, 1]]
    assert [i.source_key for i in segmentation.object_instances] == ["id:700", "id:40000"]


def test_ids_without_background_keep_all_their_instances():
    segmentation = Segmentation.from_labels(np.array([[3, 5]], np.uint8))
    assert segmentation.labels.tolist() == [[1, 2]]
    assert len(segmentation.instances) == 2


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), np.array([[-1, 0]])])
def test_ids_that_are_no_ids_are_refused(bad):
    with pytest.raises(ImageError):
        Segmentation.from_labels(bad)


DEPTH = Measured(depth_m=np.ones((6, 8), np.float32))


def test_a_right_image_may_be_missing_only_beside_a_measurement_and_who_reads_it_hears_so():
    with pytest.raises(ImageError, match="needs a right image, or a disparity or depth"):
        StereoFrame(GREY, None, RIG)
    frame = StereoFrame(GREY, None, RIG, measured=DEPTH)
    with pytest.raises(ImageError, match="no right image"):
        _ = frame.right
    assert StereoFrame(GREY, GREY, RIG, measured=DEPTH).right is GREY


def test_a_measurement_of_another_size_or_kind_is_refused():
    with pytest.raises(ImageError, match="the depth is 4x3 but the left image 8x6"):
        StereoFrame(GREY, None, RIG, measured=Measured(depth_m=np.ones((3, 4), np.float32)))
    with pytest.raises(ImageError, match="either a disparity or a depth"):
        Measured()
    with pytest.raises(ImageError, match="either a disparity or a depth"):
        Measured(DEPTH.values, DEPTH.values)
    with pytest.raises(ImageError, match="float32"):
        Measured(disparity_px=np.ones((6, 8)))
    with pytest.raises(ImageError, match="confidence"):
        Measured(depth_m=DEPTH.values, confidence=np.ones((6, 7), np.float32))


def test_the_sigma_of_a_predicted_distance_is_the_one_along_the_ray():
    """An object 5 m away along (3, 0, 4): known to 1 cm across the ray and to 20 cm along it."""
    ray = np.array([0.6, 0.0, 0.8])
    covariance = 0.01**2 * np.eye(3) + (0.2**2 - 0.01**2) * np.outer(ray, ray)
    nothing, eye = np.zeros(3), np.eye(3)
    item = SceneObject(1, ObjectState.LOST, 2, "cup", 1.0, None, None, 5 * ray, covariance, nothing, eye, "camera", 0, 0)
    assert item.distance_m == pytest.approx(5.0) and item.distance_sigma_m == pytest.approx(0.2)
    assert item.depth_m == pytest.approx(4.0) and item.depth_sigma_m == pytest.approx(np.sqrt(covariance[2, 2]))
    assert np.isnan(item.nearest_m) and not item.measured
