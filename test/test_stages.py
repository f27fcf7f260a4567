"""The stages apart from the pipeline: loaded once, exchanged, told apart streams, and what a frame without masks says."""

import dataclasses

import numpy as np
import pytest

from semantic_stereo_ros.checks import ImageError, InputFileError
from semantic_stereo_ros.config import from_flat
from semantic_stereo_ros.pipeline import fuse
from semantic_stereo_ros.stages import FusionStage, SegmentationStage, StereoStage
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import (
    CLASS_STRUCTURE,
    LEVEL_STRUCTURE,
    Disparity,
    Instance,
    LabelLayer,
    ObjectState,
    SceneStatus,
    Segmentation,
    StereoFrame,
)


@pytest.fixture(scope="module")
def truth():
    return random_sequence(21, 1, (320, 240))[0]


def true_disparity(truth) -> Disparity:
    exact = truth.disparity_px.astype(np.float32)
    return Disparity(exact, np.full_like(exact, 0.1), np.ones_like(exact), truth.rig)


def at(truth, stamp_s: float, **changes) -> StereoFrame:
    return dataclasses.replace(truth.frame, stamp_ns=round(stamp_s * 1e9), **changes)


class Fusion:
    """A fusion stage fed with exact disparities and masks."""

    def __init__(self, truth, **options) -> None:
        self.stage = FusionStage(from_flat(options))
        self.truth, self.disparity, self.masks = truth, true_disparity(truth), Segmentation.from_labels(truth.instance_ids)

    def __call__(self, stamp_s: float, masks: bool = True, rig=None):
        frame = at(self.truth, stamp_s) if rig is None else at(self.truth, stamp_s, rig=rig)
        disparity = self.disparity if rig is None else dataclasses.replace(self.disparity, rig=rig)
        return fuse(self.stage, frame, disparity, self.masks if masks else None, {})


def begun(scene) -> set[float]:
    return {o.first_seen_ns / 1e9 for o in scene.objects}


# Fusion -----------------------------------------------------------------------------------------------------------------------


def test_objects_are_forgotten_where_the_stream_breaks(truth):
    fusion = Fusion(truth, **{"tracking.max_gap_s": 2.0})
    assert begun(fusion(10.0)) == {10.0}
    assert begun(fusion(10.0)) == {10.0}  # stamps unknown
    assert begun(fusion(12.0)) == {10.0}
    assert begun(fusion(14.5)) == {14.5}
    assert begun(fusion(14.4)) == {14.4}
    wider = dataclasses.replace(truth.rig, baseline_m=2 * truth.rig.baseline_m)
    assert begun(fusion(14.5, rig=wider)) == {14.5}
    fusion.stage.reset("a test")
    assert begun(fusion(1.0)) == {1.0}


def test_between_masks_only_what_the_last_ones_lead_to_is_predicted(truth):
    fusion = Fusion(truth, **{"tracking.max_gap_s": 2.0})
    seen = fusion(10.0).objects
    predicted = fusion(10.5, masks=False)
    assert {o.object_id for o in predicted.objects} == {o.object_id for o in seen}
    assert {o.state for o in predicted.objects} == {ObjectState.PREDICTED} and predicted.status is SceneStatus.OK
    for stamp_s in (9.9, 12.1):
        assert fusion(stamp_s, masks=False).objects == ()
    wider = dataclasses.replace(truth.rig, baseline_m=2 * truth.rig.baseline_m)
    assert fusion(10.5, masks=False, rig=wider).objects == ()
    assert begun(fusion(11.0)) == {10.0}  # none of these frames ended the stream


def test_without_masks_yet_there_is_no_answer(truth):
    scene = Fusion(truth)(10.0, masks=False)
    assert scene.status is SceneStatus.CANNOT_TELL and "no masks have been made" in scene.reason


def holed(disparity: Disparity) -> Disparity:
    """The lower middle third unknown."""
    height, width = disparity.rig.shape
    values = disparity.disparity_px.copy()
    values[height // 2 : -height // 8, width // 3 : 2 * width // 3] = np.nan
    return dataclasses.replace(disparity, disparity_px=values, sigma_px=np.where(np.isnan(values), values, disparity.sigma_px))


def test_no_objects_is_said_only_where_nothing_could_stand_unseen(truth):
    stage, frame, known = FusionStage(from_flat()), at(truth, 10.0), true_disparity(truth)
    nothing = Segmentation.from_labels(np.zeros_like(truth.instance_ids))
    seen = fuse(stage, frame, known, nothing, {})
    assert (seen.status, seen.reason, seen.hidden) == (SceneStatus.NO_OBJECTS, "", None)
    unsure = fuse(stage, frame, holed(known), nothing, {})
    assert unsure.status is SceneStatus.CANNOT_TELL and unsure.hidden is not None
    assert "no object is seen, but 13% of the view is unknown, enough in the lower middle" in unsure.reason
    stage.reconfigure(from_flat({"fusion.hidden_size_m": 5.0}))
    assert fuse(stage, frame, holed(known), nothing, {}).status is SceneStatus.NO_OBJECTS


def test_objects_are_an_answer_and_the_reason_says_what_is_unknown_beside_them(truth):
    fusion = Fusion(truth)
    assert fusion(10.0).reason == ""
    fusion.disparity = holed(fusion.disparity)
    scene = fusion(10.1)
    assert scene.status is SceneStatus.OK and len(scene.objects) > 3 and "of the view is unknown" in scene.reason


def test_rows_apart_are_said_beside_objects_and_leave_no_view_empty(truth):
    stage, frame, masks = FusionStage(from_flat()), at(truth, 10.0), Segmentation.from_labels(truth.instance_ids)
    nothing = Segmentation.from_labels(np.zeros_like(truth.instance_ids))
    good, bad = (dataclasses.replace(true_disparity(truth), row_error_px=error_px) for error_px in (0.9, 1.6))
    assert fuse(stage, frame, good, nothing, {}).status is SceneStatus.NO_OBJECTS
    unsure = fuse(stage, frame, bad, nothing, {})
    assert unsure.status is SceneStatus.CANNOT_TELL and "no object is seen, but the rows of the pair are 1.6 px apart" in unsure.reason
    assert "rows" not in fuse(stage, frame, good, masks, {}).reason
    seen = fuse(stage, frame, bad, masks, {})
    assert seen.status is SceneStatus.OK and "1.6 px apart" in seen.reason


def test_a_structure_is_not_nothing(truth):
    """What is too large for an object is said, with the distance of its near side, and is not 'no objects'."""
    stage, frame, known = FusionStage(from_flat()), at(truth, 10.0), true_disparity(truth)
    labels = (truth.instance_ids > 0).astype(np.uint16)
    masks = Segmentation(
        (LabelLayer(np.zeros_like(labels)), LabelLayer(labels, LEVEL_STRUCTURE)),
        (Instance(1, layer=1, class_id=CLASS_STRUCTURE, class_name="structure"),),
    )
    scene = fuse(stage, frame, known, masks, {})
    near_m = float(np.percentile(truth.rig.bf / truth.disparity_px[labels > 0], 5))
    assert scene.status is SceneStatus.OK and scene.objects == ()
    assert scene.reason == f"no object is seen, but 1 structure too large for an object stands from {near_m:.1f} m on"


def test_masks_of_another_size_are_refused(truth):
    stage = FusionStage(from_flat())
    with pytest.raises(ImageError, match=r"the masks are \(239, 320\) but the images \(240, 320\)"):
        stage.measure(true_disparity(truth), Segmentation.from_labels(truth.instance_ids[:-1]))


# Stages with backends ---------------------------------------------------------------------------------------------------------


def staged_config(name: str, **options):
    return from_flat({"stereo.backend": "staged", "stereo.staged.name": name, **options})


def test_backend_is_loaded_once_and_exchanged_only_when_its_own_options_change(staged, truth):
    stage = StereoStage(staged_config("a"))
    assert staged == []
    stage(at(truth, 1.0))
    stage(at(truth, 1.1))
    assert staged == ["load a"]
    assert stage.prepare(staged_config("a", **{"tracking.max_gap_s": 1.0})) is None
    stage.reconfigure(staged_config("b"))
    assert staged == ["load a", "load b", "close a"] and stage.backend_name == "staged"


def test_stage_that_is_not_loaded_exchanges_without_loading(staged):
    stage = StereoStage(staged_config("a"))
    stage.reconfigure(staged_config("b"))
    assert staged == ["close a"]


def test_backend_that_cannot_be_loaded_is_closed_and_the_old_one_stays(staged, truth):
    stage = StereoStage(staged_config("a"))
    stage.load()
    with pytest.raises(InputFileError, match="the weights of bad are broken"):
        stage.prepare(staged_config("bad", **{"stereo.staged.fails": True}))
    assert staged == ["load a", "load bad", "close bad"] and stage.config == staged_config("a")


def test_every_nth_frame_has_masks_and_a_new_stream_begins_with_some(truth):
    stage = SegmentationStage(from_flat({"segmentation.every_n": 3, "tracking.max_gap_s": 2.0}))
    disparity = true_disparity(truth)
    made = [stage(at(truth, 1 + 0.1 * step), disparity) is not None for step in range(5)]
    assert made == [True, False, False, True, False]
    assert stage(at(truth, 0.5), disparity) is not None  # the stamp moved back
