"""Prompts in force become followed objects, and these a Segmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scripted import SHAPE, ScriptedTracker, box

from semantic_stereo_ros.models.sam2.objects import ObjectStream, Rules
from semantic_stereo_ros.models.sam2.tracking import StreamTracker
from semantic_stereo_ros.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet
from semantic_stereo_ros.segmentation.following import Follower, as_object_prompt, new_prompts
from semantic_stereo_ros.types import Disparity, ObjectState, StereoFrame, StereoRig

RIG = StereoRig((96, 64), 80.0, 80.0, 47.5, 31.5, 0.1)
FRAME = StereoFrame(np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8), RIG)
A, B, C = box(8, 8), box(40, 8), box(70, 40)
CUP, DOOR = MaskPrompt(3, A, class_name="cup"), MaskPrompt(9, B)

RULES = {"key_frame_interval": 15, "max_objects": 32, "lost_frames": 10, "drop_frames": 60}


def follower(hidden=None, find=None, **rules) -> tuple[Follower, ScriptedTracker]:
    tracker = ScriptedTracker(hidden)
    return Follower(ObjectStream(tracker, Rules(**{**RULES, **rules})), tracker.image_size, find), tracker  # type: ignore[arg-type]


def said(segmentation) -> list[tuple]:
    return [(i.source_key, i.class_name, i.label) for i in segmentation.object_instances]


def test_prompted_objects_are_instances_under_their_keys_and_class_names_until_cleared():
    follow, tracker = follower()
    assert said(follow(FRAME, None)) == []
    follow.set_prompts(PromptSet((CUP, DOOR)))
    masks = follow(FRAME, None)
    assert said(masks) == [("prompt:3", "cup", 1), ("prompt:9", "object", 2)]
    assert np.mean((masks.labels == 1) == A) > 0.98
    assert masks.labels.dtype == np.uint16
    assert all(i.score == pytest.approx(0.884, abs=1e-3) for i in masks.object_instances)
    follow.set_prompts(PromptSet((DOOR,)))
    assert said(follow(FRAME, None)) == [("prompt:9", "object", 1)]
    assert tracker.keys == ("prompt:9",)
    follow.reset()
    assert said(follow(FRAME, None)) == []


def test_a_prompt_counts_once_in_the_frame_after_it_came(monkeypatch):
    follow, tracker = follower()
    told = []
    step = tracker.step
    monkeypatch.setattr(tracker, "step", lambda features, prompts: told.append(sorted(prompts)) or step(features, prompts))
    follow.set_prompts(PromptSet((CUP,)))
    follow(FRAME, None)
    follow(FRAME, None)
    follow.set_prompts(PromptSet((CUP, DOOR)))
    follow(FRAME, None)
    follow.set_prompts(PromptSet((CUP, DOOR, MaskPrompt(3, C, class_name="cup"))))
    masks = follow(FRAME, None)
    assert told == [["prompt:3"], [], ["prompt:9"], ["prompt:3"]]
    assert masks.labels[44, 75] == 1


def test_the_same_numbers_are_no_new_prompt_but_said_twice_they_are():
    first = PromptSet((BoxPrompt(1, (1, 2, 3, 4)), PointPrompt(1, (5, 6))))
    again = PromptSet((BoxPrompt(1, (1, 2, 3, 4)), PointPrompt(1, (5, 6)), PointPrompt(1, (5, 6)), PointPrompt(1, (5, 6), positive=False)))
    assert not new_prompts(first, first).prompts
    assert new_prompts(first, again).prompts == again.prompts[2:]
    assert new_prompts(first.without([1]), first).prompts == first.prompts


def test_the_prompts_of_one_object_add_up():
    prompts = (
        BoxPrompt(1, (8, 8, 24, 16)),
        PointPrompt(1, (48, 32)),
        BoxPrompt(1, (40, 4, 48, 24)),
        PointPrompt(1, (0, 0), positive=False),
    )
    told = as_object_prompt(prompts, SHAPE, 192)
    assert told.mask is None
    assert told.points_xy is not None
    np.testing.assert_array_equal(told.points_xy, [[16, 12], [96, 72], [96, 96], [0, 0]])
    np.testing.assert_array_equal(told.labels, [2, 3, 1, 0])
    both = as_object_prompt((MaskPrompt(1, A), MaskPrompt(1, B)), SHAPE, 96)
    assert both.labels is None
    assert both.mask is not None
    assert abs(int(both.mask.sum()) - np.count_nonzero(A | B) * 96 / 64) <= 64


def test_what_is_not_seen_has_no_instance_and_a_state():
    follow, _ = follower({"prompt:3": range(1, 9)}, lost_frames=1)
    follow.set_prompts(PromptSet((CUP, DOOR)))
    states = []
    for _ in range(3):
        masks = follow(FRAME, None)
        states.append({o.key: o.state for o in follow.objects}["prompt:3"])
        assert set(np.unique(masks.labels)) == {0, *(i.label for i in masks.instances)}
    assert said(masks) == [("prompt:9", "object", 1)]
    assert states == [ObjectState.VISIBLE, ObjectState.OCCLUDED, ObjectState.LOST]


def test_key_frames_bring_objects_that_depth_tells_apart():
    follow, _ = follower({"track:1": range(1, 9)}, find=lambda rgb8, _: torch.from_numpy(A[None]), key_frame_interval=2)
    keys = []
    for nearer_px in (10.0, 10.0, 30.0):
        d = np.full(SHAPE, 3.0, np.float32)
        d[A] = nearer_px
        d[:4] = np.nan
        sure = np.where(np.isnan(d), np.float32(0), np.float32(1))
        keys.append([i.source_key for i in follow(FRAME, Disparity(d, np.where(np.isnan(d), d, np.float32(0.2)), sure, RIG)).instances])
    assert keys == [["track:1"], [], ["track:2"]]


def test_the_model_follows_what_a_mask_prompt_shows(model):
    import oracle

    rig = StereoRig((320, 240), 300.0, 300.0, 159.5, 119.5, 0.1)
    mask = np.zeros((240, 320), bool)
    mask[80:180, 100:220] = True
    follow = Follower(ObjectStream(StreamTracker(model), Rules(**RULES)), model.image_size)
    follow.set_prompts(PromptSet((MaskPrompt(5, mask, class_name="crate"),)))
    for i in range(3):
        image = oracle.moving_image(i)
        masks = follow(StereoFrame(image, image, rig), None)
        assert said(masks) == [("prompt:5", "crate", 1)]
        overlap = np.count_nonzero(mask & (masks.labels == 1)) / np.count_nonzero(mask | (masks.labels == 1))
        assert overlap > (0.98 if i == 0 else 0.5)
