"""The whole algorithm on exact scenes: the right distances, an honest status, and a clean start after a break in the stream."""

import dataclasses

import numpy as np
import pytest

from semantic_stereo_ros.backend_stage import check_backends
from semantic_stereo_ros.checks import ConfigError, ImageError, InputFileError
from semantic_stereo_ros.config import from_flat
from semantic_stereo_ros.metrics import match_instances
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.synthetic import plane, random_sequence
from semantic_stereo_ros.types import ObjectState, SceneStatus, Segmentation


@pytest.fixture(scope="module")
def sequence():
    return random_sequence(21, frames=4)


@pytest.fixture(scope="module")
def scene(sequence):
    return Pipeline()(sequence[0].frame)


def test_objects_have_the_distances_of_the_truth(sequence, scene):
    truth = {o.object_id: o for o in sequence[0].objects}
    by_label = {o.label: o for o in scene.objects}
    errors = []
    for match in match_instances(scene.segmentation.labels, sequence[0].instance_ids):
        if match.label and truth[match.truth_id].pixels > 400:
            errors.append(by_label[match.label].distance_m / truth[match.truth_id].distance_m - 1)
    assert len(errors) >= 5
    assert np.median(np.abs(errors)) < 0.02
    assert np.max(np.abs(errors)) < 0.1


def test_the_scene_says_ok_and_times_every_stage(scene):
    assert scene.status is SceneStatus.OK
    assert set(scene.timings_s) == {"stereo", "segmentation", "fusion", "tracking"}


def test_given_masks_replace_the_segmentation(sequence):
    given = Segmentation.from_labels(sequence[0].instance_ids)
    scene = Pipeline()(sequence[0].frame, given)
    assert scene.segmentation is given
    assert len(scene.objects) == len(given.object_instances)
    with pytest.raises(ImageError, match="the masks are"):
        Pipeline()(sequence[0].frame, Segmentation.from_labels(sequence[0].instance_ids[:-1]))


def test_an_empty_view_is_an_answer_and_a_dark_one_is_not():
    """A bare wall holds no objects; a black image cannot be measured."""
    wall = plane(3.0).frame
    seen = Pipeline()(wall)
    assert (seen.status, seen.objects) == (SceneStatus.NO_OBJECTS, ())
    black = np.zeros_like(wall.left)
    dark = Pipeline()(dataclasses.replace(wall, left=black, right_image=black))
    assert dark.status is SceneStatus.CANNOT_TELL
    assert "known disparity" in dark.reason


def test_ids_go_on_between_frames_and_start_again_when_the_stamp_jumps_back(sequence):
    pipeline = Pipeline()
    first = {o.object_id for o in pipeline(sequence[0].frame).objects}
    for index in (1, 2, 3):
        scene = pipeline(sequence[index].frame)
    kept = {o.object_id for o in scene.objects if o.state is ObjectState.VISIBLE}
    assert len(first & kept) >= 0.6 * len(first)
    again = pipeline(sequence[0].frame)  # a bag that loops
    assert {o.object_id for o in again.objects} == first
    assert all(o.first_seen_ns == sequence[0].frame.stamp_ns for o in again.objects)


def test_another_calibration_starts_afresh(sequence):
    pipeline = Pipeline()
    pipeline(sequence[0].frame)
    frame = sequence[1].frame
    wider = dataclasses.replace(frame, rig=dataclasses.replace(frame.rig, baseline_m=2 * frame.rig.baseline_m))
    assert all(o.first_seen_ns == frame.stamp_ns for o in pipeline(wider).objects)


def test_options_change_between_frames_and_ids_survive(sequence):
    pipeline = Pipeline()
    before = {o.object_id for o in pipeline(sequence[0].frame).objects}
    pipeline.reconfigure(from_flat({"stereo.sgbm.num_disparities": 96, "fusion.erode_px": 1}))
    scene = pipeline(sequence[1].frame)
    assert scene.disparity.max_px - scene.disparity.min_px < 100
    assert before & {o.object_id for o in scene.objects}


# Between masks ----------------------------------------------------------------------------------------------------------------


def test_between_masks_geometry_goes_on_and_objects_are_predicted(sequence):
    """Every second frame has masks; what they say is not changed by the frames between."""
    every, second = Pipeline(), Pipeline(from_flat({"segmentation.every_n": 2}))
    every(sequence[0].frame)
    first, between = second(sequence[0].frame), second(sequence[1].frame)
    assert {o.object_id for o in between.objects} == {o.object_id for o in first.objects}
    assert all(o.state is ObjectState.PREDICTED and not o.measured and o.label is None for o in between.objects)
    assert not between.segmentation.labels.any() and between.segmentation.ground is first.segmentation.ground
    np.testing.assert_array_equal(between.disparity.disparity_px, every(sequence[1].frame).disparity.disparity_px)
    for before, after in zip(first.objects, between.objects):
        assert np.trace(after.position_covariance_m2) > np.trace(before.position_covariance_m2)
    skipping, alone = Pipeline(from_flat({"segmentation.every_n": 2})), Pipeline()
    with_between = [skipping(sequence[i].frame) for i in (0, 1, 2)][2]
    without = [alone(sequence[i].frame) for i in (0, 2)][1]
    assert [o.state for o in with_between.objects] == [o.state for o in without.objects]
    for one, other in zip(with_between.objects, without.objects):
        np.testing.assert_array_equal(one.position_m, other.position_m)
        np.testing.assert_array_equal(one.position_covariance_m2, other.position_covariance_m2)


def test_predictions_follow_the_pose():
    """A standing object, a camera that drives 0.5 m ahead: between masks the object is 0.5 m nearer."""
    sequence = random_sequence(21, frames=1)
    frame = dataclasses.replace(sequence[0].frame, pose_world_camera=np.eye(4))
    pipeline = Pipeline(from_flat({"segmentation.every_n": 2}))
    seen = pipeline(frame).objects
    ahead = np.eye(4)
    ahead[2, 3] = 0.5
    moved = pipeline(dataclasses.replace(frame, stamp_ns=frame.stamp_ns + 100_000_000, pose_world_camera=ahead)).objects
    assert len(moved) == len(seen) > 3
    for before, after in zip(seen, moved):
        np.testing.assert_allclose(after.position_m, before.position_m - [0, 0, 0.5], atol=1e-9)


def test_masks_come_at_their_rate_by_the_stamps(sequence):
    pipeline = Pipeline(from_flat({"segmentation.max_rate_hz": 1.0}))
    frame = sequence[0].frame
    states = [{o.state for o in pipeline(dataclasses.replace(frame, stamp_ns=frame.stamp_ns + i * 250_000_000)).objects} for i in range(5)]
    assert [ObjectState.PREDICTED in found for found in states] == [False, True, True, True, False]


def test_masks_rarer_than_the_trackers_patience_are_refused():
    with pytest.raises(ConfigError, match=r"segmentation\.max_rate_hz = 0\.1 Hz leaves 10 s between masks"):
        from_flat({"segmentation.max_rate_hz": 0.1})


# Exchange of backends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("switch", "order"), [("load_first", ["load b", "close a"]), ("free_first", ["close a", "load b"])])
def test_switch_says_what_is_freed_when(staged, sequence, switch, order):
    pipeline = Pipeline(from_flat({"stereo.backend": "staged", "stereo.staged.name": "a"}))
    pipeline(sequence[0].frame)
    staged.clear()
    pipeline.reconfigure(from_flat({"stereo.backend": "staged", "stereo.staged.name": "b", "stereo.switch": switch}))
    assert staged == order
    pipeline.close()
    assert staged[-1] == "close b"


@pytest.mark.parametrize(
    ("switch", "order"), [("load_first", ["load bad", "close bad"]), ("free_first", ["close a", "load bad", "close bad", "load a"])]
)
def test_old_backend_is_in_use_when_the_new_one_cannot_be_loaded(staged, sequence, switch, order):
    pipeline = Pipeline(from_flat({"stereo.backend": "staged", "stereo.staged.name": "a"}))
    before = pipeline(sequence[0].frame)
    staged.clear()
    bad = from_flat({"stereo.backend": "staged", "stereo.staged.name": "bad", "stereo.switch": switch, "stereo.staged.fails": True})
    with pytest.raises(InputFileError, match="weights of bad"):
        pipeline.reconfigure(bad)
    assert staged == order and pipeline.config.stereo_backend.name == "a"
    assert {o.object_id for o in pipeline(sequence[1].frame).objects} & {o.object_id for o in before.objects}


def test_stages_taken_already_go_back_when_a_later_one_cannot_be_loaded(staged, sequence, monkeypatch):
    """free_first: stereo has changed already when the new segmentation fails; the old pair is in use again."""
    from semantic_stereo_ros.segmentation.backends import geometric

    load = geometric.Backend.load

    def fails_for_large_gaps(self):
        if self._config.min_gap_m == 0.5:
            raise InputFileError("no room for the segmentation")
        load(self)

    monkeypatch.setattr(geometric.Backend, "load", fails_for_large_gaps)
    old = from_flat({"stereo.backend": "staged", "stereo.staged.name": "a"})
    pipeline = Pipeline(old)
    pipeline(sequence[0].frame)
    staged.clear()
    new = {
        "stereo.backend": "staged",
        "stereo.staged.name": "b",
        "segmentation.switch": "free_first",
        "segmentation.geometric.min_gap_m": 0.5,
    }
    with pytest.raises(InputFileError, match="no room for the segmentation"):
        pipeline.reconfigure(from_flat(new))
    assert staged == ["load b", "close a", "load a", "close b"]
    assert pipeline.config == pipeline.stereo.config == pipeline.segmentation.config == old
    assert pipeline(sequence[1].frame).objects


def test_what_is_loaded_already_is_closed_when_the_other_stage_cannot_be(staged, sequence, monkeypatch):
    from semantic_stereo_ros.segmentation.backends import geometric

    pipeline = Pipeline(from_flat({"stereo.backend": "staged", "stereo.staged.name": "a"}))
    pipeline(sequence[0].frame)
    staged.clear()

    def fails(self):
        raise InputFileError("no room for the segmentation")

    monkeypatch.setattr(geometric.Backend, "load", fails)
    new = from_flat({"stereo.backend": "staged", "stereo.staged.name": "b", "segmentation.geometric.min_gap_m": 0.5})
    with pytest.raises(InputFileError, match="no room for the segmentation"):
        pipeline.prepare(new)
    assert staged == ["load b", "close b"] and pipeline.config.stereo_backend.name == "a"


def test_what_can_be_told_at_once_is_told_without_loading(staged):
    with pytest.raises(ConfigError, match="multiple of 16"):
        check_backends(from_flat({"stereo.sgbm.num_disparities": 100}))
    missing = from_flat({"stereo.backend": "staged", "stereo.staged.missing": True})
    with pytest.raises(InputFileError, match="the library of staged is missing"):
        check_backends(missing)
    check_backends(missing, before=missing)  # in use already: nothing new to tell
    check_backends(from_flat({"stereo.backend": "staged", "stereo.staged.fails": True}))
    assert staged == []
