"""What a planner is told of obstacles: boards at known places over a level floor, 1 m below the camera."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.fusion.assemble import ObstacleConfig, labeled_cloud, obstacle_points
from semantic_stereo_ros.types import (
    Disparity,
    GroundPlane,
    LabelLayer,
    ObjectState,
    SceneObject,
    Segmentation,
    StereoFrame,
    StereoRig,
)

RIG = StereoRig((160, 120), 150.0, 150.0, 79.5, 39.5, 0.2)
GROUND = GroundPlane(np.array([0.0, -1.0, 0.0]), 1.0, 0.005)
FLOOR_ROW = 42  # the first row that sees the floor, 60 m away
NO_MASKS = Segmentation((LabelLayer(np.zeros(RIG.shape, np.uint16)),), (), GROUND)
Board = tuple[slice, slice, float]


def floor_with(*boards: Board, noise_px: float = 0.0) -> Disparity:
    """Boards that face the camera: rows, columns and depth in m."""
    rows, _ = np.mgrid[: RIG.size_wh[1], : RIG.size_wh[0]]
    with np.errstate(divide="ignore"):
        values = np.where(rows > FLOOR_ROW, RIG.bf * (rows - RIG.cy) / RIG.fy, np.nan)
    for across, down, depth_m in boards:
        values[across, down] = RIG.bf / depth_m
    values = (values + noise_px * np.random.default_rng(0).standard_normal(values.shape)).astype(np.float32)
    sigma = np.where(np.isnan(values), np.nan, 0.1).astype(np.float32)
    return Disparity(values, sigma, np.isfinite(values).astype(np.float32), RIG)


def obstacles(*boards: Board, noise_px: float = 0.0, min_points: int = 4, **options) -> np.ndarray:
    points = obstacle_points(floor_with(*boards, noise_px=noise_px), NO_MASKS, ObstacleConfig(**options), stride=1, min_points=min_points)
    assert points is not None
    return points


def board(depth_m: float, low_m: float, high_m: float, columns: slice = slice(60, 100)) -> Board:
    """The pixels of a board from low_m to high_m above the floor."""
    top, bottom = (RIG.cy + RIG.fy * (1.0 - height) / depth_m for height in (high_m, low_m))
    return slice(int(np.ceil(top)), int(np.floor(bottom)) + 1), columns, depth_m


def test_what_hangs_above_the_robot_is_no_obstacle():
    sign = board(8.0, 2.6, 3.05)
    assert len(obstacles(sign)) == 0
    seen = obstacles(sign, obstacle_max_height_m=4.0)
    assert len(seen) > 10 and (1.0 - seen[:, 1] > 2.5).all()
    assert len(obstacles(board(8.0, 2.0, 2.4))) > 10


def test_what_is_low_enough_to_drive_over_is_no_obstacle():
    sill = board(2.0, 0.0, 0.065)
    assert len(obstacles(sill)) == 0
    assert len(obstacles(sill, obstacle_min_height_m=0.02)) > 3


def test_a_few_wrong_pixels_are_no_obstacle_where_an_object_would_have_many():
    assert len(obstacles((slice(60, 61), slice(80, 83), 2.0))) == 0
    assert len(obstacles((slice(60, 65), slice(80, 85), 2.0))) > 0
    assert len(obstacles((slice(60, 61), slice(80, 83), 2.0), min_points=1)) > 0


def test_a_far_object_needs_no_more_pixels_than_its_distance_lets_it_have():
    """At 20 m a pixel is 0.13 m wide: each voxel of 0.1 m holds one at most."""
    rows, columns, depth_m = board(20.0, 0.5, 1.0, slice(78, 82))
    points = obstacles((rows, columns, depth_m))
    assert len(points) == (rows.stop - rows.start) * 4
    np.testing.assert_allclose(points[:, 2], depth_m, rtol=1e-5)


def test_noise_of_the_far_floor_is_no_obstacle():
    """A tenth of a pixel moves the floor by 20 cm where it has half a pixel of disparity."""
    assert len(obstacles(noise_px=0.1)) == 0


def test_without_a_ground_only_instances_are_obstacles():
    rows, columns, depth_m = board(2.0, 0.2, 0.6)
    labels = np.zeros(RIG.shape, np.uint16)
    labels[rows, columns] = 1
    disparity = floor_with((rows, columns, depth_m))
    points = obstacle_points(disparity, Segmentation.from_labels(labels), stride=1)
    assert points is not None and len(points) > 10
    np.testing.assert_allclose(points[:, 2], depth_m, rtol=1e-5)
    assert obstacle_points(disparity, Segmentation.from_labels(np.zeros_like(labels))) is None


@pytest.mark.parametrize("stride", [1, 2])
def test_the_cloud_carries_the_ids_and_classes_of_tracked_objects(stride):
    rows, columns, depth_m = board(2.0, 0.2, 0.6)
    labels = np.zeros(RIG.shape, np.uint16)
    labels[rows, columns] = 1
    labels[:10, :10] = 2
    nan3, eye = np.full(3, np.nan), np.eye(3)
    tracked = SceneObject(300, ObjectState.VISIBLE, 9, "chair", 1.0, 1, None, nan3, eye, nan3, eye, "camera", 0, 0)
    hidden = SceneObject(301, ObjectState.OCCLUDED, 7, "table", 1.0, None, None, nan3, eye, nan3, eye, "camera", 0, 0)
    image = np.zeros(RIG.shape, np.uint8)
    disparity, segmentation = floor_with((rows, columns, depth_m)), Segmentation.from_labels(labels)
    cloud = labeled_cloud(StereoFrame(image, image, RIG), disparity, segmentation, (tracked, hidden), stride=stride)
    np.testing.assert_array_equal(cloud.instance, np.where(labels == 1, 300, 0)[::stride, ::stride])
    np.testing.assert_array_equal(cloud.class_id, np.select([labels == 1, labels == 2], [9, 2], 0)[::stride, ::stride])
