"""What one track remembers of its object: its class, its size, its box."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from semantic_stereo_ros.tracking.track import Track
from semantic_stereo_ros.types import Instance, Measurement, OrientedBox, StereoRig

RIG = StereoRig((320, 240), 300.0, 300.0, 159.5, 119.5, 0.12)


def track() -> Track:
    return Track(np.array([0.0, 0.0, 3.0, 0.0, 0.0, 0.0]), np.eye(6), first_seen_ns=0, last_seen_ns=0)


def measured(pixels: int, side_px: int) -> Measurement:
    return Measurement(1, pixels, 1.0, (0, 0, side_px, side_px), depth_m=3.0)


def note_classes(what: Track, name: str, frames: int, score: float = 0.9) -> None:
    for _ in range(frames):
        what.note_instance(Instance(1, class_id=len(name), class_name=name, score=score), measured(100, 10), 0)


def test_a_few_wrong_frames_do_not_rename_an_object_but_a_long_past_does_not_bind_it():
    kept = track()
    note_classes(kept, "car", 200)
    note_classes(kept, "truck", 3)
    assert kept.class_of == (3, "car")
    note_classes(kept, "truck", 12)
    assert kept.class_of == (5, "truck")


def test_a_sure_vote_counts_more_than_an_unsure_one():
    doubtful = track()
    note_classes(doubtful, "car", 2, score=0.2)
    note_classes(doubtful, "truck", 1, score=0.9)
    assert doubtful.class_of == (5, "truck")


def test_the_whole_size_is_remembered_for_a_while_and_then_the_part_is_the_whole():
    """A board of 90 x 90 px at 3 m (0.81 m^2), of which a quarter is seen from then on."""
    cut = track()
    cut.note_size(measured(8100, 90), RIG)
    assert cut.full_m2 == pytest.approx(0.81) and cut.extent_m == pytest.approx(0.9)
    cut.note_size(measured(2025, 45), RIG)
    assert cut.full_m2 > 0.75 and cut.extent_m > 0.85
    for _ in range(300):
        cut.note_size(measured(2025, 45), RIG)
    assert cut.full_m2 == pytest.approx(0.81 / 4) and cut.extent_m == pytest.approx(0.45)


def test_the_last_box_stands_still_in_the_world_while_the_camera_turns():
    """Seen from a camera that has turned by 90 degrees, centre and attitude are those of the same box in the world."""
    then, now = Rotation.from_euler("y", 10, degrees=True), Rotation.from_euler("y", 100, degrees=True)
    attitude, offset_m = Rotation.from_euler("xyz", (20, 30, 40), degrees=True), np.array([0.1, -0.2, 0.3])
    followed, measured_at_m = track(), np.array([0.0, 0.0, 3.0])
    followed.note_box(OrientedBox(measured_at_m + offset_m, np.array([1.0, 2.0, 3.0]), attitude.as_quat()), measured_at_m, then.as_matrix())
    position_m = np.array([-2.0, 0.0, 1.0])
    box = followed.predicted_box(position_m, now.as_matrix())
    assert box is not None
    in_world = now * Rotation.from_quat(box.orientation_xyzw)
    assert (in_world.inv() * (then * attitude)).magnitude() < 1e-9
    np.testing.assert_allclose(now.apply(box.center_m - position_m), then.apply(offset_m), atol=1e-12)
    np.testing.assert_array_equal(box.size_m, [1.0, 2.0, 3.0])
