"""output.target_frame: against a rotation by hand, and over DDS with tf2_ros where it is installed."""

import importlib.util

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from scipy.spatial.transform import Rotation
from semantic_stereo_ros.msg import ObjectDistance, ObjectDistanceArray
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from semantic_stereo_ros.nodes.messages.conversions import make_header
from semantic_stereo_ros.nodes.outputs.target_frame import Placement, TargetFrame
from semantic_stereo_ros.nodes.runtime.transforms import TransformError

INSTALLED = importlib.util.find_spec("tf2_ros") is not None
OPTICAL_TO_BODY = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""z forward, x right, y down -> x forward, y left, z up (REP-103)."""
MOUNT_M = np.array([0.2, 0.0, 0.5])
NAN = float("nan")


def matrix():
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = OPTICAL_TO_BODY, MOUNT_M
    return result


def test_objects_and_points_move_as_a_body():
    item = ObjectDistance(depth_m=4.0, distance_m=4.2, nearest_m=3.9)
    item.position = Point(x=1.0, y=-0.5, z=4.0)
    item.position_covariance = np.diag([1.0, 2.0, 9.0]).ravel()
    item.velocity, item.velocity_covariance = Vector3(x=0.1, y=0.0, z=-2.0), np.diag([0.1, 0.2, 0.9]).ravel()
    item.box_pose = Pose(position=Point(x=1.0, y=-0.5, z=4.5), orientation=Quaternion(w=1.0))
    boxless = ObjectDistance(position=Point(x=NAN, y=NAN, z=NAN))
    boxless.box_pose.orientation = Quaternion(x=NAN, y=NAN, z=NAN, w=NAN)
    placement = Placement(Header(frame_id="base_link"), matrix())
    moved = placement.objects(ObjectDistanceArray(header=Header(frame_id="left"), objects=[item, boxless]))

    assert moved.header.frame_id == "base_link"
    assert (item.position.x, item.position.y, item.position.z) == pytest.approx((4.2, -1.0, 1.0))
    assert (item.box_pose.position.x, item.box_pose.position.y, item.box_pose.position.z) == pytest.approx((4.7, -1.0, 1.0))
    assert (item.velocity.x, item.velocity.y, item.velocity.z) == pytest.approx((-2.0, -0.1, 0.0)), "a velocity is turned, not shifted"
    assert np.allclose(np.reshape(item.position_covariance, (3, 3)), np.diag([9.0, 1.0, 2.0]))
    assert np.allclose(np.reshape(item.velocity_covariance, (3, 3)), np.diag([0.9, 0.1, 0.2]))
    turn = item.box_pose.orientation
    assert np.allclose(Rotation.from_quat((turn.x, turn.y, turn.z, turn.w)).as_matrix(), OPTICAL_TO_BODY)
    assert (item.depth_m, item.distance_m, item.nearest_m) == pytest.approx((4.0, 4.2, 3.9)), "distances stay those of the camera"
    assert np.isnan(boxless.position.x) and np.isnan(boxless.box_pose.orientation.w)

    points = np.array([[[1.0, -0.5, 4.0], [NAN, NAN, NAN]]], np.float32)
    assert placement.points(points).dtype == np.float32
    assert np.allclose(placement.points(points), [[[4.2, -1.0, 1.0], [NAN, NAN, NAN]]], equal_nan=True)


def test_without_a_target_nothing_is_touched():
    header, points = make_header(5, "left"), np.zeros((2, 3))
    placement = TargetFrame(None).place("", header)  # pyright: ignore[reportArgumentType]
    assert placement.points(points) is points and placement.header is header


def test_a_frame_waits_once_for_a_transform_that_does_not_come():
    class Unknown:
        asked = 0

        def lookup(self, *_):
            self.asked += 1
            raise TransformError("no transform")

    unknown = Unknown()
    target, header = TargetFrame(unknown), make_header(5, "left")  # pyright: ignore[reportArgumentType]
    for _ in range(3):
        with pytest.raises(TransformError):
            target.place("base_link", header)
    assert unknown.asked == 1


@pytest.mark.skipif(INSTALLED, reason="tf2_ros is installed")
def test_without_tf2_it_is_said_what_is_missing(new_graph):
    graph = new_graph()
    diagnostics, _ = graph.subscribe(DiagnosticArray, "/diagnostics"), graph.subscribe(ObjectDistanceArray, "objects")
    graph.start("pipeline_node", output__target_frame="base_link")
    graph.start("player_node", player__width=320, player__height=240, player__rate_hz=5.0, player__loop=True)
    said = "needs tf2_ros, which is not installed"
    graph.until(lambda: any(said in s.message for m in diagnostics for s in m.status), "a diagnostic that names tf2_ros")


@pytest.mark.skipif(not INSTALLED, reason="tf2_ros is not installed")
@pytest.mark.parametrize("nodes", [("pipeline_node",), ("stereo_node", "segmentation_node", "fusion_node")], ids=["single", "split"])
def test_objects_and_clouds_come_in_the_target_frame(new_graph, nodes):
    """First TF knows nothing, which is said; then the same frames come as seen from the robot's base."""
    import tf2_ros  # pyright: ignore[reportMissingImports]
    from geometry_msgs.msg import TransformStamped

    graph = new_graph()
    diagnostics = graph.subscribe(DiagnosticArray, "/diagnostics")
    answers = graph.subscribe(ObjectDistanceArray, "objects")
    obstacles = graph.subscribe(PointCloud2, "obstacles")
    for name in nodes:
        graph.start(name, output__target_frame="base_link")
    graph.start("player_node", player__width=320, player__height=240, player__rate_hz=3.0, player__loop=True)
    graph.until(lambda: any("no transform from frame" in s.message for m in diagnostics for s in m.status), "the missing transform", 90.0)
    assert not answers and not obstacles, "nothing is given in a frame that it is not in"

    broadcaster = tf2_ros.StaticTransformBroadcaster(graph.node)
    transform = TransformStamped(child_frame_id="camera_left_optical_frame")
    transform.header.frame_id = "base_link"
    turn = Rotation.from_matrix(OPTICAL_TO_BODY).as_quat().tolist()
    transform.transform.rotation = Quaternion(x=turn[0], y=turn[1], z=turn[2], w=turn[3])
    transform.transform.translation = Vector3(x=MOUNT_M[0], y=MOUNT_M[1], z=MOUNT_M[2])
    broadcaster.sendTransform(transform)
    answer = graph.until(lambda: next((a for a in answers if a.objects), None), "objects in the robot's frame", 90.0)
    cloud = graph.until(lambda: next((c for c in obstacles if c.width), None), "obstacles in the robot's frame")
    assert answer.header.frame_id == cloud.header.frame_id == "base_link"
    for item in (item for item in answer.objects if item.state == ObjectDistance.VISIBLE):
        seen = np.array([item.position.x, item.position.y, item.position.z]) - MOUNT_M
        assert np.linalg.norm(seen) == pytest.approx(item.distance_m, abs=5 * item.distance_sigma_m + 0.05)
        assert seen[0] == pytest.approx(item.depth_m, abs=5 * item.depth_sigma_m + 0.05), "what is deep is in front of the robot"
    xyz = np.frombuffer(cloud.data, np.float32).reshape(-1, 3)
    assert xyz[:, 0].min() > 0.3 and np.isfinite(xyz).all()
