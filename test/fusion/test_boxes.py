"""Oriented boxes against bodies whose size, place and rotation are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.fusion import boxes
from semantic_stereo_ros.fusion.measure import measure
from semantic_stereo_ros.geometry.planes import coefficients_of_plane, plane_disparity
from semantic_stereo_ros.types import Disparity, GroundPlane, OrientedBox, Segmentation, StereoRig

SIZE_M = np.array([2.0, 1.0, 0.4])
SEEN_SHARE = 0.98  # of a uniform body's extent lies between its 1st and 99th percentile


def turned_by(quaternion_xyzw: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """q v q* of (..., 3) vectors, by the formula of Rodrigues: no library's convention decides here."""
    u, w = quaternion_xyzw[:3], quaternion_xyzw[3]
    across = np.cross(u, vectors)
    return vectors + 2.0 * (w * across + np.cross(u, across))


def axes_of(box: OrientedBox) -> np.ndarray:
    """(3, 3), columns are the published box's axes in the camera frame."""
    return turned_by(box.orientation_xyzw, np.eye(3)).T


def body(rotation: np.ndarray, center_m: np.ndarray, count: int = 20_000, seed: int = 0) -> np.ndarray:
    """(3, count) float32 points that fill a body of SIZE_M."""
    local = np.random.default_rng(seed).uniform(-0.5, 0.5, (count, 3)) * SIZE_M
    return (local @ rotation.T + center_m).T.astype(np.float32)


def fitted(*points: np.ndarray, ground: GroundPlane | None = None) -> list[OrientedBox]:
    stacked = np.stack(points, axis=1)
    return boxes.fit(stacked, np.ones(stacked.shape[1:], bool), ground)


ROTATION_VECTORS = ([0.3, 0.0, 0.0], [0.0, 0.7, 0.0], [0.0, 0.0, -0.5], [0.6, -0.9, 1.7], [2.1, 1.4, -0.3], [-1.0, 2.0, 2.0])


def test_free_boxes_have_the_axes_sizes_and_centres_of_the_bodies():
    rotations = [cv2.Rodrigues(np.array(vector))[0] for vector in ROTATION_VECTORS]
    centers = [np.array([0.3 * i, -0.2, 4.0 + i]) for i in range(len(rotations))]
    found = fitted(*(body(r, c, seed=i) for i, (r, c) in enumerate(zip(rotations, centers))))
    for box, rotation, center in zip(found, rotations, centers):
        along = axes_of(box).T @ rotation  # the largest side first, the smallest last; either direction of an axis will do
        assert np.abs(along) == pytest.approx(np.eye(3), abs=0.03)
        assert np.linalg.det(axes_of(box)) == pytest.approx(1.0)
        assert box.size_m == pytest.approx(SEEN_SHARE * SIZE_M, rel=0.03)
        assert box.center_m == pytest.approx(center, abs=0.02)


def test_the_points_lie_in_the_published_box():
    points = body(cv2.Rodrigues(np.array([0.6, -0.9, 1.7]))[0], np.array([1.0, 0.5, 6.0]))
    (box,) = fitted(points)
    local = (points.T - box.center_m) @ axes_of(box)
    inside = (np.abs(local) <= 0.51 * box.size_m).all(axis=1)
    assert inside.mean() > 0.93  # 0.98 of each of three axes


@pytest.mark.parametrize("yaw_deg", [-70.0, -20.0, 0.0, 35.0, 88.0])
def test_on_a_ground_boxes_stand_upright_and_head_where_the_body_does(yaw_deg):
    up = np.array([0.1, -0.9, -0.2]) / np.linalg.norm([0.1, -0.9, -0.2])
    ahead = np.cross([1.0, 0.0, 0.0], up) / np.linalg.norm(np.cross([1.0, 0.0, 0.0], up))
    level = np.stack([np.cross(up, ahead), ahead, up], axis=1)
    heading = cv2.Rodrigues(up * np.radians(yaw_deg))[0] @ level
    (box,) = fitted(body(heading, np.array([0.0, 0.5, 5.0])), ground=GroundPlane(up, 1.0, 0.01))
    assert axes_of(box)[:, 2] == pytest.approx(up, abs=1e-6)
    assert np.abs(axes_of(box).T @ heading) == pytest.approx(np.eye(3), abs=0.03)
    assert box.size_m == pytest.approx(SEEN_SHARE * SIZE_M, rel=0.03)


def test_only_kept_points_count():
    points = body(np.eye(3), np.array([0.0, 0.0, 5.0]), count=2000)
    kept = np.arange(2000) >= 100
    strays = points.copy()
    strays[:, ~kept] += np.float32(30.0)
    (box,) = boxes.fit(strays[:, None], kept[None], None)
    (alone,) = fitted(points[:, kept])
    assert box.center_m == pytest.approx(alone.center_m, abs=1e-5)
    assert box.size_m == pytest.approx(alone.size_m, abs=1e-5)


def test_a_single_point_and_a_vertical_line_have_boxes_too():
    up = np.array([0.0, -1.0, 0.0])
    point = np.tile(np.array([[0.2], [0.1], [3.0]], np.float32), 50)
    line = point + np.outer(up, np.linspace(-0.5, 0.5, 50)).astype(np.float32)
    single, upright = fitted(point, line, ground=GroundPlane(up, 1.0, 0.01))
    assert single.size_m == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert single.center_m == pytest.approx([0.2, 0.1, 3.0], abs=1e-6)
    assert upright.size_m == pytest.approx([0.0, 0.0, SEEN_SHARE], abs=1e-4)
    for box in (single, upright):
        assert axes_of(box)[:, 2] == pytest.approx(up)
        assert np.linalg.norm(box.orientation_xyzw) == pytest.approx(1.0)


@pytest.mark.parametrize("yaw_deg", [-30.0, 40.0])
def test_a_measured_panel_is_turned_as_it_stands(yaw_deg):
    """A wide panel, turned about the vertical by yaw_deg: its right side goes away from the camera for a positive one."""
    yaw = np.radians(yaw_deg)
    rig = StereoRig((160, 120), 200.0, 200.0, 79.5, 59.5, 0.2)
    along, normal = np.array([np.cos(yaw), 0.0, np.sin(yaw)]), np.array([np.sin(yaw), 0.0, -np.cos(yaw)])
    disparity = plane_disparity(coefficients_of_plane(GroundPlane(normal, 3.0 * float(np.cos(yaw)), 0.0), rig), rig)
    labels = np.zeros(rig.shape, np.uint16)
    labels[40:80, 30:130] = 1
    masks = Segmentation.from_labels(labels, GroundPlane(np.array([0.0, -1.0, 0.0]), 1.0, 0.01))
    (m,) = measure(Disparity(disparity, np.full_like(disparity, 0.05), np.ones_like(disparity), rig), masks)
    assert m.box is not None
    first, second, third = axes_of(m.box).T
    assert abs(first @ along) == pytest.approx(1.0, abs=1e-3)
    assert abs(second @ normal) == pytest.approx(1.0, abs=1e-3)
    assert third == pytest.approx([0.0, -1.0, 0.0], abs=1e-6)
