"""The ROS part of the demo: player_node and pipeline_node as processes of their own, and a listener here that records everything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.msg import ObjectDistanceArray
from semantic_stereo_ros.nodes.harness import child
from semantic_stereo_ros.nodes.harness.recording import Recorder
from semantic_stereo_ros.nodes.messages.conversions import stamp_to_ns
from semantic_stereo_ros.nodes.outputs.publishers import OUTPUTS
from semantic_stereo_ros.nodes.player_node import FRAME_QOS
from semantic_stereo_ros.nodes.runtime import dds, shared_memory

DISCOVERY = "ROS_AUTOMATIC_DISCOVERY_RANGE"
PROCESSES = 3  # player, pipeline, listener: each takes a shared-memory segment
RECORDED_INPUTS: tuple[tuple[str, type], ...] = (
    ("left/image_rect", Image),
    ("right/image_rect", Image),
    ("left/camera_info", CameraInfo),
    ("right/camera_info", CameraInfo),
    ("pose", Odometry),
    ("frame", Header),
    ("/diagnostics", DiagnosticArray),
)
LARGE = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=ReliabilityPolicy.RELIABLE)


class DemoError(SemanticStereoError):
    """The graph did not do what it should; the text says which process and why."""


@dataclass(frozen=True, eq=False)
class DemoFrame:
    """One answered frame. index: the source's frame number; age_s: capture stamp to objects received."""

    index: int
    stamp_ns: int
    age_s: float
    objects: ObjectDistanceArray


@dataclass
class DemoResult:
    """frames: the answered ones, in order. sent: frames that the player sent. bag: the MCAP's folder. rate_hz: answers per second."""

    frames: list[DemoFrame] = field(default_factory=list)
    sent: int = 0
    rate_hz: float = float("nan")
    bag: Path | None = None
    recorded: dict[str, int] = field(default_factory=dict)
    log: Path | None = None
    profile: str = ""

    @property
    def dropped(self) -> int:
        """Frames sent without an answer."""
        return self.sent - len(self.frames)

    def age_percentile_s(self, percent: float) -> float:
        """Percentile of capture stamp to objects received; NaN without frames."""
        return float(np.percentile([frame.age_s for frame in self.frames], percent)) if self.frames else float("nan")


class Listener(Node):
    """Collects the objects and records every topic, as bytes."""

    def __init__(self, context: Context, recorder: Recorder | None, on_frame: Callable[[DemoFrame], None] | None) -> None:
        super().__init__("demo_listener", context=context)
        self._on_frame = on_frame
        self._recorder = recorder
        self.indices: dict[int, int] = {}
        self.frames: list[DemoFrame] = []
        self.first_s = self.last_s = 0.0
        wanted = [(output.topic, output.kind) for output in OUTPUTS] + list(RECORDED_INPUTS)
        if recorder is None:
            wanted = [("objects", ObjectDistanceArray), ("frame", Header)]
        for topic, kind in wanted:
            name = self.resolve_topic_name(topic)
            if recorder is not None:
                recorder.add_topic(name, f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}")

            def receive(data: Any, topic: str = topic, name: str = name) -> None:
                self._receive(topic, name, data)

            self.create_subscription(kind, topic, receive, FRAME_QOS if topic == "frame" else LARGE, raw=True)

    def _receive(self, topic: str, name: str, data: bytes) -> None:
        now_ns = self.get_clock().now().nanoseconds
        if topic == "objects":
            message = deserialize_message(data, ObjectDistanceArray)
            self._answer(stamp_to_ns(message.header.stamp), now_ns, message)
        elif topic == "frame":
            header = deserialize_message(data, Header)
            self.indices[stamp_to_ns(header.stamp)] = int(header.frame_id)
        if self._recorder is not None:
            self._recorder.write(name, now_ns, data)

    def _answer(self, stamp_ns: int, now_ns: int, message: ObjectDistanceArray) -> None:
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        frame = DemoFrame(self.indices.get(stamp_ns, -1), stamp_ns, (now_ns - stamp_ns) / 1e9, message)
        self.frames.append(frame)
        if self._on_frame is not None:
            self._on_frame(frame)


def run_demo(
    output_dir: str | Path,
    frames: int = 90,
    *,
    size_wh: tuple[int, int] = (640, 480),
    rate_hz: float = 15.0,
    source: str = "synthetic",
    parameters: dict[str, Any] | None = None,
    record: bool = True,
    on_frame: Callable[[DemoFrame], None] | None = None,
    timeout_s: float = 600.0,
) -> DemoResult:
    """Play `frames` synthetic frames through a pipeline_node in another process and collect what comes out.

    The player waits for each answer, so that every frame is processed however slow the machine; rate_hz is the upper limit.
    parameters: of pipeline_node, by flat key (clouds have half the resolution unless output.stride says otherwise). record: write
    every topic to output_dir/bag (MCAP). on_frame: called for each answer. The processes' output goes to output_dir/nodes.log.
    Raises DemoError when a process fails or nothing comes for `timeout_s` seconds; whatever happens, both processes are ended.
    """
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    bag = output_dir / "bag"
    if record and bag.exists():
        _remove_bag(bag)
    result = DemoResult(profile=dds.use_large_segment(PROCESSES), bag=bag if record else None, log=output_dir / "nodes.log")
    recorder = Recorder(bag) if record else None
    pipeline_arguments = {"input.use_pose": True, "input.reliability": "reliable", "output.stride": 2, **(parameters or {})}
    player_arguments = {
        "player.source": source,
        "player.frames": frames,
        "player.rate_hz": float(rate_hz),
        "player.width": size_wh[0],
        "player.height": size_wh[1],
        "player.preload": True,
        "player.wait": True,
        "player.wait_timeout_s": 30.0,
        "player.subscribers": 2 if record else 1,
    }
    try:
        with dds.private_domain() as domain_id, listening(domain_id, recorder, on_frame) as (listener, executor):
            assert result.log is not None
            with result.log.open("w", encoding="utf-8") as log:
                pipeline = start_node("pipeline_node", pipeline_arguments, domain_id, log)
                player = None
                try:
                    wait_for_start(listener, executor, pipeline, result.log)
                    player = start_node("player_node", player_arguments, domain_id, log)
                    _wait_for_end(listener, executor, player, pipeline, timeout_s, result.log)
                finally:
                    stop_nodes(*(process for process in (player, pipeline) if process is not None))
            result.frames = sorted(listener.frames, key=lambda frame: frame.stamp_ns)
            result.frames = [DemoFrame(listener.indices.get(f.stamp_ns, f.index), f.stamp_ns, f.age_s, f.objects) for f in result.frames]
            result.sent = len(listener.indices)
            if len(result.frames) > 1:
                result.rate_hz = (len(result.frames) - 1) / (listener.last_s - listener.first_s)
    finally:
        if recorder is not None:
            recorder.close()
            result.recorded = dict(recorder.counts)
    if not result.frames:
        raise DemoError(f"no objects came from pipeline_node; its output is in {result.log}{_tail(result.log)}")
    return result


@contextmanager
def listening(domain_id: int, recorder: Recorder | None, on_frame):
    """The listener in a context of its own; discovery stays on this machine."""
    before = os.environ.get(DISCOVERY)
    os.environ[DISCOVERY] = "LOCALHOST"
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    executor = SingleThreadedExecutor(context=context)
    listener = Listener(context, recorder, on_frame)
    executor.add_node(listener)
    try:
        yield listener, executor
    finally:
        executor.shutdown()
        listener.destroy_node()
        rclpy.try_shutdown(context=context)
        context.destroy()  # takes the shared memory away
        os.environ.pop(DISCOVERY)
        if before is not None:
            os.environ[DISCOVERY] = before


def start_node(name: str, parameters: dict[str, Any], domain_id: int, log, namespace: str = "") -> subprocess.Popen:
    """One of the package's nodes as a process of this Python, in a domain of this machine only; it ends when this process does."""
    arguments = ["-r", f"__ns:={namespace}"] if namespace else []
    for key, value in parameters.items():
        arguments += ["-p", f"{key}:={_yaml_value(value)}"]
    command = [sys.executable, "-m", child.__name__, f"semantic_stereo_ros.nodes.{name}", "--ros-args", *arguments]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id), DISCOVERY: "LOCALHOST"}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)


def stop_nodes(*processes: subprocess.Popen, timeout_s: float = 15.0) -> None:
    """Interrupt, then kill what does not listen."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in processes:
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            segments = shared_memory.segments_of(process.pid)
            process.kill()
            process.wait()
            shared_memory.remove_orphans(segments)  # a killed process leaves them, and nobody else would take them away
        if process.stdin is not None:
            process.stdin.close()


def _yaml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if isinstance(value, str) else repr(value)


def wait_for_start(listener: Listener, executor, pipeline: subprocess.Popen, log: Path, timeout_s: float = 60.0) -> None:
    """Until pipeline_node's last publisher is known here: what it says then is heard from the first frame on."""
    topic, end_s = listener.resolve_topic_name("objects"), time.monotonic() + timeout_s
    while not listener.count_publishers(topic):
        executor.spin_once(timeout_sec=0.1)
        if pipeline.poll() is not None:
            raise DemoError(f"pipeline_node ended with code {pipeline.returncode}; its output is in {log}{_tail(log)}")
        if time.monotonic() > end_s:
            raise DemoError(f"pipeline_node did not start within {timeout_s:g} s; its output is in {log}{_tail(log)}")


def _wait_for_end(listener: Listener, executor, player, pipeline, timeout_s: float, log: Path) -> None:
    """Spin until the player has ended and everything that was on its way has come."""
    last_change_s, count = time.monotonic(), 0
    while player.poll() is None:
        executor.spin_once(timeout_sec=0.2)
        if pipeline.poll() is not None:
            raise DemoError(f"pipeline_node ended with code {pipeline.returncode}; its output is in {log}{_tail(log)}")
        if len(listener.frames) != count:
            last_change_s, count = time.monotonic(), len(listener.frames)
        if time.monotonic() - last_change_s > timeout_s:
            raise DemoError(f"nothing came for {timeout_s:g} s; the nodes' output is in {log}{_tail(log)}")
    if player.returncode:
        raise DemoError(f"player_node ended with code {player.returncode}; its output is in {log}{_tail(log)}")
    end_s = time.monotonic() + 1.0
    while time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.1)


def _tail(log: Path | None, lines: int = 5) -> str:
    if log is None or not log.is_file():
        return ""
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-lines:]
    return ":\n" + "\n".join(last) if last else ""


def _remove_bag(bag: Path) -> None:
    """Only what a bag consists of is removed: an earlier demo's, never another folder."""
    for file in [*bag.glob("*.mcap"), bag / "metadata.yaml"]:
        file.unlink(missing_ok=True)
    bag.rmdir()
