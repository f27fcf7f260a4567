"""The whole algorithm on exact scenes: the right distances, an honest status, and a clean start after a break in the stream."""

import dataclasses

import numpy as np
import pytest

from semantic_stereo_ros.checks import ImageError
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
