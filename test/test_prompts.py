"""Prompts: what is refused and why, and 3D boxes against a camera that sees their surface point by point."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from semantic_stereo_ros import prompts as module
from semantic_stereo_ros.prompts import (
    NEAR_M,
    Box3dPrompt,
    BoxPrompt,
    MaskPrompt,
    PointPrompt,
    PromptError,
    PromptSet,
    check_takes_prompts,
    joint_prompt,
    project_box,
)
from semantic_stereo_ros.registry import backend_names
from semantic_stereo_ros.types import OrientedBox, StereoRig

RIG = StereoRig((640, 480), 500.0, 510.0, 318.0, 241.0, 0.1)


def box(center, size=(1.0, 1.0, 1.0), rotvec=(0.0, 0.0, 0.0)) -> OrientedBox:
    return OrientedBox(np.array(center, float), np.array(size, float), Rotation.from_rotvec(rotvec).as_quat())


def surface(item: OrientedBox, steps: int = 400) -> np.ndarray:
    """(N, 3) points that cover the six faces."""
    u, v = (axis.ravel() for axis in np.meshgrid(*[np.linspace(-0.5, 0.5, steps)] * 2))
    faces = [np.insert(np.stack([u, v], 1), axis, side, axis=1) for axis in range(3) for side in (-0.5, 0.5)]
    return Rotation.from_quat(item.orientation_xyzw).apply(np.concatenate(faces) * item.size_m) + item.center_m


def seen_bounds(item: OrientedBox, steps: int = 400):
    """Bounds of the surface points that a pinhole camera sees, in the coordinates where pixel k covers k..k+1."""
    x, y, z = surface(item, steps).T
    ahead = z >= NEAR_M
    u = RIG.fx * x[ahead] / z[ahead] + RIG.cx + 0.5
    v = RIG.fy * y[ahead] / z[ahead] + RIG.cy + 0.5
    inside = (u >= 0) & (u <= 640) & (v >= 0) & (v <= 480)
    return None if not inside.any() else (u[inside].min(), v[inside].min(), u[inside].max(), v[inside].max())


def test_a_box_straight_ahead():
    """By hand: the near face, 2 m wide and 1 m high at Z = 4 m, bounds it."""
    found = project_box(box((0, 0, 5), (2, 1, 2)), RIG)
    assert found == pytest.approx((318.5 - 125, 241.5 - 63.75, 318.5 + 125, 241.5 + 63.75))


@pytest.mark.parametrize(
    "item",
    [
        box((0.3, -0.2, 3.0), (0.5, 1.0, 0.7), (0.3, 0.8, -0.4)),
        box((-2.4, 0.0, 4.0), (1.5, 1.0, 1.0), (0.0, 0.5, 0.0)),
        box((0.7, 0.2, 0.4), (0.6, 1.0, 2.0), (0.1, 0.3, 0.2)),
        box((-0.6, 0.4, 0.2), (0.8, 0.5, 3.0), (0.0, 0.2, 0.0)),
        box((3.2, 2.4, 4.0), (3.0, 3.0, 0.1), (0.0, 0.0, 0.785)),
        box((0.0, 0.0, 0.0), (4.0, 4.0, 4.0), (0.2, 0.1, 0.3)),
    ],
    ids=["turned", "beside the image", "partly behind", "long, through the image plane", "corner of a turned plate", "camera inside"],
)
def test_bounds_are_those_of_the_visible_surface(item):
    expected = seen_bounds(item)
    assert expected is not None and project_box(item, RIG) == pytest.approx(expected, abs=2.0)


def test_bounds_of_many_random_boxes():
    random = np.random.default_rng(4)
    compared = 0
    for _ in range(60):
        item = box(random.uniform((-4, -3, -2), (4, 3, 6)), random.uniform(0.3, 2.5, 3), random.normal(0, 1, 3))
        found, expected = project_box(item, RIG), seen_bounds(item, 200)
        if expected is not None:
            compared += 1
            assert found is not None
            # Sampled points may miss the last pixels where a face is seen from very near; they never lie outside.
            assert (np.array(expected[:2]) >= np.array(found[:2]) - 1e-6).all() and (
                np.array(expected[2:]) <= np.array(found[2:]) + 1e-6
            ).all()
            if (surface(item, 40)[:, 2] > 0.5).all():
                assert found == pytest.approx(expected, abs=3.0)
        elif found is not None:
            assert (found[2] - found[0]) * (found[3] - found[1]) < 50
    assert compared > 20


@pytest.mark.parametrize(
    "center", [(0, 0, -3), (40, 0, 5), (0, -30, 4), (0, 0, -0.46)], ids=["behind", "right", "above", "nearer than the near plane"]
)
def test_a_box_out_of_view_is_refused(center):
    assert project_box(box(center), RIG) is None
    with pytest.raises(PromptError, match=r"object 7.*behind the camera or outside"):
        PromptSet((Box3dPrompt(7, box(center)),)).in_image(RIG)


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


def test_3d_boxes_become_2d_ones_and_the_rest_stays():
    point = PointPrompt(1, (10.0, 20.0))
    given = PromptSet((point, Box3dPrompt(2, box((0, 0, 5), (2, 1, 2)), class_name="box")), stamp_ns=5)
    result = given.in_image(RIG)
    assert result.prompts[0] is point and result.stamp_ns == 5
    made = result.prompts[1]
    assert isinstance(made, BoxPrompt) and made.object_id == 2 and made.class_name == "box"
    assert made.box_xyxy == pytest.approx((193.5, 177.75, 443.5, 305.25))


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


@pytest.mark.parametrize(
    "prompt",
    [PointPrompt(1, (639.6, 5)), PointPrompt(1, (-0.6, 5)), BoxPrompt(1, (640, 0, 700, 10)), MaskPrompt(1, np.ones((480, 641), bool))],
)
def test_prompts_beside_the_image_are_refused(prompt):
    with pytest.raises(PromptError, match="640x480"):
        PromptSet((prompt,)).in_image(RIG)


def test_prompts_at_the_border_are_taken():
    taken = PromptSet((PointPrompt(1, (639.4, -0.4)), BoxPrompt(2, (-5, -5, 1, 1)), MaskPrompt(3, np.ones((480, 640), bool))))
    assert taken.in_image(RIG).object_ids == (1, 2, 3)


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
