"""Clouds against a floor and a box whose geometry is known, and their records."""

import numpy as np
import pytest

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.fusion.assemble import ObstacleConfig, class_image, clearing_points, labeled_cloud, obstacle_points
from semantic_stereo_ros.fusion.packing import CLOUD_DTYPE, pack_cloud
from semantic_stereo_ros.types import (
    CLASS_STRUCTURE,
    LEVEL_STRUCTURE,
    Disparity,
    GroundPlane,
    HiddenSpace,
    LabelLayer,
    Segmentation,
    StereoFrame,
    StereoRig,
)

RIG = StereoRig((160, 120), 150.0, 150.0, 79.5, 39.5, 0.2)
GROUND = GroundPlane(np.array([0.0, -1.0, 0.0]), 1.0, 0.005)  # the camera 1 m above a level floor


def floor_and_plate(label=True):
    """A plate 0.4 m wide, 2 m away, up to 0.7 m high, before an empty distance."""
    v, _ = np.mgrid[:120, :160]
    with np.errstate(divide="ignore"):
        disparity = np.where(v > 42, RIG.bf * (v - RIG.cy) / RIG.fy, np.nan).astype(np.float32)
    plate = np.zeros((120, 160), bool)
    plate[62:114, 65:95] = True
    disparity[plate] = RIG.bf / 2.0
    sigma = np.where(np.isnan(disparity), np.nan, 0.1).astype(np.float32)
    full = Disparity(disparity, sigma, np.isfinite(disparity).astype(np.float32), RIG)
    return full, Segmentation.from_labels((plate & label).astype(np.uint16), GROUND), plate


def frame():
    image = np.zeros((120, 160, 3), np.uint8)
    image[...] = (10, 20, 30)
    return StereoFrame(image, image, RIG)


@pytest.mark.parametrize("stride", [1, 3])
def test_the_cloud_carries_class_and_geometry(stride):
    disparity, segmentation, plate = floor_and_plate()
    cloud = labeled_cloud(frame(), disparity, segmentation, (), stride=stride)
    inside = plate[::stride, ::stride]
    assert cloud.xyz.shape == (*inside.shape, 3)
    assert np.allclose(cloud.xyz[inside][:, 2], 2.0, rtol=1e-5)
    assert (cloud.class_id[inside] == 2).all()
    ground = np.isfinite(cloud.xyz[..., 2]) & ~inside
    assert (cloud.class_id[ground] == 1).all()
    assert (cloud.class_id[~np.isfinite(cloud.xyz[..., 2])] == 0).all()
    assert not cloud.instance.any()  # nothing is tracked


def test_z_far_cuts_the_cloud():
    disparity, segmentation, _ = floor_and_plate()
    cloud = labeled_cloud(frame(), disparity, segmentation, (), z_far_m=3.0)
    assert np.nanmax(cloud.xyz[..., 2]) <= 3.0


def test_obstacles_need_no_instance_and_leave_the_floor_out():
    for label in (True, False):
        disparity, segmentation, _ = floor_and_plate(label)
        points = obstacle_points(disparity, segmentation)
        assert points is not None and points.dtype == np.float32 and len(points) > 10
        assert np.allclose(points[:, 2], 2.0, atol=0.01)
        assert (1.0 - points[:, 1]).min() > 0.05


def test_only_heights_between_the_limits_are_obstacles():
    disparity, segmentation, _ = floor_and_plate()
    points = obstacle_points(disparity, segmentation, ObstacleConfig(obstacle_min_height_m=0.3, obstacle_max_height_m=0.6), voxel_m=0.02)
    assert points is not None and len(points) > 10
    heights = 1.0 - points[:, 1]
    assert 0.3 <= heights.min() < 0.4 and 0.5 < heights.max() <= 0.6


def test_an_empty_floor_has_no_obstacles_and_an_unknown_view_cannot_tell():
    disparity, segmentation, plate = floor_and_plate(label=False)
    empty = disparity.disparity_px.copy()
    empty[plate] = np.nan
    floor_only = Disparity(empty, np.where(np.isnan(empty), np.nan, 0.1).astype(np.float32), np.zeros_like(empty), RIG)
    points = obstacle_points(floor_only, segmentation)
    assert points is not None and points.shape == (0, 3)
    nothing = np.full_like(empty, np.nan)
    unknown = Disparity(nothing, nothing, np.zeros_like(nothing), RIG)
    assert obstacle_points(unknown, segmentation) is None
    assert clearing_points(unknown) is None


def test_an_empty_cloud_is_withheld_where_something_could_stand_unseen():
    disparity, segmentation, plate = floor_and_plate(label=False)
    hidden = HiddenSpace(0.3, "in the middle", 0.3)
    seen = obstacle_points(disparity, segmentation, hidden=hidden)
    assert seen is not None and len(seen) > 10  # what is seen is an obstacle all the same
    none_known = np.where(plate, np.float32(np.nan), disparity.disparity_px)
    without = Disparity(none_known, np.where(np.isnan(none_known), np.nan, 0.1).astype(np.float32), np.zeros_like(none_known), RIG)
    assert obstacle_points(without, segmentation) is not None
    assert obstacle_points(without, segmentation, hidden=hidden) is None


def test_structures_are_obstacles_and_have_their_class_with_and_without_a_ground():
    disparity, segmentation, plate = floor_and_plate(label=False)
    large = LabelLayer(plate.astype(np.uint16), LEVEL_STRUCTURE)
    for ground in (GROUND, None):
        masks = Segmentation((segmentation.layers[0], large), (), ground)
        points = obstacle_points(disparity, masks)
        assert points is not None and len(points) > 10
        assert np.allclose(points[:, 2], 2.0, atol=0.01)
        assert (class_image(disparity, masks)[plate] == CLASS_STRUCTURE).all()
        assert not (class_image(disparity, masks)[~plate] == CLASS_STRUCTURE).any()


def test_clearing_keeps_the_floor():
    disparity, _, _ = floor_and_plate()
    points = clearing_points(disparity, stride=4)
    assert points is not None and np.isfinite(points).all()
    assert (np.abs(points[:, 1] - 1.0) < 1e-3).sum() > 50


def test_records_hold_what_the_cloud_holds():
    disparity, segmentation, _ = floor_and_plate()
    cloud = labeled_cloud(frame(), disparity, segmentation, ())
    records = pack_cloud(cloud)
    assert records.dtype == CLOUD_DTYPE and CLOUD_DTYPE.itemsize == 28
    for axis, name in enumerate("xyz"):
        np.testing.assert_array_equal(records[name], cloud.xyz[..., axis])
    assert (records["rgb"].copy().view(np.uint32) == (10 << 16 | 20 << 8 | 30)).all()
    np.testing.assert_array_equal(records["label"], cloud.class_id)
    np.testing.assert_array_equal(records["confidence"], cloud.confidence)
    reused = np.zeros_like(records)
    assert pack_cloud(cloud, reused) is reused
    assert reused.tobytes() == records.tobytes()
    with pytest.raises(ImageError, match="buffer"):
        pack_cloud(cloud, records[:-1])
