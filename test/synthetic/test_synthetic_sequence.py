"""Determinism, the sensor, and the promises of the presets."""

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.checks import CalibrationError, ConfigError
from semantic_stereo_ros.synthetic import demo_sequence, plane, random_sequence

SMALL = (160, 120)


def same(a, b):
    pairs = [(a.frame.left, b.frame.left), (a.frame.right, b.frame.right), (a.disparity_px, b.disparity_px), (a.occluded, b.occluded)]
    return all(np.array_equal(x, y) for x, y in pairs)


def test_a_frame_depends_on_seed_and_index_alone():
    forwards = random_sequence(11, frames=4, size_wh=SMALL)
    backwards = random_sequence(11, frames=9, size_wh=SMALL)
    rendered = [backwards[i] for i in (3, 1, 0)]
    np.random.default_rng(0).standard_normal(10)
    assert all(same(forwards[i], frame) for i, frame in zip((3, 1, 0), rendered))
    assert not same(forwards[0], forwards[1])
    assert not same(forwards[0], random_sequence(12, size_wh=SMALL)[0])


def test_a_sequence_has_length_stamps_and_an_end():
    sequence = random_sequence(2, frames=3, size_wh=(64, 48), fps=10.0)
    assert len(sequence) == 3
    assert [f.frame.stamp_ns - sequence[0].frame.stamp_ns for f in sequence] == [0, 100_000_000, 200_000_000]
    assert same(sequence[-1], sequence[2])
    with pytest.raises(IndexError):
        sequence[3]


@pytest.mark.parametrize("count", [1, 20])
def test_the_number_of_objects_is_the_asked_one_and_they_do_not_touch(count):
    sequence = random_sequence(8, frames=60, size_wh=(64, 48), objects=count)
    for index in (0, 20, 40):
        objects = sequence[index].objects
        assert [o.object_id for o in objects] == list(range(1, count + 1))
        pose = sequence.pose_world_camera(index)
        ground = np.array([(pose[:3, :3] @ o.center_m + pose[:3, 3])[:2] for o in objects])
        radius = np.array([0.5 * np.hypot(o.size_m[0], o.size_m[1]) for o in objects])
        gap = np.linalg.norm(ground[:, None] - ground[None], axis=2) - radius[:, None] - radius[None]
        assert (gap[~np.eye(count, dtype=bool)] > 0).all()


def test_ranges_are_those_of_a_room():
    depths = [o.depth_m for seed in range(8) for o in random_sequence(seed, size_wh=SMALL)[0].visible_objects]
    assert min(depths) > 1.0 and max(depths) < 11.0
    assert np.ptp(depths) > 5.0


def test_noise_gain_and_offset_are_as_asked():
    options = {"size_wh": (320, 240), "blur_px": 0.0, "color": False, "dtype": np.uint16}
    clean = random_sequence(4, noise_sigma=0.0, **options)[0].frame
    noisy = random_sequence(4, noise_sigma=3.0, right_gain=1.1, right_offset=-5.0, **options)[0].frame
    left_error = (noisy.left.astype(float) - clean.left) / 256.0
    assert left_error.std() == pytest.approx(3.0, rel=0.02)
    assert abs(left_error.mean()) < 0.05
    right_error = noisy.right.astype(float) / 256.0 - (1.1 * clean.right / 256.0 - 5.0)
    assert right_error.std() == pytest.approx(3.0, rel=0.02)
    assert abs(right_error.mean()) < 0.05
    assert abs(np.corrcoef(left_error.ravel(), right_error.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(("color", "dtype", "shape"), [(True, np.uint8, (120, 160, 3)), (False, np.uint16, (120, 160))])
def test_images_come_in_the_asked_form(color, dtype, shape):
    frame = random_sequence(4, size_wh=SMALL, color=color, dtype=dtype)[0].frame
    assert frame.left.shape == frame.right.shape == shape
    assert frame.left.dtype == frame.right.dtype == dtype


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_plain_matcher_finds_its_way(seed):
    """Scenes are realistic, not adversarial: OpenCV's block matcher answers most of what both cameras see, and is right there."""
    frame = random_sequence(seed, color=False)[0]
    matcher = cv2.StereoSGBM.create(0, 96, 5, 200, 800, 1, 63, 10, 100, 2, cv2.STEREO_SGBM_MODE_SGBM_3WAY)
    found = matcher.compute(frame.frame.left, frame.frame.right) / 16.0
    both = ~frame.occluded
    both[:, :96] = False
    answered = both & (found > 0)
    error = np.abs(found - frame.disparity_px)[answered]
    assert answered.sum() > 0.9 * both.sum()
    assert 0.05 < np.median(error) < 0.3
    assert (error > 2.0).mean() < 0.03


@pytest.mark.parametrize(("tilt_x", "tilt_y", "doffs_px", "depth_m"), [(0.0, 0.0, 0.0, 2.0), (0.3, -0.2, 0.0, 3.0), (0.0, 0.4, -7.5, 5.0)])
def test_the_plane_is_where_it_should_be(tilt_x, tilt_y, doffs_px, depth_m):
    frame = plane(depth_m, tilt_x=tilt_x, tilt_y=tilt_y, doffs_px=doffs_px)
    rig = frame.rig
    z = rig.bf / (frame.disparity_px.astype(np.float64) + doffs_px)
    x = z * (np.arange(rig.size_wh[0]) - rig.cx) / rig.fx
    y = z * (np.arange(rig.size_wh[1])[:, None] - rig.cy) / rig.fy
    np.testing.assert_allclose(z, depth_m + tilt_x * x + tilt_y * y, rtol=2e-6)
    columns = np.arange(rig.size_wh[0]) - frame.disparity_px
    np.testing.assert_array_equal(frame.occluded, (columns < -0.5) | (columns >= rig.size_wh[0] - 0.5))
    assert frame.frame.left.std() > 15
    assert frame.objects == ()


def test_a_plane_behind_the_camera_is_an_error():
    with pytest.raises(CalibrationError, match="depth"):
        plane(-1.0)


def test_in_the_demo_the_cart_vanishes_behind_the_crate_and_comes_out_again():
    sequence = demo_sequence(frames=90, size_wh=SMALL)
    names = {o.object_id: o.name for o in sequence[0].objects}
    cart = next(i for i, name in names.items() if name == "cart")
    seen = [next(o for o in sequence[i].objects if o.object_id == cart).pixels for i in range(0, 72, 6)]
    hidden = [i for i, pixels in enumerate(seen) if pixels == 0]
    assert hidden and seen[0] > 150
    assert hidden[0] > 0 and hidden[-1] < len(seen) - 1
    assert seen[-1] > 150
    first = sequence[0]
    assert sum(o.pixels > 40 for o in first.objects) >= 6
    assert [o.name for o in first.objects if o.moving] == ["cart"]
    assert len(sequence) == 90


@pytest.mark.parametrize(("options", "words"), [({"frames": 0}, "at least one frame"), ({"objects": 501}, "0 to 500 objects")])
def test_impossible_scenes_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        random_sequence(0, **options)


def test_a_room_without_objects_and_a_crowd_can_be_made():
    assert random_sequence(0, size_wh=(64, 48), objects=0)[0].objects == ()
    crowd = random_sequence(0, size_wh=SMALL, objects=100)[0]
    assert len(crowd.objects) == 100
    assert len(crowd.visible_objects) > 50
