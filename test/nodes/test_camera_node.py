"""camera_node as a process of its own, with video files for cameras."""

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from semantic_stereo_ros.msg import ObjectDistanceArray
from sensor_msgs.msg import CameraInfo, Image

from semantic_stereo_ros.geometry.calibration import CameraModel, StereoCalibration
from semantic_stereo_ros.geometry.rectification import Rectifier, with_projections
from semantic_stereo_ros.nodes.messages.conversions import (
    calibration_to_infos,
    image_to_array,
    infos_to_calibration,
    make_header,
    stamp_to_ns,
)
from semantic_stereo_ros.synthetic import demo_sequence

SIZE = WIDTH, HEIGHT = 320, 240
TRANSLATION_M = np.array([-0.12, 0.0005, 0.001])
MODELS = {
    "plumb_bob": [-0.1, 0.02, 0.0, 0.0, 0.0],
    "rational_polynomial": [0.8, 0.3, 0.0, 0.0, 0.05, 1.1, 0.5, 0.1],
    "equidistant": [0.01, 0.01, 0.01, 0.01],
}


def raw_calibration(model="plumb_bob"):
    matrix = np.array([[260.0, 0, 158], [0, 261, 121], [0, 0, 1]])
    left, right = (CameraModel(matrix, np.array(MODELS[model]), model, name) for name in ("left camera", "right camera"))
    rotation = cv2.Rodrigues(np.array([0.004, -0.01, 0.005]))[0]
    return StereoCalibration(left, right, SIZE, rotation=rotation, translation_m=TRANSLATION_M)


def write_calibration(folder):
    """The raw calibration as the two files that ROS's camera_calibration writes."""
    import yaml

    infos = calibration_to_infos(raw_calibration(), make_header(0, ""))
    for name, info in zip(("left", "right"), infos):
        matrices = {"camera_matrix": (info.k, 3), "rectification_matrix": (info.r, 3), "projection_matrix": (info.p, 4)}
        content = {key: {"rows": 3, "cols": columns, "data": [float(v) for v in data]} for key, (data, columns) in matrices.items()}
        content["distortion_coefficients"] = {"rows": 1, "cols": 5, "data": [float(v) for v in info.d]}
        content |= {"image_width": WIDTH, "image_height": HEIGHT, "camera_name": name, "distortion_model": info.distortion_model}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return str(folder)


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (frames[0].shape[1], HEIGHT))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return str(path)


@pytest.fixture(scope="module")
def scene():
    """Frames of the demo scene, 320x240 RGB, left and right, and their rig."""
    sequence = demo_sequence(6, SIZE)
    frames = [sequence[i].frame for i in range(6)]
    return [f.left for f in frames], [f.right for f in frames], frames[0].rig


@pytest.fixture
def graph(new_graph):
    return new_graph()


def statuses(received):
    return [status for message in received for status in message.status if "camera_node" in status.name]


@pytest.mark.parametrize("model", list(MODELS))
def test_infos_carry_the_whole_calibration(model):
    """There and back, the pair is rectified by the same maps and gives the same rig."""
    calibration = raw_calibration(model)
    back = infos_to_calibration(*calibration_to_infos(calibration, make_header(0, "left")))
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
    one, other = Rectifier(calibration), Rectifier(back)
    assert one.rig == other.rig and one.rig.baseline_m == pytest.approx(np.linalg.norm(TRANSLATION_M), rel=1e-9)
    for a, b in zip(one(image, image), other(image, image)):
        assert np.array_equal(a, b)
    assert with_projections(back) is back


def test_a_side_by_side_camera_gives_raw_pairs_with_their_calibration(graph, scene, tmp_path):
    left, right, _ = scene
    video = write_video(tmp_path / "both.avi", [np.hstack(pair) for pair in zip(left, right)])
    calibration = write_calibration(tmp_path)
    images = {side: graph.subscribe(Image, f"{side}/image_raw") for side in ("left", "right")}
    infos = {side: graph.subscribe(CameraInfo, f"{side}/camera_info") for side in ("left", "right")}
    diagnostics = graph.subscribe(DiagnosticArray, "/diagnostics")
    graph.start("camera_node", camera__device=video, camera__calibration=calibration, camera__loop=True, camera__frame_id="eye")
    received = (*images.values(), *infos.values())
    graph.until(lambda: all(len(messages) > 12 for messages in received), "two rounds of the video")

    stamps = {side: [stamp_to_ns(m.header.stamp) for m in images[side]] for side in images}
    assert sorted(stamps["left"]) == stamps["left"] and len(set(stamps["left"]) & set(stamps["right"])) >= 12
    assert {m.header.frame_id for messages in received for m in messages} == {"eye"}
    first = images["left"][0]
    assert first.encoding == "bgr8" and (first.width, first.height) == SIZE
    for side, truth in (("left", left), ("right", right)):
        shown = image_to_array(images[side][0]).astype(float)
        errors = [np.abs(shown - frame).mean() for frame in truth]
        assert min(errors) < 8.0, "JPEG changes it a little; it must be one of the frames, of this side"
        assert min(np.abs(shown - frame).mean() for frame in (right if side == "left" else left)) > min(errors) + 3.0
    calibrated = infos_to_calibration(infos["left"][-1], infos["right"][-1])
    assert Rectifier(calibrated).rig.baseline_m == pytest.approx(np.linalg.norm(TRANSLATION_M), rel=1e-6)
    fine = graph.until(lambda: [s for s in statuses(diagnostics) if s.message.startswith("running")], "a status that says so")[-1]
    assert fine.level == DiagnosticStatus.OK and {v.key: v.value for v in fine.values}["mode"].startswith("320x240 MJPG 20 Hz")


def test_two_devices_drive_the_pipeline(graph, scene, tmp_path):
    """Distances of the demo scene through camera_node and pipeline_node, as camera.launch.py starts them."""
    left, right, rig = scene
    videos = [write_video(tmp_path / f"{name}.avi", frames) for name, frames in (("left", left), ("right", right))]
    (tmp_path / "K.txt").write_text(f"{rig.fx} 0 {rig.cx} 0 {rig.fy} {rig.cy} 0 0 1\n{rig.baseline_m}\n")
    answers = graph.subscribe(ObjectDistanceArray, "objects")
    graph.start("pipeline_node", input__rectify=True)
    graph.start(
        "camera_node", camera__device=videos[0], camera__right_device=videos[1], camera__calibration=str(tmp_path / "K.txt"),
        camera__loop=True, camera__fps=5.0,
    )  # fmt: skip
    answer = graph.until(lambda: next((a for a in answers if a.status == ObjectDistanceArray.OK and a.objects), None), "objects")
    assert all(0.5 < o.distance_m < 40.0 for o in answer.objects if o.state == o.VISIBLE)


def test_a_lost_camera_is_said_and_opened_again(graph, scene, tmp_path):
    left, right, _ = scene
    path = tmp_path / "late.avi"
    diagnostics = graph.subscribe(DiagnosticArray, "/diagnostics")
    images = graph.subscribe(Image, "left/image_raw")
    process = graph.start("camera_node", camera__device=str(path), camera__reconnect_s=0.1)
    lost = graph.until(lambda: [s for s in statuses(diagnostics) if s.level == DiagnosticStatus.ERROR], "an error about the camera")[-1]
    assert "late.avi cannot be opened" in lost.message
    write_video(tmp_path / "early.avi", [np.hstack(pair) for pair in zip(left, right)])
    (tmp_path / "early.avi").rename(path)
    graph.until(lambda: len(images) == len(left), "every frame of the video once it is there")
    ended = graph.until(lambda: [s for s in statuses(diagnostics) if "has ended after 6 frames" in s.message], "the end to be said")
    assert ended[-1].level == DiagnosticStatus.OK and process.poll() is None
    assert graph.node.count_publishers("left/camera_info") == 0, "an uncalibrated camera says nothing of its calibration"


def test_a_calibration_of_another_size_is_refused(graph, scene, tmp_path):
    left, _, _ = scene
    video = write_video(tmp_path / "small.avi", [frame[:, :160] for frame in left])
    diagnostics = graph.subscribe(DiagnosticArray, "/diagnostics")
    graph.start("camera_node", camera__device=video, camera__calibration=write_calibration(tmp_path), camera__loop=True)
    said = graph.until(lambda: [s for s in statuses(diagnostics) if s.level == DiagnosticStatus.ERROR], "an error about the size")
    assert "320x240" in said[-1].message and "80x240" in said[-1].message


def test_nothing_is_decoded_without_subscribers(dds_environment):
    """The frames are taken, so that the next subscriber sees a fresh one, and not decoded."""
    import rclpy

    from semantic_stereo_ros.nodes.camera_node import CameraNode

    decoded = []
    capture: Any = SimpleNamespace(grab=lambda: 0.0, retrieve=lambda: decoded.append(1))
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = CameraNode(context=context, parameter_overrides=[rclpy.Parameter("camera.device", value="none.avi")])
        node._send(capture, ())
        assert not decoded and node._frames == 1
        node.destroy_node()
    finally:
        context.try_shutdown()
