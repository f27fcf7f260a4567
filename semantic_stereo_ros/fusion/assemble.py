"""Clouds of one frame: labeled and organised for people and mappers, obstacles and clearing points for planners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.geometry.depth import disparity_to_depth
from semantic_stereo_ros.geometry.ground import height_above
from semantic_stereo_ros.geometry.points import depth_to_points
from semantic_stereo_ros.options import option
from semantic_stereo_ros.types import (
    CLASS_STRUCTURE,
    Disparity,
    GroundPlane,
    HiddenSpace,
    LabeledCloud,
    SceneObject,
    Segmentation,
    StereoFrame,
)

CLASS_GROUND = 1


@dataclass(frozen=True)
class ObstacleConfig:
    """What counts as an obstacle."""

    obstacle_min_height_m: float = option(0.1, "lower points above the ground are no obstacles", unit="m", minimum=0.0, maximum=10.0)
    obstacle_max_height_m: float = option(2.5, "higher points above the ground are no obstacles", unit="m", minimum=0.0, maximum=100.0)


def labeled_cloud(
    frame: StereoFrame,
    disparity: Disparity,
    segmentation: Segmentation,
    objects: Sequence[SceneObject],
    *,
    stride: int = 1,
    z_far_m: float | None = None,
) -> LabeledCloud:
    """The organised cloud of every stride-th pixel; xyz is NaN where the disparity is unknown or Z is beyond z_far_m.

    class_id: as class_image. instance: the object_id of the tracked object that carries the pixel's label, 0 for none. Raises ImageError
    when the label map has another size than the disparity.
    """
    _check_stride(stride)
    labels = segmentation.labels[::stride, ::stride]
    if segmentation.labels.shape != disparity.disparity_px.shape:
        raise ImageError(f"the label map is {segmentation.labels.shape} but the disparity {disparity.disparity_px.shape} (rows, columns)")
    xyz = depth_to_points(_depth(disparity, z_far_m), disparity.rig, stride)
    id_of = np.zeros(int(labels.max(initial=0)) + 1, np.uint32)
    for item in objects:
        if item.label is not None and 0 < item.label < id_of.size:
            id_of[item.label] = item.object_id
    return LabeledCloud(
        xyz=xyz,
        rgb=np.ascontiguousarray(frame.as_rgb8()[::stride, ::stride]),
        class_id=class_image(disparity, segmentation, objects, stride=stride),
        instance=id_of[labels],
        confidence=np.ascontiguousarray(disparity.confidence[::stride, ::stride]),
        stride=stride,
    )


def class_image(disparity: Disparity, segmentation: Segmentation, objects: Sequence[SceneObject] = (), *, stride: int = 1) -> np.ndarray:
    """(ceil(H / stride), ceil(W / stride)) uint8 class ids of config/labels.yaml for every stride-th pixel.

    0 background, 1 ground (near segmentation.ground, no instance), 3 structure, else the class of the tracked object, or of the instance
    without one.
    """
    labels = segmentation.labels[::stride, ::stride]
    class_of = np.zeros(int(labels.max(initial=0)) + 1, np.uint8)
    for item in (*segmentation.object_instances, *objects):
        if item.label is not None and 0 < item.label < class_of.size:
            class_of[item.label] = item.class_id
    classes = class_of[labels]
    if segmentation.ground is not None:
        height = height_above(disparity, segmentation.ground, stride)
        on_ground = np.abs(height) <= _ground_tolerance_m(disparity, segmentation.ground, stride)
        classes[(labels == 0) & on_ground] = CLASS_GROUND
    if segmentation.structures is not None:
        classes[(labels == 0) & (segmentation.structures[::stride, ::stride] > 0)] = CLASS_STRUCTURE
    return classes


def obstacle_points(
    disparity: Disparity,
    segmentation: Segmentation,
    config: ObstacleConfig | None = None,
    *,
    stride: int = 2,
    voxel_m: float = 0.1,
    z_far_m: float | None = None,
    min_points: int = 4,
    hidden: HiddenSpace | None = None,
) -> np.ndarray | None:
    """(N, 3) float32 centres of mass of the occupied voxels above the ground, camera frame, in m.

    Points of no instance are obstacles too: unsegmented is not free. Without a ground plane only the points of instances and structures are
    known to be obstacles. A voxel needs min_points pixels, or as many as its distance lets it have. hidden: where something could stand
    unseen (free_space.hidden_space). (0, 3) when the view was measured, holds nothing and hides nothing; None when that cannot be told.
    """
    _check_stride(stride)
    if not disparity.can_tell():
        return None
    config = config or ObstacleConfig()
    depth = _depth(disparity, z_far_m)[::stride, ::stride]
    labels = segmentation.labels[::stride, ::stride]
    if segmentation.ground is None:
        if not segmentation.object_instances and segmentation.structures is None:
            return None
        keep = labels > 0
        if segmentation.structures is not None:
            keep = keep | (segmentation.structures[::stride, ::stride] > 0)
    else:
        height = height_above(disparity, segmentation.ground, stride)
        floor = np.maximum(_ground_tolerance_m(disparity, segmentation.ground, stride), np.float32(config.obstacle_min_height_m))
        keep = (height > floor) & (height < config.obstacle_max_height_m)
    points = depth_to_points(_depth(disparity, z_far_m), disparity.rig, stride)[keep & (depth > 0)]
    # a voxel at depth Z covers about (fx * voxel / Z / stride)^2 pixels
    expected = (disparity.rig.fx * voxel_m / np.maximum(points[:, 2], 1e-3) / stride) ** 2
    occupied = _voxel_reduce(points, voxel_m, np.minimum(min_points, np.maximum(0.25 * expected, 1.0)))
    return occupied if len(occupied) or hidden is None else None


def clearing_points(disparity: Disparity, *, stride: int = 8, z_far_m: float | None = None) -> np.ndarray | None:
    """(N, 3) float32 points of every stride-th known pixel, ground included, camera frame, in m: rays to them are free.

    None when too little of the view is known to tell.
    """
    _check_stride(stride)
    if not disparity.can_tell():
        return None
    points = depth_to_points(_depth(disparity, z_far_m), disparity.rig, stride).reshape(-1, 3)
    return points[points[:, 2] > 0]


def _depth(disparity: Disparity, z_far_m: float | None) -> np.ndarray:
    depth = disparity_to_depth(disparity.disparity_px, disparity.rig)
    if z_far_m is not None:
        with np.errstate(invalid="ignore"):
            depth[depth > z_far_m] = np.nan
    return depth


def _ground_tolerance_m(disparity: Disparity, ground: GroundPlane, stride: int) -> np.ndarray:
    """(h, w) float32: heights within this are ground. A disparity error moves the height by h_camera * sigma_d / d (see height_above)."""
    shifted = disparity.disparity_px[::stride, ::stride] + np.float32(disparity.rig.doffs_px)
    sigma = np.maximum(disparity.sigma_px[::stride, ::stride], np.float32(0.3))
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = np.float32(2.0 * abs(ground.offset_m)) * sigma / shifted
    return np.hypot(noise, np.float32(3.0 * ground.sigma_m))


def _voxel_reduce(points: np.ndarray, voxel_m: float, needed: np.ndarray) -> np.ndarray:
    """(M, 3) float32: voxel-grid filter, the mean of each voxel's points where their number reaches the mean of their `needed` (N,)."""
    if not len(points):
        return np.zeros((0, 3), np.float32)
    cell = np.floor(points / np.float32(voxel_m)).astype(np.int64)
    cell -= cell.min(axis=0)
    size = cell.max(axis=0) + 1
    key = (cell[:, 0] * size[1] + cell[:, 1]) * size[2] + cell[:, 2]
    _, inverse = np.unique(key, return_inverse=True)
    count = np.bincount(inverse)
    mean = np.stack([np.bincount(inverse, points[:, k]) / count for k in range(3)], axis=1)
    threshold = np.bincount(inverse, needed) / count
    return mean[count >= threshold].astype(np.float32)


def _check_stride(stride: int) -> None:
    if stride < 1:
        raise ImageError(f"the cloud's stride must be 1 or more, got {stride}")
