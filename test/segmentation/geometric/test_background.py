"""Walls, faces, ramps and kerbs made of exact planes: what bounds the view is found, what stands in it is not."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.geometry import planes
from semantic_stereo_ros.segmentation.geometric import background
from semantic_stereo_ros.types import Disparity, GroundPlane, StereoRig

RIG = StereoRig((320, 240), 260.0, 260.0, 159.5, 119.5, 0.12)
FLOOR = GroundPlane(np.array([0.0, -1.0, 0.0]), 1.2, 0.01)
BACK = GroundPlane(np.array([0.0, 0.0, -1.0]), 5.0, 0.0)
SIDE = GroundPlane(np.array([-1.0, 0.0, 0.0]), 2.0, 0.0)
ALLOWED = np.full(RIG.shape, 1.0, np.float32)


def shown(plane: GroundPlane) -> np.ndarray:
    """(H, W) float32 disparity of a plane that fills the view, 0 beyond its horizon."""
    return np.maximum(planes.plane_disparity(planes.coefficients_of_plane(plane, RIG), RIG), 0)


def room(*surfaces: GroundPlane) -> np.ndarray:
    """(H, W) disparity: of convex surroundings the nearest plane is seen."""
    return np.max([shown(plane) for plane in surfaces], axis=0)


def found(d: np.ndarray, ground: GroundPlane | None, noise_px: float = 0.15) -> list[np.ndarray]:
    """The background planes of a disparity map, as (H, W) disparities."""
    noisy = (d + np.random.default_rng(0).normal(0, noise_px, d.shape)).astype(np.float32)
    known = d > 0
    noisy[~known] = np.nan
    sigma = np.where(known, np.float32(noise_px), np.float32(np.nan))
    disparity = Disparity(noisy, sigma, known.astype(np.float32), RIG)
    return [planes.plane_disparity(abc, RIG) for abc in background.background_planes(planes.sample_grid(disparity), RIG, ground)]


def covers(plane_px: np.ndarray, truth: np.ndarray, where: np.ndarray) -> bool:
    return bool(np.abs(plane_px - truth)[where].max() < 0.3)


def test_the_walls_of_a_room_are_found_and_the_floor_is_not():
    d = room(FLOOR, BACK, SIDE)
    seen = [(shown(wall), d == shown(wall)) for wall in (BACK, SIDE)]
    result = found(d, FLOOR)
    assert len(result) == 2
    for truth, where in seen:
        assert sum(covers(plane, truth, where) for plane in result) == 1


def test_a_turned_wall_is_upright_and_a_ramp_is_not():
    turned = GroundPlane(np.array([-0.5, 0.0, -np.sqrt(0.75)]), 4.0, 0.0)
    d = room(FLOOR, turned)
    (wall,) = found(d, FLOOR)
    assert covers(wall, shown(turned), d == shown(turned))
    ramp = GroundPlane(np.array([0.0, -1.0, -1.0]) / np.sqrt(2.0), 3.0, 0.0)
    assert found(room(FLOOR, ramp), FLOOR) == []


def test_the_face_of_a_box_is_no_wall_as_the_scene_goes_on_behind_it():
    d = room(FLOOR, BACK)
    face = np.s_[70:170, 60:250]
    d[face] = RIG.bf / 2.5
    (wall,) = found(d, FLOOR)
    assert covers(wall, shown(BACK), d == shown(BACK))


def test_without_a_ground_a_floor_seen_from_above_bounds_the_view():
    floor = GroundPlane(np.array([0.05, -0.1, -1.0]) / np.linalg.norm([0.05, -0.1, -1.0]), 2.0, 0.0)
    d = shown(floor)
    d[90:140, 100:150] = RIG.bf / 1.6  # something on it
    (plane,) = found(d, None)
    assert covers(plane, shown(floor), np.ones(RIG.shape, bool))


def test_nothing_bounds_a_view_of_scattered_things():
    rng = np.random.default_rng(4)
    d = np.kron(rng.uniform(5.0, 60.0, (24, 32)), np.ones((10, 10)))
    assert found(d, FLOOR) == []


@pytest.mark.parametrize(("beside_px", "expected"), [(6.0, True), (20.0, False)])
def test_a_face_stands_out_where_what_is_beside_it_lies_behind(beside_px, expected):
    mask = np.zeros(RIG.shape, bool)
    mask[60:180, 80:240] = True
    d = np.where(mask, 12.0, beside_px).astype(np.float32)
    assert background.stands_out(mask, d, ALLOWED) is expected


def low_scene(height_m: float, width_px: int, upright: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(d, height, (H, W) bool the low thing) on FLOOR: a horizontal surface at height_m, or an upright board, from column 40 on."""
    top = GroundPlane(FLOOR.normal, FLOOR.offset_m - height_m, 0.0)
    on_ground = shown(FLOOR)
    thing = np.zeros(RIG.shape, bool)
    thing[150:220, 40 : 40 + width_px] = True
    d = np.where(thing, RIG.bf / 2.5 if upright else shown(top), on_ground).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        height = np.where(d > 0, FLOOR.offset_m * (1 - on_ground / d), np.inf).astype(np.float32)
    return d, height, thing


@pytest.mark.parametrize(("width_px", "upright", "expected"), [(240, False, True), (30, False, False), (240, True, False)])
def test_terrain_is_low_wide_and_faces_up(width_px, upright, expected):
    """A lawn 2 m wide is terrain; a parcel 0.3 m wide and an upright board are not."""
    d, height, thing = low_scene(0.15, width_px, upright)
    near_ground = (np.abs(height) < 0.5) & thing
    share = background.terrain(d, height, near_ground, FLOOR, RIG, 1)[155:215, 45 : 35 + width_px].mean()
    assert share > 0.95 if expected else share == 0.0


def test_the_terrain_of_a_map_of_few_rows_is_empty():
    few = np.ones((6, 20), np.float32)
    assert not background.terrain(few, 0 * few, few > 0, FLOOR, RIG, 1).any()
