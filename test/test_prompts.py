"""Prompts: what is refused and why."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from semantic_stereo_ros import prompts as module
from semantic_stereo_ros.prompts import (
    Box3dPrompt,
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    PromptError,
    PromptSet,
    check_takes_prompts,
    joint_prompt,
)
from semantic_stereo_ros.registry import backend_names
from semantic_stereo_ros.types import OrientedBox


def box(center, size=(1.0, 1.0, 1.0), rotvec=(0.0, 0.0, 0.0)) -> OrientedBox:
    return OrientedBox(np.array(center, float), np.array(size, float), Rotation.from_rotvec(rotvec).as_quat())


def test_prompts_of_one_object_add_up():
    left, right = np.zeros((2, 4, 6), bool)
    left[1, :2], right[2, 1:4] = True, True
    points = (PointPrompt(1, (3.0, 2.0)), PointPrompt(1, (5.0, 1.0), positive=False))
    boxes = (BoxPrompt(1, (1.0, 0.5, 3.0, 2.0)), BoxPrompt(1, (2.0, 0.0, 5.5, 1.0)))
    joint = joint_prompt((points[0], boxes[0], MaskPrompt(1, left), boxes[1], points[1], MaskPrompt(1, right)))
    assert joint.points == points
    assert joint.box_xyxy == (1.0, 0.0, 5.5, 2.0)
    assert joint.mask is not None and np.argwhere(joint.mask).tolist() == [[1, 0], [1, 1], [2, 1], [2, 2], [2, 3]]
    nothing = joint_prompt(())
    assert nothing.points == () and nothing.box_xyxy is None and nothing.mask is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PointPrompt(0, (1.0, 2.0)), "must lie in 1..4294967295, got 0"),
        (lambda: PointPrompt(1, (1.0, float("nan"))), r"2 finite numbers \(x, y\), got \(1, nan\)"),
        (lambda: BoxPrompt(1, (10.0, 10.0, 5.0, 20.0)), r"x_min < x_max.*\(10, 10, 5, 20\).*width"),
        (lambda: BoxPrompt(1, (1.0, 2.0, 3.0)), "4 finite numbers"),  # type: ignore[arg-type]
        (lambda: MaskPrompt(1, np.zeros((4, 4), bool)), "empty"),
        (lambda: MaskPrompt(1, np.ones((4, 4), np.uint8)), "must be bool, got uint8"),
        (lambda: Box3dPrompt(1, box((0, 0, 3), (1, 0, 1))), "above zero along each axis"),
        (lambda: Box3dPrompt(1, box((0, np.inf, 3))), "must be finite"),
        (lambda: Box3dPrompt(1, OrientedBox(np.zeros(3), np.ones(3), np.zeros(4))), "unit quaternion"),
        (
            lambda: PromptSet((PointPrompt(1, (1, 1), class_name="cup"), PointPrompt(1, (2, 2), class_name="jug"))),
            "two classes, 'cup' and 'jug'",
        ),
        (lambda: PromptSet(tuple(PointPrompt(i, (1, 1)) for i in range(1, 66))), "at most 64 objects"),
        (lambda: PromptSet((PointPrompt(1, (1, 1)),) * 513), "at most 512 prompts"),
        (lambda: PromptSet((PointPrompt(3, (1, 1)),)).without([3, 4]), "no prompt of object 4 is set; objects with prompts: 3"),
    ],
)
def test_impossible_prompts_are_refused_with_a_reason(make, words):
    with pytest.raises(PromptError, match=words):
        make()


def test_objects_are_added_and_removed():
    one = PromptSet().added([PointPrompt(5, (1, 1), class_name="cup"), PointPrompt(5, (9, 9), False, class_name="cup")], 100)
    both = one.added([BoxPrompt(6, (0, 0, 5, 5))], 200)
    assert both.object_ids == (5, 6) and both.stamp_ns == 200 and both.class_name(5) == "cup" and both.class_name(6) == ""
    assert len(both.of(5)) == 2 and both.without([5]).object_ids == (6,) and both.object_ids == (5, 6)


def test_refusal_names_the_backends_that_take_prompts(monkeypatch):
    able = [name for name in backend_names("segmentation") if module.backend_module("segmentation", name).Backend.accepts_prompts]
    with pytest.raises(PromptError, match="'geometric' takes no prompts") as refusal:
        check_takes_prompts("geometric")
    assert all(name in str(refusal.value) for name in able) and (able or "none of the known ones" in str(refusal.value))
    geometric = module.backend_module("segmentation", "geometric")
    monkeypatch.setattr(geometric.Backend, "accepts_prompts", True)
    check_takes_prompts("geometric")
