"""Tracks without a mask: hidden or lost, in or out of view, and how long each is waited for."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.tracking.lost_tracks import judge_unseen
from semantic_stereo_ros.tracking.mask_memory import MaskSamples
from semantic_stereo_ros.tracking.track import Track
from semantic_stereo_ros.tracking.tracking_config import Config
from semantic_stereo_ros.types import Disparity, ObjectState, StereoRig

RIG = StereoRig((320, 240), 300.0, 300.0, 159.5, 119.5, 0.12)
CONFIG = Config(occluded_timeout_s=4.0, lost_timeout_s=2.0)
ROWS, COLUMNS = np.mgrid[100:140:4, 140:180:4]
SAMPLES = MaskSamples(np.stack([COLUMNS.ravel(), ROWS.ravel()], axis=1).astype(np.float32), 16.0)


def view_of(depth_m: float) -> Disparity:
    """A wall that fills the view."""
    values = np.full(RIG.shape, RIG.bf / depth_m, np.float32)
    return Disparity(values, np.full_like(values, 0.1), np.ones_like(values), RIG)


def unseen(position_m=(0.0, 0.0, 4.0), seen_s: float = 60.0, object_id: int | None = 1) -> Track:
    """A track that had its last mask in the middle of the image, 4 m away."""
    mean = np.array([*position_m, 0.0, 0.0, 0.0])
    return Track(
        mean, np.eye(6) * 1e-4, 0, round(seen_s * 1e9), object_id, samples=SAMPLES, anchor_m=np.array([0.0, 0.0, 4.0]), extent_m=0.5
    )


def kept_for_s(track: Track, *views: Disparity, step_s: float = 0.25, most_s: float = 20.0) -> float:
    """Seconds of the frames, showing `views` in turn, until the track is given up."""
    for frame in range(round(most_s / step_s)):
        if not judge_unseen([track], views[frame % len(views)], None, step_s, CONFIG):
            return frame * step_s
    return most_s


def test_hidden_and_lost_objects_are_waited_for_as_long_as_the_options_say():
    hidden, lost = unseen(), unseen()
    assert kept_for_s(hidden, view_of(1.0)) == 4.0 and hidden.state == ObjectState.OCCLUDED
    assert kept_for_s(lost, view_of(10.0)) == 2.0 and lost.state == ObjectState.LOST


def test_an_object_that_is_hidden_again_and_again_is_not_waited_for_for_ever():
    assert kept_for_s(unseen(), view_of(1.0), view_of(10.0)) == pytest.approx(4.0, abs=0.3)


def test_what_was_seen_briefly_is_waited_for_as_briefly():
    assert kept_for_s(unseen(seen_s=0.5), view_of(10.0)) == 0.5


@pytest.mark.parametrize("position_m", [(4.0, 0.0, 4.0), (0.0, -4.0, 4.0), (0.0, 0.0, -1.0)])
def test_what_is_predicted_beside_the_view_is_gone_at_once(position_m):
    assert judge_unseen([unseen(position_m)], view_of(1.0), None, 0.1, CONFIG) == []


def test_a_tentative_track_needs_a_mask_and_a_seen_one_is_not_judged():
    seen = unseen()
    seen.label = 3
    assert judge_unseen([unseen(object_id=None), seen], view_of(1.0), None, 0.1, CONFIG) == [seen]
    assert seen.state == ObjectState.VISIBLE
