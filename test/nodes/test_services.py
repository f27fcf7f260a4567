"""Prompts, enable and refusals over DDS: a node in a process of its own, with a backend that draws what its prompts say."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Pose, Vector3
from semantic_stereo_ros.msg import InstanceMasks, Prompt, PromptArray
from semantic_stereo_ros.srv import ClearPrompts, SetPrompts
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from semantic_stereo_ros.nodes.messages.conversions import array_to_image, image_to_array, make_header, stamp_to_ns
from semantic_stereo_ros.synthetic import random_sequence

pytestmark = pytest.mark.xdist_group("dds")

SIZE_WH = (320, 240)
STEP_NS = 100_000_000
RUNNER = Path(__file__).resolve().parent / "promptable_node.py"


class Prompted:
    """One node with a camera, and what it says of masks and of itself."""

    def __init__(self, graph, camera, backend):
        self.graph, self.camera = graph, camera
        import os

        environment = {**os.environ, "ROS_DOMAIN_ID": str(graph.domain_id)}
        arguments = ["--ros-args", "-p", f"segmentation.backend:={backend}"]
        with graph.log("pipeline_node").open("w", encoding="utf-8") as log:
            command = [sys.executable, str(RUNNER), "pipeline_node", *arguments]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        graph.processes.append(self.process)
        self.masks = graph.subscribe(InstanceMasks, "masks")
        self.diagnostics = graph.subscribe(DiagnosticArray, "/diagnostics")
        self.frame = random_sequence(5, 1, SIZE_WH)[0].frame
        self.stamp_ns = graph.node.get_clock().now().nanoseconds
        camera.wait_for_subscribers()
        self.clients = {}

    def call(self, kind, name, request):
        if name not in self.clients:
            self.clients[name] = self.graph.node.create_client(kind, name)
        client = self.clients[name]
        self.graph.until(client.service_is_ready, name)
        future = client.call_async(request)
        self.graph.until(future.done, f"{name}'s answer")
        return future.result()

    def set(self, *prompts, add=False, stamp_ns=0, frame_id=""):
        array = PromptArray(header=make_header(stamp_ns, frame_id), prompts=list(prompts))
        return self.call(SetPrompts, "set_prompts", SetPrompts.Request(prompts=array, add=add))

    def clear(self, *object_ids):
        return self.call(ClearPrompts, "clear_prompts", ClearPrompts.Request(object_ids=list(object_ids)))

    def send(self):
        self.stamp_ns += STEP_NS
        self.camera.send(self.frame.left, self.frame.right, self.frame.rig, self.stamp_ns)
        return self.stamp_ns

    def until_masks(self, wanted, what):
        """Send frames one after the other until the masks of one satisfy `wanted`; that message."""
        sent = [self.send()]

        def satisfied():
            answered = {stamp_to_ns(m.header.stamp): m for m in self.masks}
            if sent[-1] in answered:
                if wanted(answered[sent[-1]]):
                    return answered[sent[-1]]
                sent.append(self.send())
            return None

        return self.graph.until(satisfied, what)

    def until_said(self, words):
        self.diagnostics.clear()

        def said():
            texts = [(s.name, s.message) for m in self.diagnostics for s in m.status]
            return next((text for text in texts if words in text[1]), None)

        return self.graph.until(said, f"a diagnostic that says {words!r}")


def summaries(node):
    return [m.status[0].message for m in node.diagnostics]


def keys(masks):
    return {i.source_key: i.class_name for i in masks.instances}


def pixels(masks, source_key):
    record = next(i for i in masks.instances if i.source_key == source_key)
    return image_to_array(masks.layers[record.layer].labels) == record.label


def point(x, y, **values):
    return Prompt(kind=Prompt.POINT, xy=[float(x), float(y)], **values)


def box(*xyxy, **values):
    return Prompt(kind=Prompt.BOX, box_xyxy=[float(v) for v in xyxy], **values)


@pytest.fixture(scope="module")
def node(new_graph, make_camera):
    graph = new_graph()
    prompted = Prompted(graph, make_camera(graph), "drawn")
    sent = []

    def answered():
        """What is sent before both ends know each other may be lost: send again after a while."""
        now_ns = graph.node.get_clock().now().nanoseconds
        if not sent or now_ns - sent[-1] > 2_000_000_000:
            sent.append(now_ns)
            prompted.send()
        return prompted.masks

    graph.until(answered, "the first masks")
    return prompted


@pytest.fixture(autouse=True)
def without_prompts(request):
    yield
    if "node" in request.fixturenames:
        assert request.getfixturevalue("node").clear().success


def test_points_boxes_and_masks_become_objects(node):
    mask = np.zeros(SIZE_WH[::-1], np.uint16)
    mask[200:220, 10:30] = 700
    answer = node.set(
        box(100, 50, 140, 90, object_id=3, class_name="box"),
        point(40, 40, object_id=9, class_name="cup"),
        point(120, 70, object_id=3, class_name="box", negative=True),
        Prompt(kind=Prompt.MASK, mask=array_to_image(mask, Header())),
    )
    assert answer.success and list(answer.object_ids) == [3, 9, 3, 1], answer.message
    masks = node.until_masks(lambda m: m.instances, "masks of the prompts")
    assert keys(masks) == {"prompt:3": "box", "prompt:9": "cup", "prompt:1": "object"}
    drawn = pixels(masks, "prompt:3")
    assert drawn[50:90, 100:112].all() and not drawn[66:74, 116:124].any() and not drawn[:50].any()
    np.testing.assert_array_equal(pixels(masks, "prompt:1"), mask > 0)


def test_objects_are_added_and_cleared_one_by_one(node):
    assert list(node.set(box(10, 10, 50, 50, object_id=1)).object_ids) == [1]
    assert node.set(box(60, 60, 90, 90, object_id=2), add=True).success
    node.until_masks(lambda m: keys(m).keys() == {"prompt:1", "prompt:2"}, "both objects")
    answer = node.clear(1)
    assert answer.success and list(answer.object_ids) == [2]
    node.until_masks(lambda m: keys(m).keys() == {"prompt:2"}, "the second object alone")
    assert "no prompt of object 1 is set" in node.clear(1).message
    assert node.set(box(10, 10, 50, 50, object_id=5)).success
    node.until_masks(lambda m: keys(m).keys() == {"prompt:5"}, "the new object in place of the others")


def test_a_mask_by_reference(node):
    node.set(box(10, 20, 50, 60, object_id=1))
    masks = node.until_masks(lambda m: m.instances, "masks")
    answer = node.set(Prompt(kind=Prompt.MASK_LABEL, mask_label=masks.instances[0].label, object_id=8))
    assert answer.success, answer.message
    again = node.until_masks(lambda m: keys(m).keys() == {"prompt:8"}, "the object of the mask")
    np.testing.assert_array_equal(pixels(again, "prompt:8"), pixels(masks, "prompt:1"))


def test_a_3d_box_in_the_camera_frame(node):
    pose = Pose()
    pose.position.z = 4.0
    rig = node.frame.rig
    for frame_id in ("", "left_optical"):
        prompt = Prompt(kind=Prompt.BOX_3D, box_pose=pose, box_size=Vector3(x=1.0, y=1.0, z=0.01), object_id=4)
        assert node.set(prompt, frame_id=frame_id).success
        drawn = pixels(node.until_masks(lambda m: keys(m).keys() == {"prompt:4"}, "the box"), "prompt:4")
        columns = np.flatnonzero(drawn.any(axis=0))
        half = rig.fx * 0.5 / 3.995
        assert (columns[0], columns[-1]) == pytest.approx((rig.cx - half, rig.cx + half), abs=1)
        node.clear()


@pytest.mark.parametrize(
    ("prompt", "options", "words"),
    [
        (point(500, 10), {}, "prompt 0: the point (500, 10) of object 1 lies outside the 320x240 image"),
        (point(float("nan"), 10), {}, "2 finite numbers"),
        (box(50, 50, 10, 90), {}, "x_min < x_max"),
        (Prompt(kind=77), {}, "its kind 77 is unknown; known: 0 (POINT)"),
        (Prompt(kind=Prompt.MASK, mask=array_to_image(np.ones((5, 5), np.uint8), Header())), {}, "is 5x5 but the image 320x240"),
        (Prompt(kind=Prompt.MASK), {}, "prompt 0"),
        (Prompt(kind=Prompt.MASK_LABEL, mask_label=999), {}, "the newest masks have no label 999 in layer 0"),
        (Prompt(kind=Prompt.BOX_3D), {}, "size above zero"),
        (Prompt(kind=Prompt.BOX_3D, box_size=Vector3(x=1.0, y=1.0, z=1.0)), {"frame_id": "map"}, "frame 'map'"),
        (point(5, 5), {"stamp_ns": 1_000_000_000}, "for the frame of 1.000 s but the newest one is of"),
    ],
)
def test_bad_prompts_are_refused_with_a_reason_and_the_old_ones_stay(node, prompt, options, words):
    assert node.set(box(10, 10, 50, 50, object_id=6)).success
    node.until_masks(lambda m: keys(m).keys() == {"prompt:6"}, "the good prompt")
    if prompt.object_id == 0:
        prompt.object_id = 1
    answer = node.set(prompt, **options)
    assert not answer.success and words in answer.message and not answer.object_ids
    node.until_masks(lambda m: keys(m).keys() == {"prompt:6"}, "the good prompt still")


def test_prompts_of_a_stamp_near_the_newest_frame_are_taken(node):
    newest = stamp_to_ns(node.until_masks(lambda m: True, "a frame").header.stamp)
    assert node.set(box(10, 10, 50, 50, object_id=6), stamp_ns=newest).success


def test_the_topic_replaces_all_prompts(node):
    node.set(box(10, 10, 50, 50, object_id=1))
    publisher = node.graph.publisher(PromptArray, "prompts")
    node.graph.until(publisher.get_subscription_count, "the node's subscription")
    publisher.publish(PromptArray(prompts=[box(100, 100, 120, 120, object_id=2, class_name="dog")]))
    node.until_masks(lambda m: keys(m) == {"prompt:2": "dog"}, "the topic's object alone")
    publisher.publish(PromptArray())
    node.until_masks(lambda m: not m.instances, "no objects")


def test_what_a_topic_brings_and_cannot_be_used_is_said_in_the_diagnostics(node):
    publisher = node.graph.publisher(PromptArray, "prompts")
    node.graph.until(publisher.get_subscription_count, "the node's subscription")
    publisher.publish(PromptArray(prompts=[box(5, 5, 1, 1)]))
    node.diagnostics.clear()
    sent = [node.send()]

    def said():
        if sent[-1] in {stamp_to_ns(m.header.stamp) for m in node.masks}:
            sent.append(node.send())
        return [s for m in node.diagnostics for s in m.status if "prompts were not taken: prompt 0: a box must have" in s.message]

    assert node.graph.until(said, "a diagnostic about the prompts")[0].level == b"\x01"


def test_disabled_node_rests_says_so_and_goes_on(node):
    def enable(on):
        return node.call(SetBool, "pipeline_node/enable", SetBool.Request(data=on))

    assert (answer := enable(False)).success and answer.message == "disabled"
    assert enable(False).message == "already disabled"
    node.until_said("switched off by the service `enable`")
    node.masks.clear()
    stamp_ns = node.send()
    node.until_said("switched off by the service `enable`")
    assert not node.masks
    assert enable(True).message == "enabled"
    node.diagnostics.clear()

    def goes_on(masks):
        return stamp_to_ns(masks.header.stamp) > stamp_ns and any("switched off" not in text for text in summaries(node))

    node.until_masks(goes_on, "masks again, and no word of `enable`")


def test_a_backend_that_takes_none_refuses_clearly(new_graph, make_camera):
    graph = new_graph()
    prompted = Prompted(graph, make_camera(graph), "geometric")
    answer = prompted.set(box(10, 10, 50, 50))
    assert (
        not answer.success and "'geometric' takes no prompts; choose segmentation.backend" in answer.message and "drawn" in answer.message
    )
    assert not prompted.clear().success
