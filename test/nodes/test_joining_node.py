"""JoiningNode over real DDS: it asks for what it needs while somebody listens, joins it by stamp, and says what did not meet."""

import threading

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from semantic_stereo_ros.msg import ObjectDistanceArray
from std_srvs.srv import SetBool

from semantic_stereo_ros.nodes.inputs.joined_inputs import PARTS
from semantic_stereo_ros.nodes.joining_node import JoiningNode
from semantic_stereo_ros.nodes.messages.conversions import ns_to_stamp
from semantic_stereo_ros.stages import FusionStage

pytestmark = pytest.mark.xdist_group("dds")

TIMEOUT_S = 20.0
SECOND = 1_000_000_000
START_NS = 1_000 * SECOND


class Joiner(JoiningNode[FusionStage]):
    """Has the parts in `needed`, and in `asked` where they come; keeps each frame that it works on, and is done once `let_go` is set."""

    title = "joiner"

    def __init__(self, **node_options):
        self.needed, self.asked, self.reviews = frozenset({"disparity", "masks"}), frozenset(), 0
        self.worked, self.let_go = [], threading.Event()
        self.let_go.set()
        super().__init__("joiner", "fusion", ("fusion", "tracking"), **node_options)

    def make_stage(self, config):
        return FusionStage(config)

    def required(self):
        return self.needed

    def extras(self):
        self.reviews += 1
        return self.asked

    def work(self, item):
        self.worked.append(item)
        assert self.let_go.wait(TIMEOUT_S)
        self.note_published(item.stamp_ns, "left_optical")


class Bench:
    """A Joiner in this process, and a tester that sends the parts of frames. Stamps are tenths of a second from START_NS on."""

    def __init__(self, graph):
        self.graph = graph
        self.node = Joiner(context=graph.context)
        graph.executor.add_node(self.node)
        self.diagnostics = graph.subscribe(DiagnosticArray, "/diagnostics", 50)
        graph.until(lambda: self.node.active, "an active node")

    def listen(self, *parts):
        """Listen to its objects until it listens to `parts` itself."""
        self.graph.subscribe(ObjectDistanceArray, "objects")
        self.until_heard(*parts)

    def until_heard(self, *parts):
        """Until exactly these parts are subscribed to."""

        def heard():
            return {name for name, part in PARTS.items() if self.graph.node.count_subscribers(part.topic)} == set(parts)

        self.graph.until(heard, f"subscriptions of exactly {parts}")

    def send(self, tenth, *parts):
        """Parts of the frame of one stamp, one after the other has arrived."""
        stamp_ns = START_NS + tenth * SECOND // 10
        for name in parts:
            part = PARTS[name]
            publisher = self.graph.publisher(part.kind, part.topic)
            self.graph.until(publisher.get_subscription_count, f"a subscription of {part.topic}")
            message = part.kind()
            message.header.stamp = ns_to_stamp(stamp_ns)
            publisher.publish(message)
            self.graph.until(lambda name=name: self.node.health.inputs[name].newest_stamp_ns == stamp_ns, f"{name} of {tenth}")
        if self.node.let_go.is_set():
            self.worked()  # or a slow machine's worker would skip it for the next one

    def worked(self):
        """The stamps of the frames that were worked on, when the worker is idle."""
        assert self.node.worker is not None and self.node.worker.wait_idle(TIMEOUT_S)
        return [(item.stamp_ns - START_NS) * 10 // SECOND for item in self.node.worked]

    def reviewed(self):
        """Until what is asked for now has been asked for."""
        before = self.node.reviews
        self.graph.until(lambda: self.node.reviews >= before + 2, "a review of the demand")

    def until_said(self, part, **wanted):
        """Until a status says these values (spaces as _); all of its values, and its message as 'message'."""
        self.diagnostics.clear()
        wanted = {key.replace("_", " "): value for key, value in wanted.items()}

        def said():
            for status in (status for message in self.diagnostics for status in message.status):
                values = {**{v.key: v.value for v in status.values}, "message": status.message}
                if status.name == f"joiner: {part}" and wanted.items() <= values.items():
                    return values
            return None

        return self.graph.until(said, f"{part} with {wanted}")

    def until_message(self, words):
        self.diagnostics.clear()
        self.graph.until(lambda: any(words in m.status[0].message for m in self.diagnostics), f"a summary with {words!r}")

    def close(self):
        self.node.let_go.set()
        self.graph.unsubscribe()
        self.graph.executor.remove_node(self.node)
        self.node.destroy_node()


@pytest.fixture(scope="module")
def graph(new_graph):
    return new_graph()


@pytest.fixture
def bench(graph):
    bench = Bench(graph)
    yield bench
    bench.close()


def enable(bench, data):
    client = bench.graph.node.create_client(SetBool, "joiner/enable")
    bench.graph.until(client.service_is_ready, "the service")
    future = client.call_async(SetBool.Request(data=data))
    bench.graph.until(future.done, "the service's answer")
    bench.graph.node.destroy_client(client)


def test_inputs_are_subscribed_to_while_a_result_is_wanted(bench):
    """By a subscriber or by output.process_idle, and only while the node is enabled; an extra while it is asked for."""
    bench.until_heard()
    bench.until_message("idle: nobody subscribes")
    bench.listen("disparity", "masks")
    bench.node.asked = frozenset({"left"})
    bench.until_heard("disparity", "masks", "left")
    bench.node.asked = frozenset()
    bench.until_heard("disparity", "masks")
    enable(bench, False)
    bench.until_heard()
    enable(bench, True)
    bench.until_heard("disparity", "masks")
    bench.graph.unsubscribe("objects")
    bench.until_heard()
    assert bench.node.set_parameters([Parameter("output.process_idle", value=True)])[0].successful
    bench.until_heard("disparity", "masks")


def test_whole_frames_are_worked_on_and_each_part_that_was_missing_is_counted(bench):
    bench.listen("disparity", "masks")
    bench.send(1, "disparity", "masks")
    bench.send(2, "disparity")
    bench.send(3, "masks")
    bench.send(4, "masks", "disparity")
    assert bench.worked() == [1, 4] and all(set(item.items) == {"disparity", "masks"} for item in bench.node.worked)
    values = bench.until_said("pairing", joined="2", no_masks_came="1", no_disparity_came="1", stamp_jumps="0", waiting_frames="0")
    assert values["last miss"].startswith("no disparity with the stamp 1000.300000 s came before those of a newer frame")
    assert bench.node.health.join.lone.value == 1, "a segmentation that is slower than stereo is no loss"


def test_a_part_that_comes_when_its_frame_is_gone_is_counted_with_what_to_do(bench):
    """The ring holds 3 s of stamps; a picture that comes after its frame was joined without one is late, too."""
    bench.listen("disparity", "masks")
    bench.send(0, "disparity")
    bench.send(40, "disparity")
    bench.send(0, "masks")
    values = bench.until_said("pairing", masks_came_too_late="1", left_the_ring="1", joined="0")
    assert "4.00 s behind the newest stamp: raise join.seconds (3)" in values["last miss"] and bench.worked() == []
    bench.send(40, "masks")
    assert bench.worked() == [40]
    bench.node.asked = frozenset({"left"})
    bench.until_heard("disparity", "masks", "left")
    bench.send(40, "left")
    values = bench.until_said("pairing", left_came_too_late="1", masks_came_too_late="1", joined="1")
    assert "results go up in stamp" in values["last miss"] and bench.node.health.join.lone.value == 2


def test_stamps_that_go_back_start_again_and_are_told(bench):
    bench.listen("disparity", "masks")
    bench.send(50, "disparity", "masks")
    bench.send(1, "disparity", "masks")
    assert bench.worked() == [50, 1]
    values = bench.until_said("pairing", joined="2")
    assert int(values["stamp jumps"]) >= 1 and "jumped back" in values["message"]


def test_frames_that_came_while_one_was_worked_on_are_drops(bench):
    bench.listen("disparity", "masks")
    bench.node.let_go.clear()
    bench.send(1, "disparity", "masks")
    bench.graph.until(lambda: bench.node.worked, "the first frame")
    for tenth in (2, 3, 4):
        bench.send(tenth, "disparity", "masks")
    bench.node.let_go.set()
    assert bench.worked() == [1, 4]
    bench.until_said("processing", dropped="2")


def test_a_whole_frame_that_a_newer_one_passes_is_a_drop(bench):
    """A frame waited for its masks when they were needed no more (a backend was exchanged): it is whole, but so is a newer one."""
    bench.listen("disparity", "masks")
    bench.send(1, "disparity", "masks")
    bench.send(2, "disparity")
    bench.node.needed = frozenset({"disparity"})
    bench.reviewed()
    bench.send(3, "disparity")
    assert bench.worked() == [1, 3]
    bench.until_said("processing", dropped="1")
    assert bench.node.health.join.lone.value == 0, "nothing was missing"


def test_an_extra_is_waited_for_while_it_may_still_come_and_no_longer(bench):
    bench.listen("disparity", "masks")
    bench.node.asked = frozenset({"left"})
    bench.until_heard("disparity", "masks", "left")
    bench.send(1, "left", "disparity", "masks")
    bench.send(2, "disparity", "masks")
    assert bench.worked() == [1], "the picture may still come"
    bench.send(2, "left")
    bench.send(3, "disparity", "masks")
    bench.send(4, "disparity", "masks")
    assert bench.worked() == [1, 2, 3], "a newer frame is whole"
    assert ["left" in item.items for item in bench.node.worked] == [True, True, False]


def test_the_ring_follows_its_parameters_and_another_reliability_subscribes_anew(bench):
    bench.listen("disparity", "masks")
    assert bench.node.set_parameters([Parameter("join.seconds", value=0.5)])[0].successful
    bench.send(1, "disparity")
    bench.send(8, "disparity")
    bench.until_said("pairing", left_the_ring="1", waiting_frames="1")

    def reliabilities():
        infos = bench.graph.node.get_subscriptions_info_by_topic(PARTS["masks"].topic)
        return [info.qos_profile.reliability for info in infos]

    assert reliabilities() == [ReliabilityPolicy.RELIABLE]
    assert bench.node.set_parameters([Parameter("input.reliability", value="best_effort")])[0].successful
    bench.graph.until(lambda: reliabilities() == [ReliabilityPolicy.BEST_EFFORT], "a best-effort subscription")
    bench.until_said("pairing", left_the_ring="0", joined="0")
