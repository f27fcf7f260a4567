"""A real graph for the tests: pipeline_node in a process of its own, a tester node here, DDS between them."""

from __future__ import annotations

import os
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TIMEOUT_S = float(os.environ.get("SEMANTIC_STEREO_TEST_TIMEOUT", "240"))
"""How long a condition is waited for: so long that no other programs, only a fault, can let it pass."""


class Graph:
    """A private domain with processes in it and a tester node in this one. Waits are for conditions, never for time to pass."""

    def __init__(self, domain_id: int, folder: Path, namespace: str = "") -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.domain_id = domain_id
        self.folder = folder
        self.processes: list[subprocess.Popen] = []
        self.received: dict[str, list] = defaultdict(list)
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.node = rclpy.create_node("tester", context=self.context, namespace=namespace)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self._publishers: dict = {}
        self._subscriptions: dict = {}

    def start(self, name: str, namespace: str = "", **parameters) -> subprocess.Popen:
        """Start one of the nodes; its output goes to <folder>/<name>.log. Dots of parameter names are written as __."""
        from semantic_stereo_ros.nodes.harness.demo_graph import start_node

        values = {key.replace("__", "."): value for key, value in parameters.items()}
        with self.log(name).open("a", encoding="utf-8") as log:
            process = start_node(name, values, self.domain_id, log, namespace)
        self.processes.append(process)
        return process

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def subscribe(self, kind: type, topic: str, qos: Any = 10) -> list:
        """The list that messages of a topic are appended to; emptied by another call."""
        self.received[topic].clear()
        if topic not in self._subscriptions:
            self._subscriptions[topic] = self.node.create_subscription(kind, topic, self.received[topic].append, qos)
        return self.received[topic]

    def unsubscribe(self, *topics: str) -> None:
        for topic in topics or list(self._subscriptions):
            self.node.destroy_subscription(self._subscriptions.pop(topic))

    def publisher(self, kind: type, topic: str, qos: Any = 10):
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
        return self._publishers[topic]

    def until(self, condition, what: str, timeout_s: float = TIMEOUT_S):
        """Spin until `condition()` is true; its value. Fails the test with `what` and the nodes' output otherwise."""
        end_s = time.monotonic() + timeout_s
        while not (value := condition()):
            self.executor.spin_once(timeout_sec=0.05)
            if time.monotonic() > end_s:
                logs = "\n".join(f"--- {f.name}\n{f.read_text(encoding='utf-8')[-2000:]}" for f in self.folder.glob("*.log"))
                pytest.fail(f"waited {timeout_s:g} s in vain for: {what}\n{logs}")
        return value

    def ended(self, process: subprocess.Popen) -> int:
        """The exit code of a process that is about to end; TimeoutExpired where it goes on."""
        return process.wait(TIMEOUT_S)

    def close(self) -> None:
        import rclpy

        from semantic_stereo_ros.nodes.harness.demo_graph import stop_nodes

        stop_nodes(*self.processes)
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)
        self.context.destroy()  # takes the shared memory away


class Camera:
    """Publishes stereo frames into a graph, as a driver would."""

    def __init__(self, graph: Graph, reliable: bool = True, image: str = "image_rect", namespace: str = "") -> None:
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CameraInfo, Image

        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT)
        self.graph = graph
        sides = [f"{namespace}/{side}" if namespace else side for side in ("left", "right")]
        self.images = [graph.publisher(Image, f"{side}/{image}", qos) for side in sides]
        self.infos = [graph.publisher(CameraInfo, f"{side}/camera_info", 5) for side in sides]

    def wait_for_subscribers(self) -> None:
        publishers = (*self.images, *self.infos)
        self.graph.until(lambda: all(p.get_subscription_count() for p in publishers), "pipeline_node's subscriptions")

    def send(self, left: np.ndarray, right: np.ndarray, rig, stamp_ns: int, *, change=None, skip: tuple[int, ...] = ()) -> None:
        """change(left_image, right_image, left_info, right_info) may spoil the messages; skip: which of them, by number, are withheld."""
        from semantic_stereo_ros.nodes.messages.conversions import array_to_image, make_header, rig_to_infos

        header = make_header(stamp_ns, "left_optical")
        images = [array_to_image(image, header) for image in (left, right)]
        infos = rig_to_infos(rig, header)
        if change is not None:
            change(*images, *infos)
        for number, publisher, message in zip((2, 3, 0, 1), (*self.infos, *self.images), (*infos, *images)):
            if number not in skip:
                publisher.publish(message)


@pytest.fixture(scope="session")
def dds_environment():
    """Skips without rclpy or the messages; gives every process of this session the profile and keeps discovery on this machine."""
    pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
    pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")
    from semantic_stereo_ros.nodes.runtime import dds

    before = dict(os.environ)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    dds.use_large_segment(3)
    yield
    for name in (*dds.PROFILE_VARIABLES, "ROS_AUTOMATIC_DISCOVERY_RANGE"):
        os.environ.pop(name, None)
        if name in before:
            os.environ[name] = before[name]


@pytest.fixture(scope="module")
def new_graph(dds_environment, tmp_path_factory):
    """new_graph() -> an empty Graph in a domain of its own."""
    from contextlib import ExitStack

    from semantic_stereo_ros.nodes.runtime import dds

    with ExitStack() as stack:

        def make() -> Graph:
            domain_id = stack.enter_context(dds.private_domain())
            graph = Graph(domain_id, tmp_path_factory.mktemp("graph"))
            stack.callback(graph.close)
            return graph

        yield make


@pytest.fixture(scope="module")
def make_camera():
    """make_camera(graph, reliable=..., image=..., namespace=...) -> a Camera."""
    return Camera
