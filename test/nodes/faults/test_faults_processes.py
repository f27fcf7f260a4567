"""Processes that die, hang, come back, or share a machine: the graph goes on and says who is missing."""

import itertools
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from patient import SIZE_WH, Patient, scene_of

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from semantic_stereo_ros.msg import ObjectDistanceArray
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from semantic_stereo_ros.nodes.messages.conversions import stamp_to_ns
from semantic_stereo_ros.nodes.player_node import FRAME_QOS
from semantic_stereo_ros.nodes.runtime import shared_memory

pytestmark = [pytest.mark.xdist_group("dds"), pytest.mark.faults]

PLAYER = {"player__frames": 3, "player__preload": True, "player__loop": True, "player__width": 640, "player__height": 480}


def killed(process: subprocess.Popen) -> None:
    """kill -9, and the shared memory that it leaves taken away, as `doctor --clean` would."""
    segments = shared_memory.segments_of(process.pid)
    process.kill()
    process.wait()
    shared_memory.remove_orphans(segments)


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.long)])
def test_player_is_killed_and_comes_back(new_graph, record_property, kills):
    """kill -9 while images are on their way (with several kills, at other moments of the frame each time)."""
    graph = new_graph()
    objects, diagnostics = graph.subscribe(ObjectDistanceArray, "objects"), graph.subscribe(DiagnosticArray, "/diagnostics")
    sent = graph.subscribe(Header, "frame", FRAME_QOS)
    images = graph.subscribe(Image, "right/image_rect")
    pipeline = graph.start("pipeline_node")
    player = graph.start("player_node", player__rate_hz=30.0, **PLAYER)
    graph.until(lambda: objects, "the first answer")
    for number in range(kills):
        images.clear()
        graph.until(lambda: images, "an image on its way")
        time.sleep(number * 0.033 / kills)  # not a wait: it places the kill within the frame's period
        killed(player)
        diagnostics.clear()

        def absent():
            texts = (status.message for message in diagnostics for status in message.status)
            return any(re.search("nobody publishes.*left/image_rect|no image.*left/image_rect", text) for text in texts)

        graph.until(absent, "a diagnostic that misses the player")
        sent.clear()
        player = graph.start("player_node", player__rate_hz=30.0, **PLAYER)
        graph.until(lambda: sent, "the player's return")
        first_ns = stamp_to_ns(sent[0].stamp)
        graph.until(lambda: stamp_to_ns(objects[-1].header.stamp) >= stamp_to_ns(sent[0].stamp), "an answer to the player that returned")
        recovery_s = (time.time_ns() - first_ns) / 1e9
        record_property("measured", f"player killed, from its first new frame: {recovery_s:.2f} s")
        assert pipeline.poll() is None


FROZEN_READER = """
import sys, rclpy, time
from sensor_msgs.msg import PointCloud2
from semantic_stereo_ros.msg import ObjectDistanceArray
rclpy.init(domain_id=int(sys.argv[1]))
node = rclpy.create_node("frozen")
received = []
node.create_subscription(PointCloud2, "points", received.append, 10)
node.create_subscription(ObjectDistanceArray, "objects", received.append, 10)
while len(received) < 4:
    rclpy.spin_once(node)
print("reading", flush=True)
while True:
    rclpy.spin_once(node)
"""


@pytest.mark.parametrize("how", ["never spins", pytest.param("stopped", marks=pytest.mark.long)])
def test_slow_consumer_does_not_hold_up_the_others(new_patient, recovered, stopped, how):
    """A reliable subscriber that takes nothing: everybody else still gets the answer to every frame."""
    patient = new_patient()
    graph = patient.graph
    recovered(patient, "start")
    reliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    if how == "never spins":
        node = rclpy.create_node("never_spins", context=graph.context)
        node.create_subscription(PointCloud2, "points", lambda _: None, reliable)
        node.create_subscription(ObjectDistanceArray, "objects", lambda _: None, reliable)
    else:
        node = None
        command = [sys.executable, "-c", FROZEN_READER, str(graph.domain_id)]
        with graph.log("frozen").open("w", encoding="utf-8") as log:
            frozen = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        graph.processes.append(frozen)
        patient.play(lambda: "reading" in graph.log("frozen").read_text(encoding="utf-8"), "the other reader's first messages")
        stopped(frozen)
    for _ in range(50):
        stamp_ns = patient.send()
        patient.graph.until(patient.answered(stamp_ns), "the answer to a frame beside the slow consumer")
    recovered(patient, f"slow consumer that {how}")
    if node is not None:
        node.destroy_node()


NODES = ("stereo_node", "segmentation_node", "fusion_node")


@pytest.mark.parametrize(
    "order", [(2, 1, 0), *(pytest.param(o, marks=pytest.mark.long) for o in itertools.permutations(range(3)) if o != (2, 1, 0))]
)
def test_three_nodes_started_in_any_order(new_graph, make_camera, scene, recovered, order):
    """Each starts only when the one before is up and, while others are missing, says what it waits for; then everything flows."""
    graph = new_graph()
    camera, diagnostics = make_camera(graph), graph.subscribe(DiagnosticArray, "/diagnostics", 50)
    objects, processes = graph.subscribe(ObjectDistanceArray, "objects"), []

    def said(name, pattern):
        return any(name in s.name and re.search(pattern, s.message) for m in diagnostics for s in m.status)

    for name in (NODES[number] for number in order):
        assert not objects
        processes.append(graph.start(name))
        graph.until(lambda name=name: said(name, "."), f"the first words of {name}")
    patient = Patient(graph, camera, scene, *processes)
    recovered(patient, f"nodes started in the order {order}")


@pytest.mark.long
@pytest.mark.parametrize(("killed_node", "missed"), [("stereo_node", "disparity"), ("segmentation_node", "masks")])
def test_one_of_three_nodes_is_killed_and_comes_back(new_graph, make_camera, scene, recovered, killed_node, missed):
    """The others go on, say whose messages are missing, and meet the new one."""
    graph = new_graph()
    processes = {name: graph.start(name) for name in NODES}
    patient = Patient(graph, make_camera(graph), scene, *processes.values())
    recovered(patient, "three nodes")
    killed(processes[killed_node])
    patient.play(patient.said(f"(nobody publishes|no .* has come).*{missed}"), f"a diagnostic that misses {missed}")
    processes[killed_node] = graph.start(killed_node)
    patient.processes = tuple(processes.values())
    recovered(patient, f"{killed_node} killed, starting it again included")


def test_children_end_with_a_killed_parent(tmp_path):
    """kill -9 of the demo or a test leaves neither nodes nor their shared memory behind."""
    script = (
        "import sys; from semantic_stereo_ros.nodes.harness import demo_graph; from semantic_stereo_ros.nodes.runtime import dds\n"
        "with dds.private_domain() as domain:\n"
        "    child = demo_graph.start_node('player_node', {'player.subscribers': 50}, domain, open(sys.argv[1], 'w'))\n"
        "    print(child.pid, flush=True); sys.stdin.read()"
    )
    log = tmp_path / "player.log"
    parent = subprocess.Popen([sys.executable, "-c", script, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_for(lambda: "waiting for 50 subscriber" in log.read_text(encoding="utf-8"))
    held = shared_memory.segments_of(child)
    parent.kill()
    parent.communicate()
    wait_for(lambda: not shared_memory.segments_of(child) and not alive(child))
    assert not any(path.exists() for path in held if "port" not in path.name)


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, timeout_s: float = 60.0) -> None:
    """Without a graph to spin."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.05)


@pytest.mark.long  # test_lifecycle.py has it with a backend that only waits
def test_interrupt_during_inference_ends_at_once(new_graph, make_camera, record_property):
    """SIGINT while a frame that takes long is in work: exit code 0, no traceback, and not when the frame is done."""
    graph = new_graph()
    big = scene_of((1600, 1200))
    process = graph.start("pipeline_node", stereo__sgbm__mode="hh", stereo__sgbm__num_disparities=512)
    patient = Patient(graph, make_camera(graph), big, process)
    patient.play(lambda: patient.diagnostics and patient.number("dropped"), "a frame in work while another waits", period_s=0.3)
    start_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    record_property("measured", f"SIGINT during inference, exit after {time.monotonic() - start_s:.2f} s")
    assert "Traceback" not in graph.log("pipeline_node").read_text(encoding="utf-8")


@pytest.mark.long
def test_two_pipelines_in_two_namespaces(new_graph, make_camera, record_property):
    """Two cameras at once: each answers its own scene under its own name, and a fault of one is not said of the other."""
    graph = new_graph()
    seeds, patients = {"a": 5, "b": 9}, {}
    for namespace, seed in seeds.items():
        process = graph.start("pipeline_node", f"/{namespace}")
        patients[namespace] = Patient(graph, make_camera(graph, namespace=namespace), scene_of(SIZE_WH, seed), process, namespace=namespace)
    first = {name: 0 for name in seeds}

    def send_both():
        for name, patient in patients.items():
            first[name] = patient.send()

    start_s = time.monotonic()
    patients["a"].play(lambda: all(p.answered(1)() for p in patients.values()), "answers of both", send_both)
    record_property("measured", f"two namespaces, both answer after {time.monotonic() - start_s:.2f} s")
    for name, patient in patients.items():
        others = [m for m in patients["b" if name == "a" else "a"].objects]
        own_truth = {round(o.distance_m, 3) for o in patient.scene.visible_objects}
        assert patient.objects and others and own_truth
        nearest = min(o.distance_m for o in patient.objects[-1].objects)
        assert nearest == pytest.approx(min(own_truth), rel=0.05)
    said = patients["a"].said("/?b/left/image_rect|/?b/right/image_rect")
    patients["a"].play(said, "a diagnostic about b's camera only", patients["a"].send)
    said = [(status.name, status.message) for message in patients["a"].diagnostics for status in message.status]
    assert not any("/b/" in text for name, text in said if name.startswith("a/"))
    assert not any("/a/" in text for name, text in said if name.startswith("b/"))
    for patient in patients.values():
        patient.assert_alive()
