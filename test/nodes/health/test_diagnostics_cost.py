"""What /diagnostics costs: the processor time of all that is noted, judged and published, beside that of the frames themselves.

Processor time alone counts, at a camera's rate: how fast the frames went here depends on what else runs.
"""

import time
from collections import Counter, defaultdict

import cv2
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from semantic_stereo_ros.msg import ObjectDistanceArray

from semantic_stereo_ros.nodes.health import pair_watch
from semantic_stereo_ros.nodes.health.stream_health import InputHealth, StreamHealth
from semantic_stereo_ros.nodes.messages.conversions import stamp_to_ns
from semantic_stereo_ros.nodes.pipeline_node import PipelineNode
from semantic_stereo_ros.synthetic import demo_sequence

pytestmark = [pytest.mark.xdist_group("dds"), pytest.mark.long]

FRAMES, RENDERED = 60, 12
RATE_HZ = 10.0


class Meter:
    """Processor seconds spent inside of functions that are wrapped, each on the thread that calls it."""

    def __init__(self, monkeypatch):
        self._patch = monkeypatch
        self.spent_s, self.calls = defaultdict(float), Counter()

    def wrap(self, owner, name):
        function = getattr(owner, name)

        def timed(*args, **kwargs):
            start_s = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.spent_s[name] += time.thread_time() - start_s
                self.calls[name] += 1

        self._patch.setattr(owner, name, timed)

    def mean_ms(self, name):
        return 1e3 * self.spent_s[name] / self.calls[name]


@pytest.fixture
def one_thread():
    """OpenCV's own threads would hide from a thread's clock."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


def test_cost_of_diagnostics(new_graph, make_camera, monkeypatch, one_thread, record_property):
    """640x480, one frame after the other. What is done now and then counts by how often it is: the thorough check once in 30 s."""
    meter = Meter(monkeypatch)
    noted = ((InputHealth, "arrived"), (StreamHealth, "took"), (StreamHealth, "saw_scene"), (StreamHealth, "published"))
    for owner, name in (*noted, (PipelineNode, "_every_second"), (PipelineNode, "answer"), (pair_watch, "measure_rows")):
        meter.wrap(owner, name)
    meter.wrap(pair_watch, "check_pair")
    sequence = demo_sequence(RENDERED, (640, 480))
    frames = [sequence[i].frame for i in range(RENDERED)]
    graph = new_graph()
    camera, objects = make_camera(graph), graph.subscribe(ObjectDistanceArray, "objects")
    node = PipelineNode(context=graph.context)
    graph.executor.add_node(node)
    try:
        camera.wait_for_subscribers()
        for frame in frames * (FRAMES // RENDERED):
            stamp_ns = time.time_ns()
            camera.send(frame.left, frame.right, frame.rig, stamp_ns)
            graph.until(lambda stamp_ns=stamp_ns: objects and stamp_to_ns(objects[-1].header.stamp) == stamp_ns, "an answer")
        graph.until(lambda: meter.calls["_every_second"] and meter.calls["check_pair"], "what is done now and then")
        settings = node.settings
        periods_s = {
            "_every_second": 1.0,
            "measure_rows": settings.diagnostics.row_period_s,
            "check_pair": settings.input.health_period_s,
        }
    finally:
        graph.executor.remove_node(node)
        node.destroy_node()
    cost_ms = {name: 1e3 * meter.spent_s[name] / FRAMES for _, name in noted}
    cost_ms.update({name: meter.mean_ms(name) / (period_s * RATE_HZ) for name, period_s in periods_s.items()})
    frame_ms, share = meter.mean_ms("answer"), ", ".join(f"{name} {value:.2f}" for name, value in cost_ms.items())
    once = ", ".join(f"{name} {meter.mean_ms(name):.1f}" for name in periods_s)
    total_ms = sum(cost_ms.values())
    record_property("measured", f"diagnostics: {total_ms / frame_ms:.2%} of a frame's {frame_ms:.0f} ms at {RATE_HZ:g} Hz: {share} ms")
    record_property("measured", f"diagnostics: ms each time: {once}")
    assert meter.calls["answer"] == FRAMES and 0 < total_ms < frame_ms
