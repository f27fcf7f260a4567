"""vision_msgs' detections and tf2's transforms as prompts: both packages come with ROS only, so messages of their shape stand in."""

import types
from types import SimpleNamespace as Bag

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from geometry_msgs.msg import Pose, TransformStamped
from scipy.spatial.transform import Rotation

from semantic_stereo_ros.nodes.messages.conversions import matrix_to_pose, pose_to_matrix
from semantic_stereo_ros.nodes.messages.prompt_messages import box_in_space, detections_3d_to_prompts, detections_to_prompts
from semantic_stereo_ros.nodes.runtime import transforms
from semantic_stereo_ros.nodes.runtime.transforms import FrameTransforms
from semantic_stereo_ros.prompts import Box3dPrompt, BoxPrompt, PromptError


def result(class_id, score):
    return Bag(hypothesis=Bag(class_id=class_id, score=score))


def detection(x, y, width, height, *, theta=0.0, number="", results=()):
    return Bag(id=number, results=list(results), bbox=Bag(center=Bag(position=Bag(x=x, y=y), theta=theta), size_x=width, size_y=height))


def test_detections_become_boxes_with_the_best_class_and_the_detectors_own_ids():
    numbers = iter(range(50, 60))
    given = [
        detection(100.0, 60.0, 40.0, 20.0, number="7", results=[result("cat", 0.3), result("dog", 0.6)]),
        detection(10.0, 10.0, 4.0, 4.0, number="track-a"),
        detection(50.0, 50.0, 20.0, 10.0, theta=np.pi / 2),
    ]
    made = detections_to_prompts(given, lambda: next(numbers))
    boxes = [prompt for prompt in made if isinstance(prompt, BoxPrompt)]
    assert len(boxes) == len(made) == 3
    assert [(p.object_id, p.class_name) for p in made] == [(7, "dog"), (50, ""), (51, "")]
    assert boxes[0].box_xyxy == (80.0, 50.0, 120.0, 70.0) and boxes[2].box_xyxy == pytest.approx((45.0, 40.0, 55.0, 60.0))


def test_detections_in_space_are_taken_into_the_camera_frame():
    camera_from_robot = np.eye(4)
    camera_from_robot[:3, :3] = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    camera_from_robot[:3, 3] = (0.0, 0.0, 1.0)
    pose = Pose()
    pose.position.x = 2.0
    given = Bag(id="3", results=[], bbox=Bag(center=pose, size=Bag(x=1.0, y=2.0, z=3.0)))
    (made,) = detections_3d_to_prompts([given], lambda matrix: camera_from_robot @ matrix, lambda: 1)
    assert isinstance(made, Box3dPrompt) and made.object_id == 3
    np.testing.assert_allclose(made.box.center_m, (0.0, 2.0, 1.0), atol=1e-12)
    np.testing.assert_allclose(Rotation.from_quat(made.box.orientation_xyzw).as_matrix(), camera_from_robot[:3, :3], atol=1e-12)
    assert made.box.size_m.tolist() == [1.0, 2.0, 3.0]


def test_a_box_without_an_orientation_is_refused():
    with pytest.raises(ValueError, match="unit quaternion"):
        box_in_space(1, Pose(orientation=Pose().orientation.__class__(w=0.0)), (1.0, 1.0, 1.0), lambda matrix: matrix)


class Tf2:
    """tf2_ros with one transform that is known."""

    class TransformException(Exception):
        pass

    def __init__(self, known: TransformStamped):
        module = types.ModuleType("tf2_ros")
        module.TransformException = Tf2.TransformException  # type: ignore[attr-defined]
        module.Buffer = lambda node: self  # type: ignore[attr-defined]
        module.TransformListener = lambda buffer, node: None  # type: ignore[attr-defined]
        self.module, self.known, self.asked = module, known, []

    def lookup_transform(self, target, source, time, timeout):
        self.asked.append((target, source, time.nanoseconds))
        if (target, source) != (self.known.header.frame_id, self.known.child_frame_id):
            raise Tf2.TransformException(f"{source} is not connected")
        return self.known


def test_transforms_come_from_tf2_where_it_is_installed(monkeypatch):
    truth = np.eye(4)
    truth[:3, :3] = Rotation.from_rotvec([0.3, -0.2, 0.9]).as_matrix()
    truth[:3, 3] = (1.0, 2.0, 3.0)
    known = TransformStamped(child_frame_id="map")
    known.header.frame_id = "left_optical"
    pose = matrix_to_pose(truth)
    known.transform.rotation = pose.orientation
    known.transform.translation.x, known.transform.translation.y, known.transform.translation.z = 1.0, 2.0, 3.0
    tf2 = Tf2(known)
    monkeypatch.setattr(transforms.importlib, "import_module", lambda name: tf2.module)
    frames, given = FrameTransforms(node=None), pose_to_matrix(matrix_to_pose(truth))  # type: ignore[arg-type]
    np.testing.assert_allclose(frames.into(given, "map", "left_optical", 5), truth @ truth, atol=1e-9)
    assert tf2.asked == [("left_optical", "map", 5)]
    with pytest.raises(PromptError, match=r"no transform from frame 'base' to 'left_optical': base is not connected"):
        frames.into(given, "base", "left_optical", 0)
    np.testing.assert_array_equal(frames.into(given, "/left_optical", "left_optical", 0), given)


def test_without_tf2_only_the_camera_frame_is_taken(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(transforms.importlib, "import_module", missing)
    with pytest.raises(PromptError, match="frame 'map' to 'left_optical' needs tf2_ros, which is not installed: stay in"):
        FrameTransforms(node=None).into(np.eye(4), "map", "left_optical", 0)  # type: ignore[arg-type]
