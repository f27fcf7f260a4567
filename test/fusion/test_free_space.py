"""Where something could stand unseen: holes of known size at known distances, and the published cases that said 'no objects'."""

import dataclasses

import numpy as np
import pytest

from semantic_stereo_ros.fusion.free_space import hidden_space
from semantic_stereo_ros.geometry import planes
from semantic_stereo_ros.io.sequences import open_pairs
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.types import Disparity, GroundPlane, SceneStatus, StereoRig

RIG = StereoRig((320, 240), 272.0, 272.0, 159.5, 119.5, 0.2)
GROUND = GroundPlane(np.array([0.0, -1.0, 0.0]), 1.0, 0.005)  # the camera 1 m above a level floor
FLOOR = planes.plane_disparity(planes.coefficients_of_plane(GROUND, RIG), RIG)
NAN = np.float32(np.nan)


def wall(depth_m: float, rig: StereoRig = RIG) -> np.ndarray:
    return np.full(rig.shape, rig.bf / depth_m - rig.doffs_px, np.float32)


def with_hole(disparity_px: np.ndarray, side: int, row: int = 150, column: int = 200) -> np.ndarray:
    holed = disparity_px.copy()
    holed[row - side // 2 : row - side // 2 + side, column - side // 2 : column - side // 2 + side] = NAN
    return holed


def hidden(disparity_px: np.ndarray, ground=None, size_m=0.3, range_m=10.0, rig=RIG, **fields):
    disparity_px = disparity_px.astype(np.float32)
    sigma = np.where(np.isnan(disparity_px), NAN, np.float32(0.1))
    disparity = Disparity(disparity_px, sigma, np.isfinite(disparity_px).astype(np.float32), rig, **fields)
    return hidden_space(disparity, ground, size_m, range_m)


def test_a_view_known_all_over_hides_nothing():
    assert hidden(wall(3.0)) is None
    assert hidden(np.maximum(FLOOR, wall(6.0)), GROUND) is None


@pytest.mark.parametrize("depth_m", [2.0, 4.0])
def test_a_hole_hides_an_object_as_large_as_it_is_at_the_distance_around_it(depth_m):
    side = 0.3 * RIG.fx / depth_m
    assert hidden(with_hole(wall(depth_m), round(1.15 * side))) is not None
    assert hidden(with_hole(wall(depth_m), round(0.75 * side))) is None
    assert hidden(with_hole(wall(depth_m), round(1.15 * side)), size_m=0.5) is None


def test_doffs_change_nothing():
    rig = dataclasses.replace(RIG, doffs_px=30.0)
    side = 0.3 * RIG.fx / 3.0
    assert hidden(with_hole(wall(3.0, rig), round(1.15 * side)), rig=rig) is not None
    assert hidden(with_hole(wall(3.0, rig), round(0.75 * side)), rig=rig) is None


def test_long_and_narrow_is_not_large():
    """A slit of any length, such as the unknown rim beside a step."""
    slit = wall(2.0)
    slit[:, 180:205] = NAN
    assert hidden(slit) is None


def test_an_object_stands_before_the_farther_neighbour():
    """The rim that one camera sees lies at the background: there the object is small."""
    step = wall(6.0)
    step[:, 220:] = RIG.bf / 1.5
    step[100:180, 195:220] = NAN  # 0.55 m at 6 m, 0.14 m at 1.5 m
    assert hidden(step) is not None


def test_what_is_smaller_than_anything_reported_hides_nothing():
    assert hidden(with_hole(wall(9.0), 9), size_m=0.05) is None
    assert hidden(with_hole(wall(9.0), 16), size_m=0.05) is not None


def test_only_the_way_ahead_must_be_known():
    holed = with_hole(wall(12.0), 60)
    assert hidden(holed) is None
    assert hidden(holed, range_m=15.0) is not None


def test_the_sky_is_not_in_the_way_and_the_floor_is():
    floor = np.where(RIG.bf / 40 < FLOOR, FLOOR, NAN)  # all above the horizon is unknown
    assert hidden(floor, GROUND) is None
    found = hidden(with_hole(floor, 60, 190, 60), GROUND)
    assert found is not None and found.place == "at the lower left"
    assert found.unknown_share == pytest.approx(np.isnan(with_hole(floor, 60, 190, 60)).mean(), abs=1e-6)


def test_what_hangs_above_the_band_of_obstacles_is_not_in_the_way():
    tall = np.maximum(FLOOR, wall(4.0))
    assert hidden(with_hole(tall, 24, 15), GROUND) is not None  # 2.5 m is at row 17
    assert hidden(with_hole(wall(8.0), 24, 30), GROUND) is None  # at 3.6 m
    assert hidden(with_hole(wall(8.0), 24, 80), GROUND) is not None  # at 2.2 m


def test_without_a_ground_the_upper_third_is_no_way():
    assert hidden(with_hole(wall(3.0), 40, 40)) is None
    assert hidden(with_hole(wall(3.0), 40, 200)) is not None


def test_a_view_without_any_neighbour_or_ground_is_as_far_as_the_way():
    assert hidden(np.full(RIG.shape, NAN)) is not None


def test_the_strip_that_the_right_camera_does_not_see_is_explained():
    strip = wall(1.5)
    strip[:, : round(RIG.bf / 1.5)] = NAN
    assert hidden(strip, size_m=0.1) is None
    strip[:, :80] = NAN
    assert hidden(strip, size_m=0.1) is not None


def test_matches_at_the_near_end_of_the_range_are_not_known():
    near = wall(3.0)
    near[120:180, 150:210] = 127.0
    assert hidden(near, max_px=160.0) is None
    assert hidden(near, max_px=128.0) is not None


def test_what_is_nearer_than_the_range_counts_where_a_hole_would_not():
    holed = with_hole(wall(1.0), 20)
    beyond = np.isnan(holed)
    assert hidden(holed) is None
    assert hidden(holed, beyond=np.zeros_like(beyond)) is None
    assert hidden(holed, beyond=beyond) is not None


def test_false_matches_neither_fill_a_hole_nor_bound_it():
    rng = np.random.default_rng(0)
    holed = with_hole(wall(4.0), 40)
    false = np.isnan(holed) & (rng.random(holed.shape) < 0.1)
    assert hidden(np.where(false, RIG.bf / 0.6, holed)) is not None


def test_matches_in_the_sky_bound_nothing():
    floor = np.where(RIG.bf / 40 < FLOOR, FLOOR, NAN)
    false = (np.random.default_rng(0).random(floor.shape) < 0.05) & (np.indices(floor.shape)[0] < 110)
    assert hidden(np.where(false, RIG.bf / 5.0, floor), GROUND) is None


def test_nothing_stands_below_the_floor():
    """A hole between two reflections in the floor, which look 9 m away: the floor is 3.4 m away there."""
    floor = np.maximum(FLOOR, wall(6.0))
    floor[190:212, 180:222] = RIG.bf / 9.0
    assert hidden(with_hole(floor, 18, 201, 201), GROUND) is None
    assert hidden(with_hole(floor, 30, 201, 201), GROUND) is not None


def test_the_sentence_says_how_much_and_where():
    text = str(hidden(with_hole(wall(3.0), 60, 120, 160)))
    assert text == f"{3600 / (320 * 240):.0%} of the view is unknown, enough in the middle to hide an object of 0.3 m"


@pytest.mark.parametrize("size_wh", [(5, 4), (33, 17), (161, 120)])
def test_any_size_of_image_has_an_answer(size_wh):
    rig = StereoRig(size_wh, 100.0, 100.0, size_wh[0] / 2, size_wh[1] / 2, 0.2)
    assert hidden(wall(3.0, rig), rig=rig) is None


@pytest.mark.parametrize("name", ["near_0m7", "whitebox_1m15", "right_2x_brighter"])
def test_what_cannot_be_matched_is_not_free(real_data, name):
    """A box near by, a white box before a white wall, a right image twice as bright: none is 'no objects'."""
    folder = real_data("../cases/unknown")
    ((frame, _),) = open_pairs(str(folder / f"{name}_left.png"), str(folder / f"{name}_right.png"), str(folder / "calib.txt"))
    scene = Pipeline()(frame)
    assert scene.status is not SceneStatus.NO_OBJECTS
    if name == "near_0m7":  # the searched range reaches it
        assert any(abs(o.distance_m / 0.7 - 1) < 0.05 for o in scene.objects)
    else:
        assert scene.hidden is not None and "of the view is unknown" in scene.reason
