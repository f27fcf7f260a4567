"""/diagnostics over DDS: the shape that rqt and diagnostic_aggregator read, and faults that come, are named, and go."""

import dataclasses
import platform
import re

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from semantic_stereo_ros.msg import ObjectDistanceArray
from sensor_msgs.msg import Image

from semantic_stereo_ros.nodes.health.process_usage import UsageMonitor, resident_mb
from semantic_stereo_ros.nodes.messages.conversions import make_header, stamp_to_ns
from semantic_stereo_ros.synthetic import random_sequence

pytestmark = pytest.mark.xdist_group("dds")

SIZE_WH = (320, 240)
PERIOD_NS = 100_000_000


class Patient:
    """A pipeline_node with a camera that plays one scene as fast as it is answered; `change` spoils what is sent."""

    def __init__(self, graph, camera):
        self.graph, self.camera = graph, camera
        self.process = graph.start("pipeline_node", diagnostics__row_period_s=0.2)
        self.objects = graph.subscribe(ObjectDistanceArray, "objects")
        self.diagnostics = graph.subscribe(DiagnosticArray, "/diagnostics")
        self.frame = random_sequence(5, 1, SIZE_WH)[0].frame
        self.sent_ns = 0
        camera.wait_for_subscribers()

    def play(self, condition, what, frame=None, change=None):
        """Send frames, the next when the last was answered or half a second is over, until `condition()`; its value."""
        frame = frame or self.frame

        def step():
            now_ns = self.graph.node.get_clock().now().nanoseconds
            answered = any(stamp_to_ns(m.header.stamp) == self.sent_ns for m in self.objects[-3:])
            if now_ns - self.sent_ns > (PERIOD_NS if answered else 5 * PERIOD_NS):
                self.sent_ns = now_ns
                self.camera.send(frame.left, frame.right, frame.rig, now_ns, change=change)
            return condition()

        return self.graph.until(step, what)

    def said(self, words, part=""):
        """A condition: since this call a warning or error (of one part of the node) holds `words`; its value is the status."""
        self.diagnostics.clear()

        def found():
            statuses = (status for message in self.diagnostics for status in message.status if status.name.endswith(part))
            return next((s for s in statuses if words in s.message and s.level[0] >= 1), None)

        return found

    def well(self):
        """A condition: since this call a summary says that all is well."""
        self.diagnostics.clear()
        return lambda: any(m.status[0].message.startswith("running at") for m in self.diagnostics)

    def values(self):
        newest = self.diagnostics[-1]
        return {f"{s.name.partition(': ')[2]}: {v.key}": v.value for s in newest.status for v in s.values}

    def set(self, name, value):
        client = self.graph.node.create_client(SetParameters, "pipeline_node/set_parameters")
        self.graph.until(client.service_is_ready, "the parameter service")
        future = client.call_async(SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()]))
        self.graph.until(future.done, "the parameter service's answer")
        self.graph.node.destroy_client(client)
        assert future.result().results[0].successful, future.result().results[0].reason


@pytest.fixture(scope="module")
def patient(new_graph, make_camera):
    graph = new_graph()
    patient = Patient(graph, make_camera(graph))
    patient.play(patient.well(), "a healthy node")
    return patient


def test_statuses_are_those_of_one_node_the_summary_first(patient):
    patient.play(patient.well(), "a healthy node")
    message = patient.diagnostics[-1]
    names = [status.name for status in message.status]
    parts = ("summary", "inputs", "pairing", "processing", "scene", "outputs", "machine")
    assert names == [f"pipeline_node: {part}" for part in parts]
    hardware = {status.name.partition(": ")[2]: status.hardware_id for status in message.status}
    assert hardware["machine"] == platform.node() and hardware["inputs"] == "left_optical"
    assert message.header.stamp.sec > 0


def test_values_are_measured(patient):
    patient.play(patient.well(), "a healthy node")
    patient.play(lambda: patient.values().get("scene: row error, median (px)", "unknown") != "unknown", "a row error")
    patient.play(lambda: patient.values().get("pairing: paired (%)") == "100", "five seconds without a lost image")
    values = patient.values()
    assert float(values["scene: row error, median (px)"]) < 0.3
    assert 50 < float(values["scene: pixels with disparity (%)"]) <= 100
    assert 10 < float(values["machine: memory (MB)"]) < 4000 and float(values["machine: CPU (cores)"]) > 0
    assert re.fullmatch(r"\d+ visible.*; scores [\d.]+ to [\d.]+", values["scene: objects"])
    assert values["processing: stereo backend"] == "sgbm"
    for stage in ("stereo", "segmentation", "fusion", "tracking", "processing", "publishing"):
        p50, p95 = (float(text) for text in values[f"processing: {stage} p50 / p95 (ms)"].split(" / "))
        assert 0 < p50 <= p95, stage
    age = [float(text) for text in values["outputs: age p50 / p95 (ms)"].split(" / ")]
    assert float(values["processing: processing p50 / p95 (ms)"].split(" / ")[0]) < age[1]


def lowered(frame, rows):
    return dataclasses.replace(frame, right_image=np.roll(frame.right, rows, axis=0))


@pytest.mark.parametrize(("rows", "words", "level"), [(2, "rows of the pair are", 1), (4, "the pair is not rectified: rows are", 2)])
def test_a_camera_that_moved_is_noticed_and_its_return_too(patient, rows, words, level):
    patient.set("diagnostics.max_row_error_px", 3.0)
    status = patient.play(patient.said(words), "the row error", lowered(patient.frame, rows))
    measured = re.search(r"(\d\.\d) px apart \(median of", status.message)
    assert status.level[0] == level and measured and float(measured[1]) == pytest.approx(rows, abs=0.3)
    patient.play(patient.well(), "a healthy node again")


def test_a_covered_lens_is_named(patient):
    dark = dataclasses.replace(patient.frame, right_image=cv2.GaussianBlur(patient.frame.right, (0, 0), 40))
    patient.play(patient.said("of the pixels have a known disparity"), "the blind view", dark)
    patient.play(patient.well(), "a healthy node again")


def test_skew_is_named_with_its_threshold(patient):
    def late(left, right, left_info, right_info):
        right.header = make_header(stamp_to_ns(left.header.stamp) + 4_000_000, left.header.frame_id)

    patient.set("diagnostics.max_skew_ms", 2.0)
    patient.play(patient.said("more than diagnostics.max_skew_ms = 2"), "the skew", change=late)
    patient.set("diagnostics.max_skew_ms", 5.0)
    patient.play(patient.well(), "a healthy node again")


def test_thresholds_change_at_run_time(patient):
    patient.set("diagnostics.min_input_rate_hz", 500.0)
    patient.play(patient.said("less than diagnostics.min_input_rate_hz = 500"), "the slow input")
    patient.set("diagnostics.min_input_rate_hz", 0.0)
    patient.play(patient.well(), "a healthy node again")


def test_a_subscriber_that_asks_for_too_much_is_named(patient):
    asking = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscription = patient.graph.node.create_subscription(ObjectDistanceArray, "objects", lambda _: None, asking)
    named = "a subscriber does not get /objects, its quality of service does not fit: /tester"
    status = patient.play(patient.said(named, part=": summary"), "the subscriber's name")
    assert "transient local subscription" in status.message
    patient.graph.node.destroy_subscription(subscription)
    patient.play(patient.well(), "a healthy node again")


def test_a_publisher_that_offers_too_little_is_named(new_graph, make_camera):
    graph = new_graph()
    camera = make_camera(graph, reliable=False)
    graph.start("pipeline_node", input__reliability="reliable")
    diagnostics = graph.subscribe(DiagnosticArray, "/diagnostics")

    named = "/left/image_rect: a publisher's quality of service does not fit: /tester"  # its name may come later than its offer
    status = graph.until(lambda: next((m.status[0] for m in diagnostics if named in m.status[0].message), None), "the publisher's name")
    assert status.level == b"\x02" and "input.reliability to best_effort" in status.message
    graph.node.destroy_publisher(camera.images[0])
    graph.node.destroy_publisher(camera.images[1])
    better = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
    camera.images = [graph.node.create_publisher(Image, f"{side}/image_rect", better) for side in ("left", "right")]
    frame = random_sequence(5, 1, SIZE_WH)[0].frame
    diagnostics.clear()

    def heard():
        camera.send(frame.left, frame.right, frame.rig, graph.node.get_clock().now().nanoseconds)
        return [m for m in diagnostics if m.status[0].message.startswith(("idle", "running"))]

    graph.until(heard, "the end of the mismatch")


def test_growth_counts_from_when_the_process_is_warm():
    monitor = UsageMonitor(warm_s=60.0)
    assert monitor.measure(0.0).grown_mb is None
    monitor.begin(10.0)
    assert monitor.measure(20.0).grown_mb is None and monitor.measure(70.0).grown_mb == 0.0
    held = np.ones(80_000_000, np.uint8)
    found = monitor.measure(71.0)
    assert found.grown_mb is not None and 70 < found.grown_mb < 150 and found.rss_mb == pytest.approx(resident_mb(), abs=20) and held.any()
    monitor.begin(80.0)
    assert monitor.measure(81.0).grown_mb is None
