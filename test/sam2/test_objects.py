"""Objects of a stream: found again, hidden, lost and new. The tracker is scripted, so that what it says in each frame is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scripted import SHAPE, ScriptedTracker, box

from semantic_stereo_ros.models.sam2.mask_matching import Looks, match
from semantic_stereo_ros.models.sam2.objects import FollowedFrame, ObjectStream, Rules, paint
from semantic_stereo_ros.models.sam2.tracking import ObjectPrompt, Predictions
from semantic_stereo_ros.types import ObjectState

IMAGE = np.zeros((*SHAPE, 3), np.uint8)
RULES = Rules(key_frame_interval=4, max_objects=32, lost_frames=2, drop_frames=5)


A, B, C = box(8, 8), box(40, 8), box(70, 40)


def watch(stream: ObjectStream, frames: int, found: Callable[[int], list[np.ndarray]], **options) -> list[FollowedFrame]:
    """So many frames; found(frame): the masks that a look at a key frame brings."""
    return [stream(IMAGE, detect=lambda _, f=f: torch.from_numpy(np.array(found(f)).reshape(-1, *SHAPE)), **options) for f in range(frames)]


def names(frame: FollowedFrame) -> list[str]:
    return [o.key for o in frame.objects]


def test_objects_keep_their_names_over_key_frames_and_new_ones_get_new_names():
    stream = ObjectStream(ScriptedTracker(), RULES)  # type: ignore[arg-type]
    moved = {0: [A, B], 4: [box(43, 8), box(9, 9), C]}
    frames = watch(stream, 5, lambda f: moved[f])
    assert names(frames[0]) == names(frames[3]) == ["track:1", "track:2"]
    assert names(frames[4]) == ["track:1", "track:2", "track:3"]
    labels = frames[4].labels
    assert [o.label for o in frames[4].objects] == [1, 2, 3]
    assert labels.dtype == np.uint16
    assert [np.count_nonzero(labels[m] == n) / np.count_nonzero(m) > 0.9 for n, m in ((1, A), (2, B), (3, C))] == [True] * 3
    assert all(o.state == ObjectState.VISIBLE and o.score == pytest.approx(0.9 / (1 + np.exp(-4))) for o in frames[4].objects)


def test_a_hidden_object_is_occluded_then_lost_then_dropped_and_its_name_is_not_used_again():
    stream = ObjectStream(ScriptedTracker({"track:1": range(1, 100)}), RULES)  # type: ignore[arg-type]
    frames = watch(stream, 9, lambda f: {0: [A, B], 4: [B], 8: [B, A]}[f])
    said = [next(((o.state.name, o.label, o.unseen_frames) for o in f.objects if o.key == "track:1"), None) for f in frames]
    assert said[:3] == [("VISIBLE", 1, 0), ("OCCLUDED", None, 1), ("OCCLUDED", None, 2)]
    assert said[3:7] == [("LOST", None, n) for n in (3, 4, 5, 6)]
    assert said[7:] == [None, None]
    assert names(frames[8]) == ["track:2", "track:3"]
    assert [o.label for o in frames[3].objects] == [None, 1]


def test_an_unseen_object_that_a_key_frame_shows_again_is_followed_on_under_its_name():
    stream = ObjectStream(ScriptedTracker({"track:1": range(2, 100)}), RULES)  # type: ignore[arg-type]
    frames = watch(stream, 6, lambda f: {0: [A], 4: [box(10, 9)]}[f])
    assert [f.objects[0].state.name for f in frames] == ["VISIBLE", "VISIBLE", "OCCLUDED", "OCCLUDED", "VISIBLE", "VISIBLE"]
    assert [names(f) for f in frames] == [["track:1"]] * 6


@pytest.mark.parametrize(("later_px", "name"), [(22.0, "track:1"), (40.0, "track:2"), (float("nan"), "track:1")])
def test_depth_tells_whether_it_is_the_same_object(later_px, name):
    stream = ObjectStream(ScriptedTracker({"track:1": range(1, 100)}), RULES)  # type: ignore[arg-type]
    for f in range(5):
        disparity = np.full(SHAPE, 5.0, np.float32)
        disparity[A] = 20.0 if f < 4 else later_px
        last = stream(IMAGE, detect=lambda _: torch.from_numpy(A[None]), disparity_px=disparity)
    assert [o.key for o in last.objects if o.label] == [name]


def test_prompted_objects_are_never_dropped_and_have_a_room_of_their_own():
    rules = Rules(key_frame_interval=4, max_objects=1, lost_frames=10, drop_frames=2)
    stream = ObjectStream(ScriptedTracker({"prompt:7": range(1, 100)}), rules)  # type: ignore[arg-type]
    prompt = ObjectPrompt.at(SHAPE, 96, mask=C)
    frames = [stream(IMAGE, {"prompt:7": prompt} if f == 0 else None, lambda _: torch.from_numpy(np.stack([A, B]))) for f in range(6)]
    assert names(frames[5]) == ["prompt:7", "track:1"]
    stream.remove(["prompt:7", "unknown"])
    assert names(stream(IMAGE)) == ["track:1"]
    stream.reset()
    assert stream(IMAGE).objects == ()


def test_what_known_objects_cover_already_is_not_new():
    stream = ObjectStream(ScriptedTracker(), RULES)  # type: ignore[arg-type]
    frames = watch(stream, 5, lambda f: {0: [A], 4: [box(8, 8, 16, 6), box(4, 4, 12, 12), box(20, 20, 16, 16)]}[f])
    assert names(frames[4]) == ["track:1", "track:2"]
    assert frames[4].labels[35, 35] == 2


def test_of_masks_that_overlap_the_first_is_the_object():
    stream = ObjectStream(ScriptedTracker(), RULES)  # type: ignore[arg-type]
    (frame,) = watch(stream, 1, lambda f: [A, box(8, 8, 16, 10), C, box(0, 0, 96, 64), box(66, 40)])
    assert names(frame) == ["track:1", "track:2", "track:3"]
    assert [int(frame.labels[y, x]) for y, x in ((10, 10), (50, 80), (60, 5))] == [1, 2, 3]


def test_who_tries_again_after_an_error_looks_and_tells_again():
    tracker = ScriptedTracker()
    stream = ObjectStream(tracker, RULES)  # type: ignore[arg-type]

    def fails(_):
        raise MemoryError

    with pytest.raises(MemoryError):
        stream(IMAGE, {"prompt:1": ObjectPrompt.at(SHAPE, 96, mask=C)}, fails)
    frame = stream(IMAGE, {"prompt:1": ObjectPrompt.at(SHAPE, 96, mask=C)}, lambda _: torch.from_numpy(A[None]))
    assert names(frame) == ["prompt:1", "track:1"]


def test_the_surer_object_has_the_pixel():
    logits = torch.full((3, 1, 4, 4), -5.0)
    logits[0, 0, :, :2], logits[1, 0, :, 1:3] = 2.0, 3.0
    labels, pixels = paint(Predictions(("a", "b", "c"), logits, torch.ones(3), torch.ones(3)), (4, 4), objects_per_pass=2)
    np.testing.assert_array_equal(labels, [[1, 2, 2, 0]] * 4)
    assert pixels == [4, 8, 0]


def test_matching_is_one_to_one_and_takes_the_largest_overlap_in_all():
    known = Looks(torch.from_numpy(np.stack([box(10, 10), box(14, 10)])), np.array([np.nan, np.nan]))
    new = Looks(torch.from_numpy(np.stack([box(13, 10), box(9, 10)])), np.array([1.0, 2.0]))
    assert match(known, new, 0.3, 0.1) == [(0, 1), (1, 0)]
    assert match(known, new, 0.99, 0.1) == []
