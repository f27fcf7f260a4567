"""The picture for people: labels inside, apart, and telling the truth."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.io.overlay import (
    _target,
    _texts_and_scale,
    box_corners,
    draw_scene,
    draw_segmentation,
    id_color,
    label_lines,
    object_rect,
    place_label,
    short_label,
)
from semantic_stereo_ros.types import (
    Disparity,
    Measurement,
    ObjectState,
    OrientedBox,
    Scene,
    SceneObject,
    SceneStatus,
    Segmentation,
    StereoFrame,
    StereoRig,
)

RIG = StereoRig((320, 240), 200, 200, 160, 120, 0.1)
NAN3, EYE = np.full(3, np.nan), np.eye(3)


def make_object(object_id=1, state=ObjectState.VISIBLE, label=None, measurement=None, position=(0.0, 0.0, 4.0), box=None):
    position = np.array(position)
    return SceneObject(object_id, state, 2, "car", 1.0, label, measurement, position, EYE * 0.04, NAN3, EYE, "camera", 0, 0, box)


def make_scene(objects, labels=None, status=SceneStatus.OK, reason=""):
    image = np.full((240, 320), 90, np.uint8)
    empty = np.full((240, 320), np.nan, np.float32)
    disparity = Disparity(empty, empty, np.zeros_like(empty), RIG)
    segmentation = Segmentation.from_labels(np.zeros((240, 320), np.uint16) if labels is None else labels)
    return Scene(StereoFrame(image, image, RIG), disparity, segmentation, tuple(objects), status, reason)


def test_label_text():
    measured = Measurement(1, 9, 1.0, (0, 0, 3, 3), 4.0, 0.1, 4.056, 0.123, 3.9, 0.1, np.array([0, 0, 4.0]), EYE)
    assert label_lines(make_object(3, measurement=measured)) == ["#3 car", "4.06 +/-0.12 m"]
    unknown = Measurement(1, 9, 0.0, (0, 0, 3, 3), reason="too few")
    assert label_lines(make_object(4, ObjectState.UNMEASURED, measurement=unknown)) == ["#4 car", "distance unknown"]
    assert label_lines(make_object(5, ObjectState.LOST)) == ["#5 car", "4.00 +/-0.20 m", "lost (predicted)"]


@pytest.mark.parametrize(
    ("sigma_m", "line", "short"),
    [
        (0.123, "1.87 +/-0.12 m", "3 car 1.9 +/-0.1 m"),
        (0.0123, "1.87 +/-0.01 m", "3 car 1.87 +/-0.01 m"),
        (0.00123, "1.868 +/-0.001 m", "3 car 1.868 +/-0.001 m"),
        (float("nan"), "1.87 m", "3 car 1.9 m"),
    ],
)
def test_no_sigma_is_shown_as_zero(sigma_m, line, short):
    measured = Measurement(1, 9, 1.0, (0, 0, 3, 3), 1.8, 0.1, 1.868, sigma_m, 1.7, 0.1, np.array([0, 0, 1.8]), EYE)
    item = make_object(3, measurement=measured)
    assert label_lines(item)[1] == line
    assert short_label(item) == short


def test_plates_do_not_cover_each_other_and_stay_inside():
    rng = np.random.default_rng(0)
    taken = []
    for _ in range(25):
        x, y = rng.integers(-20, 320), rng.integers(-20, 240)
        rect = place_label((60, 24), (int(x), int(y), int(x) + 30, int(y) + 40), taken, (320, 240))
        assert 0 <= rect[0] < rect[2] <= 320 and 0 <= rect[1] < rect[3] <= 240
        for other in taken:
            assert min(rect[2], other[2]) <= max(rect[0], other[0]) or min(rect[3], other[3]) <= max(rect[1], other[1])
        taken.append(rect)


def test_crowded_pictures_get_short_labels():
    assert short_label(make_object(3)) == "3 car 4.0 +/-0.2 m"
    assert short_label(make_object(4, ObjectState.LOST)) == "4? car 4.0 +/-0.2 m"
    unknown = Measurement(1, 9, 0.0, (0, 0, 3, 3), reason="too few")
    assert short_label(make_object(5, ObjectState.UNMEASURED, measurement=unknown)) == "5 car unknown"
    few, _ = _texts_and_scale([make_object(1)], (320, 240))
    many, small = _texts_and_scale([make_object(i) for i in range(40)], (320, 240))
    assert few == [["#1 car", "4.00 +/-0.20 m"]]
    assert many[7] == ["7 car 4.0 +/-0.2 m"] and small >= 0.33


def test_a_plate_larger_than_the_image_is_clipped():
    assert place_label((500, 400), (0, 0, 10, 10), [], (320, 240)) == (0, 0, 320, 240)


def test_colours_follow_the_object_not_the_label():
    labels = np.zeros((240, 320), np.uint16)
    labels[50:100, 50:100] = 1
    image = np.zeros((240, 320), np.uint8)
    one = draw_segmentation(image, Segmentation.from_labels(labels), {1: 42})
    moved = np.roll(labels, 100, axis=1)
    moved[moved == 1] = 2
    moved[0, 0] = 1
    other = draw_segmentation(image, Segmentation.from_labels(moved), {2: 42, 1: 7})
    np.testing.assert_array_equal(one[75, 75], other[75, 175])
    assert len({id_color(i) for i in range(1, 200)}) > 150
    assert not one[0, 200].any(), "background is untouched"
    nobody = draw_segmentation(image, Segmentation.from_labels(labels), {})
    assert np.ptp(nobody[75, 75]) == 0, "a mask that is no object yet is grey"


@pytest.mark.parametrize("state", [ObjectState.OCCLUDED, ObjectState.LOST])
def test_a_predicted_object_is_dashed(state):
    box = OrientedBox(np.array([0.0, 0.3, 4.0]), np.array([2.0, 1.0, 0.01]), np.array([0, 0, 0, 1.0]))
    item = make_object(8, state, box=box, position=(0.0, 0.3, 4.0))
    scene = make_scene([item])
    rect = object_rect(item, scene)
    assert rect is not None
    np.testing.assert_allclose(rect, (160 - 50, 120 + 15 - 25, 160 + 50, 120 + 15 + 25), atol=1.5)
    bottom = draw_scene(scene)[rect[3] - 1, rect[0] : rect[2]]
    painted = (bottom == id_color(8)).all(axis=1)
    assert 0.3 < painted.mean() < 0.8, "dashes and gaps"


def test_the_label_of_a_large_object_points_into_its_mask():
    """An L whose box is mostly empty: the innermost pixel lies in the thick leg."""
    labels = np.zeros((240, 320), np.uint16)
    labels[10:230, 10:20], labels[150:230, 10:310] = 1, 1
    measured = Measurement(1, 9, 1.0, (10, 10, 310, 230), 4.0, 0.1, 4.0, 0.1, 3.9, 0.1, np.array([0, 0, 4.0]), EYE)
    item = make_object(1, label=1, measurement=measured)
    scene = make_scene([item], labels)
    x, y, *_ = _target(item, scene, (10, 10, 310, 230), (60, 24))
    assert labels[y, x] == 1 and 180 <= y <= 200
    assert _target(item, scene, (10, 10, 310, 230), (300, 200)) == (10, 10, 310, 230)


def test_no_object_is_said():
    scene = make_scene([], status=SceneStatus.CANNOT_TELL, reason="too dark")
    assert (draw_scene(scene) != draw_scene(make_scene([], status=SceneStatus.NO_OBJECTS))).any()


def test_strange_objects_do_not_break_the_picture():
    behind = make_object(1, ObjectState.LOST, position=(0.0, 0.0, -3.0))
    aside = make_object(2, ObjectState.LOST, position=(50.0, 0.0, 1.0))
    unknown = make_object(3, ObjectState.UNMEASURED, position=(np.nan,) * 3)
    picture = draw_scene(make_scene([behind, aside, unknown]))
    assert picture.shape == (240, 320, 3) and picture.dtype == np.uint8
    assert object_rect(behind, make_scene([])) is None


def test_box_corners_follow_the_quaternion():
    """A quarter turn about z swaps the extents of x and y."""
    half = np.sqrt(0.5)
    corners = box_corners(OrientedBox(np.array([1.0, 2, 3]), np.array([4.0, 2, 1]), np.array([0, 0, half, half])))
    np.testing.assert_allclose(np.ptp(corners, axis=0), [2, 4, 1], atol=1e-12)
    np.testing.assert_allclose(corners.mean(axis=0), [1, 2, 3])


def test_16_bit_frames_are_drawn():
    image = np.linspace(0, 60000, 240 * 320).reshape(240, 320).astype(np.uint16)
    scene = make_scene([])
    deep = Scene(StereoFrame(image, image, RIG), scene.disparity, scene.segmentation, (), SceneStatus.NO_OBJECTS)
    assert draw_scene(deep).dtype == np.uint8


def test_box_corners_turn_as_scipy_turns_them():
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_euler("xyz", (20, 30, 40), degrees=True)
    box = OrientedBox(np.array([1.0, 2, 3]), np.array([4.0, 2, 1]), turn.as_quat())
    expected = turn.apply([[x, y, z] for x in (-2, 2) for y in (-1, 1) for z in (-0.5, 0.5)]) + box.center_m
    np.testing.assert_allclose(box_corners(box), expected, atol=1e-12)
