"""PairingNode over real DDS: which of the pairs that come are answered."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from rclpy.parameter import Parameter

from semantic_stereo_ros.nodes.pairing_node import PairingNode
from semantic_stereo_ros.stages import StereoStage
from semantic_stereo_ros.types import StereoRig

pytestmark = pytest.mark.xdist_group("dds")

RIG = StereoRig((64, 48), fx=100.0, fy=100.0, cx=31.5, cy=23.5, baseline_m=0.2)
LEFT, RIGHT = np.random.default_rng(0).integers(0, 255, (2, 48, 64), np.uint8)
SECOND = 1_000_000_000
TIMEOUT_S = 20.0


class Answering(PairingNode[StereoStage]):
    """Notes which pairs came and which it was asked to answer; matches nothing."""

    made = ()

    def __init__(self, **node_options):
        self.paired, self.answered = [], []
        super().__init__("answering", ("stereo",), **node_options)

    def make_stage(self, config):
        return StereoStage(config)

    def wanted(self):
        return True

    def on_pair(self, pair):
        super().on_pair(pair)
        self.paired.append(pair.stamp_ns)

    def answer(self, pair, inputs):
        self.answered.append(pair.stamp_ns)
        return inputs.frame(pair), None


@pytest.fixture
def answering(new_graph, make_camera):
    """(graph, node, send(stamp_ns)): a node in this process that listens to a camera."""
    graph = new_graph()
    node, camera = Answering(context=graph.context), make_camera(graph)
    graph.executor.add_node(node)
    try:
        camera.wait_for_subscribers()
        yield graph, node, lambda stamp_ns: camera.send(LEFT, RIGHT, RIG, stamp_ns)
    finally:
        graph.executor.remove_node(node)
        node.destroy_node()


def test_a_pair_that_is_sent_again_and_again_is_answered_once(answering):
    """A player that did not hear of the answer repeats its frame. After a few the synchroniser starts again and pairs it once more."""
    graph, node, send = answering

    def paired_twice():
        send(10 * SECOND)
        return len(node.paired) >= 2

    graph.until(paired_twice, "the same stamps paired a second time")
    assert set(node.paired) == {10 * SECOND} and node.worker.wait_idle(TIMEOUT_S)
    assert node.answered == [10 * SECOND]

    def newer_answered():
        send(11 * SECOND)
        return 11 * SECOND in node.answered

    graph.until(newer_answered, "an answer to a newer pair")
    assert node.worker.wait_idle(TIMEOUT_S) and node.answered == [10 * SECOND, 11 * SECOND]


def test_pairs_beyond_the_highest_rate_are_left_out_by_their_stamps(answering):
    """Twenty frames at 10 Hz, which are 1.9 s, answered at 4 Hz: the first, and one in each of 7 whole periods, however fast they come."""
    graph, node, send = answering
    assert node.set_parameters([Parameter("output.max_rate_hz", value=4.0)])[0].successful
    for tenth in range(10, 30):
        stamp_ns = tenth * SECOND // 10

        def paired(stamp_ns=stamp_ns):
            send(stamp_ns)
            return stamp_ns in node.paired

        graph.until(paired, "a pair")
        assert node.worker.wait_idle(TIMEOUT_S)
    assert len(node.paired) >= 20 and len(node.answered) == 1 + 7, node.answered
