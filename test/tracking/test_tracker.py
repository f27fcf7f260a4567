"""The tracker on hand-made scenes: boxes at known places, their masks painted far to near, their measurements with known noise."""

import dataclasses

import numpy as np
import pytest

from semantic_stereo_ros.tracking.tracker import Config, Tracker
from semantic_stereo_ros.types import (
    Disparity,
    Instance,
    LabelLayer,
    Measurement,
    ObjectState,
    Segmentation,
    StereoFrame,
    StereoRig,
)

RIG = StereoRig((320, 240), 300.0, 300.0, 159.5, 119.5, 0.12)
IMAGE = np.zeros((240, 320), np.uint8)


@dataclasses.dataclass
class Board:
    """A board of 0.6 x 0.6 m facing the camera, its middle at position_m (camera frame)."""

    position_m: tuple[float, float, float]
    key: str | None = None
    masked: bool = True
    known: bool = True
    side_m: float = 0.6


def look(boards, step, *, pose=None, dt_s=0.1, rng=None, order=None):
    """Frame `step` of these boards: the arguments of Tracker.__call__."""
    depth = np.full(RIG.shape, 20.0)
    owner = np.zeros(RIG.shape, int)
    for n in sorted(range(len(boards)), key=lambda n: -boards[n].position_m[2]):
        x, y, z = boards[n].position_m
        half, (u, v) = 0.5 * boards[n].side_m * RIG.fx / z, (x / z * RIG.fx + RIG.cx, y / z * RIG.fy + RIG.cy)
        place = np.s_[max(round(v - half), 0) : max(round(v + half), 0), max(round(u - half), 0) : max(round(u + half), 0)]
        depth[place], owner[place] = z, n + 1
    labels, instances, measurements = np.zeros(RIG.shape, np.uint16), [], []
    for n in order if order is not None else range(len(boards)):
        rows, columns = np.nonzero(owner == n + 1)
        if rows.size < 20 or not boards[n].masked:
            continue
        label = len(instances) + 1
        labels[owner == n + 1] = label
        instances.append(Instance(label=label, source_key=boards[n].key))
        z = boards[n].position_m[2]
        position = np.array([(np.median(columns) - RIG.cx) / RIG.fx * z, (np.median(rows) - RIG.cy) / RIG.fy * z, z])
        sigma = np.array([0.005, 0.005, 0.02])
        if rng is not None:
            position = position + rng.normal(0, sigma)
        box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        measurement = Measurement(label, rows.size, 1.0, box, reason="too few known pixels")
        if boards[n].known:
            measurement = dataclasses.replace(
                measurement, reason="", depth_m=float(z), position_m=position, position_covariance_m2=np.diag(sigma**2)
            )
        measurements.append(measurement)
    disparity = (RIG.bf / depth).astype(np.float32)
    field = Disparity(disparity, np.full_like(disparity, 0.1), np.ones_like(disparity), RIG)
    frame = StereoFrame(IMAGE, IMAGE, RIG, stamp_ns=10**9 + round(step * dt_s * 1e9), pose_world_camera=pose)
    return frame, field, Segmentation((LabelLayer(labels),), tuple(instances)), tuple(measurements)


def pose_at(x_m=0.0, z_m=0.0):
    pose = np.eye(4)
    pose[[0, 2], 3] = x_m, z_m
    return pose


def by_depth(objects):
    return [o.object_id for o in sorted(objects, key=lambda o: o.position_m[2])]


def test_first_frame_reports_all_and_new_objects_are_confirmed():
    tracker = Tracker()
    two = [Board((-0.7, 0, 3)), Board((0.7, 0, 4))]
    assert [o.object_id for o in tracker(*look(two, 0))] == [1, 2]
    three = [*two, Board((0, 0.9, 5))]
    assert len(tracker(*look(three, 1))) == 2
    assert [o.object_id for o in tracker(*look(three, 2))] == [1, 2, 3]


@pytest.mark.parametrize("with_pose", [True, False])
def test_ids_follow_objects_whatever_their_labels(with_pose):
    rng = np.random.default_rng(0)
    tracker, expected = Tracker(), None
    for step in range(30):
        boards = [Board((-1.2 + 0.03 * step, 0, 3)), Board((1.2 - 0.03 * step, 0, 4.5)), Board((0.1, 0.8, 6.0))]
        order = rng.permutation(3)
        objects = tracker(*look(boards, step, pose=np.eye(4) if with_pose else None, rng=rng, order=order))
        ids = by_depth(objects)
        expected = expected or ids
        assert ids == expected and len(objects) == 3


def test_velocity_in_the_world_and_relative_to_the_camera():
    """A camera driving at 2 m/s along z past standing boards and one that moves at 0.8 m/s along x."""
    rng = np.random.default_rng(4)
    for with_pose in (True, False):
        tracker, objects = Tracker(), ()
        for step in range(25):
            z = -0.2 * step
            boards = [Board((-1.5, 0, 9 + z)), Board((1.5, 0.5, 10 + z)), Board((-1 + 0.08 * step, -0.6, 11 + z)), Board((0.6, 0.6, 8 + z))]
            objects = tracker(*look(boards, step, pose=pose_at(z_m=0.2 * step) if with_pose else None, rng=rng))
        assert [o.object_id for o in objects] == [1, 2, 3, 4]
        for o in objects:
            truth = np.array([0.8 if o.object_id == 3 else 0.0, 0.0, 0.0 if with_pose else -2.0])
            assert o.velocity_frame == ("world" if with_pose else "camera")
            assert np.all(np.abs(o.velocity_mps - truth) < 3 * np.sqrt(np.diag(o.velocity_covariance)))
            assert np.linalg.norm(o.velocity_mps - truth) < 0.6


@pytest.mark.parametrize("with_pose", [True, False])
def test_object_behind_another_is_occluded_and_comes_back(with_pose):
    rng = np.random.default_rng(7)
    tracker, states = Tracker(), []
    for step in range(50):
        boards = [Board((0, 0, 2), side_m=0.8), Board((-1.8 + 0.08 * step, 0, 4)), Board((1.2, 0.8, 6)), Board((-1.2, 0.9, 7))]
        objects = tracker(*look(boards, step, pose=np.eye(4) if with_pose else None, rng=rng))
        assert [o.object_id for o in objects] == [1, 2, 3, 4]
        states.append(objects[1].state)
        if objects[1].state == ObjectState.OCCLUDED:
            assert objects[1].measurement is None and objects[1].label is None
            off_m = abs(objects[1].position_m[0] - boards[1].position_m[0])
            # The middle of what is still seen lags as the board slides behind the other: half a width, and some speed.
            assert off_m < 1.2 and off_m < 3 * np.sqrt(objects[1].position_covariance_m2[0, 0])
    hidden = [i for i, s in enumerate(states) if s == ObjectState.OCCLUDED]
    assert len(hidden) > 5 and hidden == list(range(hidden[0], hidden[-1] + 1))
    assert set(states[: hidden[0]]) == set(states[hidden[-1] + 1 :]) == {ObjectState.VISIBLE}


def test_lost_object_grows_uncertain_and_is_dropped():
    tracker = Tracker(Config(lost_timeout_s=0.55))
    near, far = Board((-0.7, 0, 3)), Board((0.7, 0, 4))
    for step in range(-3, 5):
        objects = tracker(*look([near, far], step))
    far = dataclasses.replace(far, masked=False, position_m=(0.7, 0, 19.0))
    sigmas = []
    for step in range(5, 10):
        objects = tracker(*look([near, far], step))
        assert objects[1].state == ObjectState.LOST
        sigmas.append(objects[1].depth_sigma_m)
    assert sigmas == sorted(sigmas) and sigmas[-1] > 2 * sigmas[0]
    assert [o.object_id for o in tracker(*look([near, far], 10))] == [1]
    far = dataclasses.replace(far, masked=True, position_m=(0.7, 0, 4.0))
    tracker(*look([near, far], 11))
    assert [o.object_id for o in tracker(*look([near, far], 12))] == [1, 3], "an id is never used again"


def test_object_seen_briefly_is_not_waited_for_longer_than_it_was_seen():
    tracker, ids = Tracker(), []
    near, brief = Board((-0.7, 0, 3)), Board((0.7, 0, 4))
    for step in range(8):
        boards = [near, brief] if step in (1, 2) else [near]
        ids.append([o.object_id for o in tracker(*look(boards, step))])
    assert ids == [[1], [1], [1, 2], [1, 2], [1], [1], [1], [1]]


def test_predictions_behind_or_beside_the_view_are_gone():
    from semantic_stereo_ros.tracking.visibility import out_of_view

    places = np.array([(0, 0, 3), (0, 0, -1), (1.5, 0, 3), (2.5, 0, 3), (0, -4, 3), (np.nan, np.nan, np.nan)], float)
    assert out_of_view(places, RIG).tolist() == [False, True, False, True, True, False]


def test_unmeasured_object_keeps_its_id():
    tracker = Tracker()
    boards = [Board((-0.7, 0, 3)), Board((0.7, 0, 4))]
    tracker(*look(boards, 0))
    boards[1].known = False
    for step in (1, 2, 3):
        objects = tracker(*look(boards, step, order=(1, 0)))
        assert [(o.object_id, o.state) for o in objects] == [(1, ObjectState.VISIBLE), (2, ObjectState.UNMEASURED)]
        assert np.isnan(objects[1].depth_m) and np.isfinite(objects[1].position_m).all()


def test_object_that_was_never_measured_has_no_position_until_it_is():
    tracker = Tracker()
    board = Board((0, 0, 3), known=False)
    (first,) = tracker(*look([board], 0))
    assert first.state == ObjectState.UNMEASURED and np.isnan(first.position_m).all()
    board.known = True
    (second,) = tracker(*look([board], 1))
    assert second.object_id == 1 and second.state == ObjectState.VISIBLE and abs(second.position_m[2] - 3) < 0.1


def test_keys_are_honoured_and_survive_being_renamed():
    tracker = Tracker()
    tracker(*look([Board((-0.7, 0, 3), key="a"), Board((0.7, 0, 4), key="b")], 0))
    for step in range(1, 6):  # half a metre per frame: only the key can tell
        objects = tracker(*look([Board((-0.7 + 0.3 * (step % 2), 0, 3), key="a"), Board((0.7, 0, 4), key="b")], step))
        assert [o.object_id for o in objects] == [1, 2]
    objects = tracker(*look([Board((-0.4, 0, 3), key="new"), Board((0.7, 0, 4), key="b")], 6))
    assert [o.object_id for o in objects] == [1, 2]


def test_keys_that_swap_objects_have_broken():
    tracker = Tracker()
    for step in range(5):
        tracker(*look([Board((-1.2, 0, 3), key="a"), Board((1.2, 0, 6), key="b")], step, pose=np.eye(4)))
    objects = tracker(*look([Board((-1.2, 0, 3), key="b"), Board((1.2, 0, 6), key="a")], 5, pose=np.eye(4)))
    assert by_depth(objects) == [1, 2]


def test_pose_may_come_and_go():
    """The camera drives at 1 m/s; ids, and positions in the camera's frame, go through every change."""
    rng, tracker = np.random.default_rng(9), Tracker()
    for step in range(45):
        z = -0.1 * step
        boards = [Board((-1.5, 0, 9 + z)), Board((1.5, 0.5, 10 + z)), Board((-0.5, -0.6, 11 + z))]
        known = step // 15 != 1
        objects = tracker(*look(boards, step, pose=pose_at(5.0, 0.1 * step) if known else None, rng=rng))
        assert [o.object_id for o in objects] == [1, 2, 3]
        assert {o.velocity_frame for o in objects} == {"world" if known else "camera"}
        for o, board in zip(objects, boards):
            assert np.linalg.norm(o.position_m - board.position_m) < 0.15


def test_a_repeated_stamp_is_no_time_passed_and_a_reset_begins_anew():
    tracker = Tracker()
    boards = [Board((-0.7, 0, 3)), Board((0.7, 0, 4))]
    first = tracker(*look(boards, 10))
    again = tracker(*look(boards, 10))
    assert [o.object_id for o in again] == [1, 2] and again[0].first_seen_ns == first[0].first_seen_ns
    tracker.reset("a bag that loops")
    assert [(o.object_id, o.first_seen_ns) for o in tracker(*look(boards, 2))] == [(1, 10**9 + 2 * 10**8), (2, 10**9 + 2 * 10**8)]


def test_nothing_in_view_is_no_error():
    tracker = Tracker()
    assert tracker(*look([], 0)) == ()
    assert tracker(*look([Board((0, 0, 3))], 1)) == ()
    assert len(tracker(*look([Board((0, 0, 3))], 2))) == 1
    (lost,) = tracker(*look([], 3))
    assert lost.state == ObjectState.LOST


def test_predicted_box_turns_with_the_camera():
    """A quaternion turned by a rotation, against SciPy's."""
    from scipy.spatial.transform import Rotation

    from semantic_stereo_ros.tracking.track import turned

    for seed in range(20):
        first, then = (Rotation.from_rotvec(v) for v in np.random.default_rng(seed).normal(size=(2, 3)))
        found = Rotation.from_quat(turned(first.as_quat(), then.as_matrix()))
        assert (found.inv() * (then * first)).magnitude() < 1e-6
    np.testing.assert_allclose(turned(np.array([0.0, 0.6, 0.0, 0.8]), np.eye(3)), [0.0, 0.6, 0.0, 0.8])
