"""The ground plane against the known pose of synthetic cameras, and scenes that have none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from semantic_stereo_ros.geometry import planes
from semantic_stereo_ros.geometry.ground import GroundConfig, estimate_ground, height_above
from semantic_stereo_ros.geometry.points import depth_to_points
from semantic_stereo_ros.synthetic import Body, CameraPath, SceneModel, SyntheticSequence, Texture, default_rig, random_sequence
from semantic_stereo_ros.types import Disparity, GroundPlane, StereoRig

RIG = default_rig((320, 240))


def as_disparity(disparity_px: np.ndarray, rig: StereoRig, noise_px: float = 0.2, seed: int = 0) -> Disparity:
    rng = np.random.default_rng(seed)
    noisy = (disparity_px + noise_px * rng.standard_normal(disparity_px.shape)).astype(np.float32)
    noisy[noisy + rig.doffs_px <= 0] = np.nan
    known = np.isfinite(noisy)
    return Disparity(noisy, np.where(known, np.float32(noise_px), np.float32(np.nan)), known.astype(np.float32), rig)


def true_ground(pose_world_camera: np.ndarray | None) -> GroundPlane:
    assert pose_world_camera is not None
    return GroundPlane(pose_world_camera[2, :3].copy(), float(pose_world_camera[2, 3]), 0.0)


def plane_only(normal: tuple[float, float, float], offset_m: float, rig: StereoRig = RIG, noise_px: float = 0.2) -> Disparity:
    unit = np.asarray(normal) / np.linalg.norm(normal)
    shifted = planes.plane_disparity(planes.coefficients_of_plane(GroundPlane(unit, offset_m, 0.0), rig), rig)
    return as_disparity(np.where(shifted > 0, shifted, np.nan) - np.float32(rig.doffs_px), rig, noise_px)


def assert_close(found: GroundPlane | None, truth: GroundPlane, degrees: float = 0.7, share: float = 0.03) -> None:
    assert found is not None
    assert np.degrees(np.arccos(np.clip(found.normal @ truth.normal, -1, 1))) < degrees
    assert found.offset_m == pytest.approx(truth.offset_m, rel=share)
    assert np.linalg.norm(found.normal) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(6))
def test_ground_of_cluttered_rooms_is_the_floor(seed):
    scene = random_sequence(seed, size_wh=(320, 240))[0]
    assert_close(estimate_ground(as_disparity(scene.disparity_px, scene.rig)), true_ground(scene.frame.pose_world_camera))


def test_doffs_do_not_move_the_ground():
    scene = random_sequence(3, size_wh=(320, 240), doffs_px=17.5)[0]
    assert_close(estimate_ground(as_disparity(scene.disparity_px, scene.rig)), true_ground(scene.frame.pose_world_camera))


def test_rolled_and_pitched_camera():
    assert_close(estimate_ground(plane_only((0.25, -0.9, -0.3), 0.8)), GroundPlane(np.array([0.25, -0.9, -0.3]) / np.sqrt(0.9625), 0.8, 0))


def test_the_floor_wins_against_a_table():
    texture = Texture((0.2, 0.2, 0.2), (0.8, 0.8, 0.8))
    table = np.eye(4)
    table[:3, 3] = (1.9, 0.0, 0.375)
    bodies = (Body("floor", "plane", (np.inf, np.inf, 0.0), texture), Body("table", "box", (1.0, 1.6, 0.75), texture, table, 1))
    scene = SyntheticSequence(SceneModel(bodies, CameraPath((0.0, 0.0, 1.4), pitch=0.4)), RIG)[0]
    assert np.mean(scene.instance_ids == 1) > 0.25
    assert_close(estimate_ground(as_disparity(scene.disparity_px, RIG)), true_ground(scene.frame.pose_world_camera))


@pytest.mark.parametrize(
    ("normal", "offset_m"),
    [((0.0, 0.0, -1.0), 2.0), ((0.4, 0.0, -1.0), 2.0), ((1.0, 0.0, -0.2), 1.5), ((0.0, 1.0, -0.2), 1.0)],
    ids=["wall ahead or floor straight below", "oblique wall", "side wall", "ceiling"],
)
def test_no_ground_where_nothing_faces_up(normal, offset_m):
    assert estimate_ground(plane_only(normal, offset_m)) is None


def test_limits_of_the_camera_attitude():
    steep = plane_only((0.0, -1.0, -1.2), 1.5)
    assert estimate_ground(steep, GroundConfig(max_pitch_deg=30.0)) is None
    assert_close(
        estimate_ground(steep, GroundConfig(max_pitch_deg=60.0)), GroundPlane(np.array([0, -1.0, -1.2]) / np.hypot(1, 1.2), 1.5, 0)
    )


def shifted_plane(pitch_deg: float, offset_m: float) -> np.ndarray:
    """(H, W) d + doffs of a plane that the camera looks down on at `pitch_deg`, `offset_m` below it; <= 0 beyond its horizon."""
    angle = np.radians(pitch_deg)
    ground = GroundPlane(np.array([0.0, -np.cos(angle), -np.sin(angle)]), offset_m, 0.0)
    return planes.plane_disparity(planes.coefficients_of_plane(ground, RIG), RIG)


def terrace(pitch_deg: float, offset_m: float, step_rows: int = 24) -> np.ndarray:
    """Upright things one above the other, whose fronts lie along a plane: books, boxes, seats."""
    return shifted_plane(pitch_deg, offset_m)[step_rows // 2 :: step_rows].repeat(step_rows, axis=0)[: RIG.shape[0]]


@pytest.mark.parametrize("pitch_deg", [30.0, 49.0])
def test_upright_things_one_above_the_other_are_no_ground(pitch_deg):
    assert estimate_ground(as_disparity(terrace(pitch_deg, 1.4), RIG, noise_px=0.1)) is None


def test_the_floor_before_a_terrace_is_found():
    """A sixth of the view is a floor at 7 degrees, the rest a terrace at 49."""
    floor = shifted_plane(7.0, 1.0)
    view = terrace(49.0, 1.4)
    view[200:] = floor[200:]
    found = estimate_ground(as_disparity(np.maximum(view, 1.0), RIG, noise_px=0.1))
    assert_close(found, GroundPlane(np.array([0.0, -np.cos(np.radians(7.0)), -np.sin(np.radians(7.0))]), 1.0, 0.0))


def test_a_small_floor_wins_against_a_large_terrace_that_is_hardly_more_tilted():
    floor, view = shifted_plane(7.0, 1.0), terrace(28.0, 1.5)
    view[204:] = floor[204:]
    found = estimate_ground(as_disparity(np.maximum(view, 1.0), RIG, noise_px=0.1))
    assert_close(found, GroundPlane(np.array([0.0, -np.cos(np.radians(7.0)), -np.sin(np.radians(7.0))]), 1.0, 0.0))


def test_scattered_matches_about_a_plane_are_no_ground():
    """Matches a pixel off either way that claim a tenth of that: what lies near the plane slopes anyhow."""
    scattered = as_disparity(shifted_plane(30.0, 1.0), RIG, noise_px=1.0)
    assert estimate_ground(dataclasses.replace(scattered, sigma_px=0.1 * scattered.sigma_px)) is None


def test_the_less_tilted_of_two_planes_is_the_ground():
    """A floor, and a larger smooth slope that rises from it at 42 degrees."""
    floor, slope = shifted_plane(3.0, 1.0), shifted_plane(45.0, 3.6)
    found = estimate_ground(as_disparity(np.maximum(floor, slope), RIG, noise_px=0.1))
    assert np.mean(slope > floor) > 0.6
    assert_close(found, GroundPlane(np.array([0.0, -np.cos(np.radians(3.0)), -np.sin(np.radians(3.0))]), 1.0, 0.0))


def test_no_ground_in_an_unknown_or_noisy_map():
    unknown = np.full(RIG.shape, np.nan, np.float32)
    assert estimate_ground(Disparity(unknown, unknown, np.zeros(RIG.shape, np.float32), RIG)) is None
    rng = np.random.default_rng(0)
    assert estimate_ground(as_disparity(rng.uniform(1, 60, RIG.shape), RIG)) is None


def test_the_fit_is_deterministic_and_a_wrong_prior_loses():
    scene = random_sequence(1, size_wh=(320, 240))[0]
    disparity = as_disparity(scene.disparity_px, scene.rig)
    first, second = estimate_ground(disparity), estimate_ground(disparity)
    assert first is not None and second is not None
    assert np.array_equal(first.normal, second.normal) and first.offset_m == second.offset_m
    wrong = GroundPlane(np.array([0.0, -1.0, 0.0]), 0.3, 0.01)
    assert_close(estimate_ground(disparity, prior=wrong), true_ground(scene.frame.pose_world_camera))


def test_sigma_is_the_spread_of_heights():
    quiet, loud = (estimate_ground(plane_only((0.0, -1.0, -0.2), 1.2, noise_px=noise)) for noise in (0.05, 0.4))
    assert quiet is not None and loud is not None
    assert quiet.sigma_m < loud.sigma_m
    assert 0.001 < loud.sigma_m < 0.1


def test_heights_of_pixels_are_those_of_their_points():
    rig = dataclasses.replace(RIG, doffs_px=9.0)
    scene = random_sequence(2, rig=rig)[0]
    ground = true_ground(scene.frame.pose_world_camera)
    disparity = as_disparity(scene.disparity_px, rig, noise_px=0.0)
    points = depth_to_points((rig.bf / (disparity.disparity_px + rig.doffs_px)).astype(np.float32), rig)
    np.testing.assert_allclose(height_above(disparity, ground), points @ ground.normal + ground.offset_m, atol=1e-3)
    lowest_rows = scene.instance_ids[-20:] == 0
    assert np.abs(height_above(disparity, ground)[-20:][lowest_rows]).max() < 2e-3
    assert height_above(disparity, ground, stride=3).shape == (80, 107)


def test_coefficients_and_planes_are_inverse():
    ground = GroundPlane(np.array([0.1, -0.95, -0.2]) / np.linalg.norm([0.1, -0.95, -0.2]), 1.3, 0.0)
    normal, offset = planes.plane_from_coefficients(planes.coefficients_of_plane(ground, RIG), RIG)
    np.testing.assert_allclose(normal, ground.normal, atol=1e-12)
    assert offset == pytest.approx(1.3)


def test_a_roll_beyond_the_limit_is_no_ground():
    rolled = plane_only((0.7, -0.7, 0.0), 1.5)
    assert estimate_ground(rolled) is None
    assert_close(estimate_ground(rolled, GroundConfig(max_roll_deg=60.0)), GroundPlane(np.array([1.0, -1.0, 0.0]) / np.sqrt(2), 1.5, 0))


def side_by_side(low: tuple[float, float], high: tuple[float, float], share: float, seed: int = 0) -> Disparity:
    """Level planes as (m below the camera, m along the view at which they end): `low` is seen in the right `share` of the columns."""
    columns = np.broadcast_to(np.arange(RIG.size_wh[0]), RIG.shape)
    result = np.full(RIG.shape, np.nan)
    for (height_m, end_m), here in ((low, columns >= (1 - share) * RIG.size_wh[0]), (high, columns < (1 - share) * RIG.size_wh[0])):
        d = planes.plane_disparity(planes.coefficients_of_plane(GroundPlane(np.array([0.0, -1.0, 0.0]), height_m, 0.0), RIG), RIG)
        shown = here & (d > RIG.bf / end_m)
        result[shown] = d[shown]
    return as_disparity(result - RIG.doffs_px, RIG, noise_px=0.1, seed=seed)


def test_a_smaller_floor_wins_against_a_larger_table():
    """A table top fills 60 % of the columns, the floor below it the rest."""
    found = estimate_ground(side_by_side((1.4, 12.0), (0.7, 12.0), share=0.4))
    assert_close(found, GroundPlane(np.array([0.0, -1.0, 0.0]), 1.4, 0.0))


def test_a_table_beside_an_abyss_is_no_ground():
    """Half of the view is a table top, and beside it a wall 6 m away goes down below it: whoever stood on that plane would fall."""
    table = side_by_side((0.7, 12.0), (0.7, 12.0), share=0.0).disparity_px
    abyss = table.copy()
    abyss[:, RIG.size_wh[0] // 2 :] = RIG.bf / 6.0 - RIG.doffs_px
    assert_close(estimate_ground(as_disparity(table, RIG, 0.1)), GroundPlane(np.array([0.0, -1.0, 0.0]), 0.7, 0.0))
    assert estimate_ground(as_disparity(abyss, RIG, 0.1)) is None


def test_a_prior_finds_the_little_floor_that_chance_misses():
    """A floor on the left edge only, beside it nothing but clutter above it."""
    floor = GroundPlane(np.array([0.0, -1.0, 0.0]), 1.3, 0.0)
    d = planes.plane_disparity(planes.coefficients_of_plane(floor, RIG), RIG)
    clutter = np.maximum(d, 0) + np.random.default_rng(0).uniform(2, 30, RIG.shape)
    view = as_disparity(np.where(np.arange(RIG.size_wh[0]) < 0.15 * RIG.size_wh[0], np.where(d > 0, d, np.nan), clutter), RIG)
    assert_close(estimate_ground(view, prior=floor), floor)
