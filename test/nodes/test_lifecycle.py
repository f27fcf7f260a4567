"""The lifecycle over real DDS: transitions, parameters while a backend loads, exchange of backends, a clean end whatever runs."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter, parameter_value_to_python
from semantic_stereo_ros.msg import ObjectDistance, ObjectDistanceArray

from semantic_stereo_ros.nodes.harness.demo_graph import DISCOVERY
from semantic_stereo_ros.nodes.messages.conversions import stamp_to_ns
from semantic_stereo_ros.nodes.runtime import shared_memory
from semantic_stereo_ros.synthetic import default_rig, random_sequence

pytestmark = pytest.mark.xdist_group("dds")

STAGED_NODE = Path(__file__).resolve().parents[1] / "staged" / "node.py"
STEP_NS = 100_000_000
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
    "shutdown": Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
}
TRUTH = random_sequence(5, 1, rig=default_rig((160, 120), baseline_m=0.3))[0]


class Managed:
    """A pipeline_node that knows the backend 'staged', driven by its services as a lifecycle manager would."""

    def __init__(self, graph, camera, **parameters):
        self.graph, self.camera = graph, camera
        words = [word for key, value in parameters.items() for word in ("-p", f"{key.replace('__', '.')}:={json.dumps(value)}")]
        environment = {**os.environ, "ROS_DOMAIN_ID": str(graph.domain_id), DISCOVERY: "LOCALHOST"}
        with graph.log("pipeline_node").open("a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(STAGED_NODE), "pipeline_node", "--ros-args", *words],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        graph.processes.append(self.process)
        self.diagnostics = graph.subscribe(DiagnosticArray, "/diagnostics")
        self.objects = graph.subscribe(ObjectDistanceArray, "objects")
        self.stamp_ns = time.time_ns()
        self._clients = {}

    def ask(self, kind, service, **fields):
        """The future of a service call."""
        if service not in self._clients:
            self._clients[service] = self.graph.node.create_client(kind, f"pipeline_node/{service}")
        client = self._clients[service]
        self.graph.until(client.service_is_ready, f"the service {service}")
        return client.call_async(kind.Request(**fields))

    def answer(self, future, what="an answer of a service"):
        self.graph.until(future.done, what)
        return future.result()

    def begin(self, label):
        """The future of a transition, asked for by its id as nav2_lifecycle_manager does."""
        return self.ask(ChangeState, "change_state", transition=Transition(id=TRANSITIONS[label]))

    def change(self, label):
        return self.answer(self.begin(label), label).success

    def state(self):
        return self.answer(self.ask(GetState, "get_state")).current_state.label

    def get(self, name):
        return parameter_value_to_python(self.answer(self.ask(GetParameters, "get_parameters", names=[name])).values[0])

    def set(self, **values):
        """One atomic change; its result."""
        parameters = [Parameter(key.replace("__", "."), value=value).to_parameter_msg() for key, value in values.items()]
        return self.answer(self.ask(SetParametersAtomically, "set_parameters_atomically", parameters=parameters)).result

    def says(self, words):
        """Wait for a diagnostic that says `words` in its message or in a value."""
        self.diagnostics.clear()

        def said():
            statuses = [status for message in self.diagnostics for status in message.status]
            return any(words in text for status in statuses for text in (status.message, *(item.value for item in status.values)))

        self.graph.until(said, f"a diagnostic with {words!r}")

    def counts(self, key, check, what):
        """Wait for a diagnostic whose number `key` passes `check`."""
        self.diagnostics.clear()

        def counted():
            values = [item for message in self.diagnostics for status in message.status for item in status.values]
            return any(item.key == key and check(int(item.value)) for item in values)

        self.graph.until(counted, what)

    def logs(self, words):
        self.graph.until(lambda: words in self.graph.log("pipeline_node").read_text(encoding="utf-8"), f"{words!r} in the log")

    def send(self):
        self.stamp_ns += STEP_NS
        self.camera.send(TRUTH.frame.left, TRUTH.frame.right, TRUTH.frame.rig, self.stamp_ns)
        return self.stamp_ns

    def answered(self, check=lambda message: True, what="objects"):
        """Send frames, each when the last was answered or after a second, until an answer to one of them passes `check`."""
        sent, at_s = [], 0.0
        self.camera.wait_for_subscribers()

        def found():
            nonlocal at_s
            known = {stamp_to_ns(m.header.stamp) for m in self.objects}
            if not sent or sent[-1] in known or time.monotonic() > at_s + 1.0:
                sent.append(self.send())
                at_s = time.monotonic()
            return next((m for m in self.objects if stamp_to_ns(m.header.stamp) in sent and check(m)), None)

        return self.graph.until(found, what)


@pytest.fixture
def manage(new_graph, make_camera):
    """manage(**parameters) -> a Managed node in a domain of its own."""

    def make(**parameters):
        graph = new_graph()
        return Managed(graph, make_camera(graph), **parameters)

    return make


def test_a_manager_configures_activates_deactivates_and_cleans_up(manage):
    node = manage(autostart=False)
    image = node.camera.images[0]
    assert node.state() == "unconfigured" and node.get("stereo.backend") == "sgbm"
    node.says("unconfigured")
    assert not node.change("activate"), "not possible before it is configured, and no reason to die"
    assert node.state() == "unconfigured"
    assert node.change("configure") and node.state() == "inactive"
    node.says("inactive")
    assert image.get_subscription_count() == 0
    assert node.change("activate") and node.state() == "active"
    assert node.answered().status == ObjectDistanceArray.OK
    assert node.change("deactivate") and node.state() == "inactive"
    node.graph.until(lambda: image.get_subscription_count() == 0, "the end of the subscription")
    assert node.change("activate")
    node.answered(what="objects after a pause")
    assert node.change("deactivate") and node.change("cleanup") and node.state() == "unconfigured"
    assert node.change("shutdown") and node.state() == "finalized"
    node.process.send_signal(signal.SIGINT)
    assert node.graph.ended(node.process) == 0


def test_a_transition_is_asked_for_by_its_name_too(manage):
    node = manage(autostart=False)
    for label, success in (("deactivate", False), ("configure", True), ("no_such_transition", False), ("cleanup", True)):
        asked = node.ask(ChangeState, "change_state", transition=Transition(label=label))
        assert node.answer(asked, label).success == success
    assert node.state() == "unconfigured"


def test_a_bond_is_formed_where_bondpy_is_installed(manage):
    """What nav2_lifecycle_manager does with bond_timeout > 0: the other end of a bond that bears the node's name."""
    bondpy = pytest.importorskip("bondpy.bondpy", reason="bondpy is not installed: nav2_lifecycle_manager needs bond_timeout 0.0")
    node, formed = manage(autostart=False), []
    assert node.change("configure") and node.change("activate")
    bond = bondpy.Bond(node=node.graph.node, topic="bond", bond_id="pipeline_node", on_formed=lambda: formed.append(True))
    bond.start()
    node.graph.until(lambda: formed, "the bond")
    assert node.change("deactivate")
    node.graph.until(bond.is_broken, "the end of the bond")
    bond.shutdown()


def test_parameters_and_diagnostics_answer_while_a_backend_loads(manage, tmp_path, record_property):
    loaded = tmp_path / "loaded"
    node = manage(autostart=False, stereo__backend="staged", stereo__staged__load_until=str(loaded))
    node.get("stereo.backend")  # the client is connected
    loading = node.begin("configure")
    node.logs("staged: load a")
    times_ms = []
    for _ in range(20):
        start_s = time.monotonic()
        assert node.get("stereo.staged.load_until") == str(loaded)
        times_ms.append((time.monotonic() - start_s) * 1e3)
    assert not loading.done() and node.state() == "configuring"
    node.says("stereo staged")
    record_property("measured", f"a parameter's answer while loading: median {sorted(times_ms)[10]:.1f} ms, largest {max(times_ms):.1f} ms")
    loaded.touch()
    assert node.answer(loading).success and node.state() == "inactive"


def test_parameters_answer_while_a_frame_takes_long_and_frames_that_wait_are_dropped(manage, tmp_path, record_property):
    done = tmp_path / "done"
    node = manage(stereo__backend="staged", stereo__staged__frame_until=str(done))
    node.camera.wait_for_subscribers()
    node.get("stereo.backend")  # the client is connected
    log = node.graph.log("pipeline_node")
    node.graph.until(lambda: node.send() and "a frame begins" in log.read_text(encoding="utf-8"), "a frame")
    times_ms = []
    for _ in range(20):
        last = node.send()
        start_s = time.monotonic()
        assert node.get("stereo.staged.frame_until") == str(done)
        times_ms.append((time.monotonic() - start_s) * 1e3)
    assert not node.objects, "the first frame is not done yet"
    node.counts("dropped", lambda dropped: dropped >= 19, "all of the 20 but the newest dropped")
    done.touch()
    node.graph.until(lambda: last in [stamp_to_ns(m.header.stamp) for m in node.objects], "an answer to the newest frame")
    assert len(node.objects) <= 3, "the frames in between were to be dropped"
    record_property("measured", f"an answer beside a frame: median {sorted(times_ms)[10]:.1f} ms, largest {max(times_ms):.1f} ms")


def test_a_backend_that_cannot_be_loaded_leaves_the_node_unconfigured_and_said(manage):
    node = manage(stereo__backend="staged", stereo__staged__fails=True)
    node.says("the weights of a are broken")
    assert node.state() == "unconfigured" and not node.change("configure")
    assert node.set(stereo__staged__fails=False).successful
    assert node.change("configure") and node.change("activate")
    node.answered()


def test_configuring_often_leaves_nothing_behind(manage):
    """Threads and endpoints after 20 rounds as after the first."""
    node = manage(autostart=False)

    def round_trip():
        assert node.change("configure") and node.change("activate") and node.change("deactivate") and node.change("cleanup")

    def threads():
        return len(list(Path(f"/proc/{node.process.pid}/task").iterdir()))

    def endpoints():
        names = node.graph.node.get_publisher_names_and_types_by_node("pipeline_node", "/")
        return len(names), len(node.graph.node.get_subscriber_names_and_types_by_node("pipeline_node", "/"))

    round_trip()
    before = threads(), endpoints()
    for _ in range(19):
        round_trip()
    node.graph.until(lambda: threads() <= before[0] and endpoints() == before[1], "as many threads and endpoints as after the first round")


@pytest.mark.parametrize("during", ["a frame", "loading"])
def test_interrupt_does_not_wait_for_what_takes_long(manage, tmp_path, record_property, during):
    key = "stereo__staged__frame_until" if during == "a frame" else "stereo__staged__load_until"
    node = manage(stereo__backend="staged", **{key: str(tmp_path / "never")})
    mine = shared_memory.segments_of(os.getpid())
    if during == "a frame":
        node.camera.wait_for_subscribers()
        node.graph.until(lambda: node.send() and "a frame begins" in node.graph.log("pipeline_node").read_text(encoding="utf-8"), "a frame")
    else:
        node.logs("staged: load a")
    # Not the ports, which are 50 KB and shared: Fast DDS can miss that the last user left when another process is just finding it.
    segments = {segment for segment in shared_memory.segments_of(node.process.pid) - mine if "port" not in segment.name}
    start_s = time.monotonic()
    node.process.send_signal(signal.SIGINT)
    assert node.graph.ended(node.process) == 0
    record_property("measured", f"interrupted during {during}: {time.monotonic() - start_s:.2f} s")
    assert "Traceback" not in node.graph.log("pipeline_node").read_text(encoding="utf-8")
    assert segments and not [segment for segment in segments if segment.exists()], "shared memory was left behind"


@pytest.fixture(scope="module")
def running(new_graph, make_camera):
    graph = new_graph()
    node = Managed(graph, make_camera(graph))
    node.answered()
    return node


def test_another_backend_comes_in_while_the_old_one_serves(running, tmp_path):
    loaded = str(tmp_path / "loaded")
    change = {"stereo__staged__name": "slow", "stereo__staged__load_until": loaded, "stereo__staged__frame_until": loaded}
    assert running.set(stereo__backend="staged", **change).successful
    running.says("staged and segmentation geometric is being loaded")
    running.answered(what="an answer of the old backend")
    assert "a frame begins" not in running.graph.log("pipeline_node").read_text(encoding="utf-8"), "the new backend is not there yet"
    Path(loaded).touch()
    running.graph.until(
        lambda: running.send() and "a frame begins" in running.graph.log("pipeline_node").read_text(encoding="utf-8"), "the new backend"
    )
    running.answered(what="an answer of the new backend")
    assert running.set(stereo__backend="sgbm", stereo__staged__frame_until="").successful
    running.logs("staged: close slow")
    running.answered()


def test_a_backend_that_cannot_be_loaded_is_taken_back(running):
    change = {"stereo__staged__name": "bad", "stereo__staged__fails": True, "stereo__staged__load_until": ""}
    assert running.set(stereo__backend="staged", **change).successful, "only loading tells"
    running.says("stereo.backend = staged was refused and is sgbm again: the weights of bad are broken")
    assert running.get("stereo.backend") == "sgbm"
    running.answered()
    assert running.set(stereo__staged__fails=False).successful


def test_what_is_known_at_once_is_refused_at_once(running):
    missing = running.set(stereo__backend="staged", stereo__staged__missing=True)
    assert not missing.successful and missing.reason == "the library of staged is missing"
    odd = running.set(stereo__sgbm__num_disparities=100)
    assert not odd.successful and "use 96 or 112" in odd.reason
    assert running.get("stereo.backend") == "sgbm" and running.get("stereo.sgbm.num_disparities") == 0
    running.answered()


def test_free_first_switches_too(running):
    change = {"stereo__switch": "free_first", "stereo__backend": "staged", "stereo__staged__name": "small"}
    assert running.set(**change).successful
    running.logs("staged: load small")
    running.answered()
    bad = running.set(stereo__staged__name="bad", stereo__staged__fails=True)
    assert bad.successful
    running.says("stereo.staged.name = bad was refused and is small again")
    running.answered()
    assert running.set(stereo__switch="load_first", stereo__backend="sgbm").successful
    running.says("sgbm")


def test_masks_every_second_frame_predict_the_others(running):
    assert running.set(segmentation__every_n=2).successful
    predicted = running.answered(lambda m: any(o.state == ObjectDistance.PREDICTED for o in m.objects), "a predicted object")
    assert predicted.status == ObjectDistanceArray.OK
    running.answered(lambda m: any(o.state == ObjectDistance.VISIBLE for o in m.objects), "a measured object")
    assert running.set(segmentation__every_n=1).successful


def test_publishing_rate_changes_while_running(running):
    """Stamps 0.1 s apart at 2 Hz: one of five is answered."""
    running.answered()
    assert running.set(output__max_rate_hz=2.0).successful
    before_ns = running.stamp_ns

    def stamps():
        return sorted(stamp for stamp in (stamp_to_ns(m.header.stamp) for m in running.objects) if stamp > before_ns)

    running.graph.until(lambda: running.send() and len(stamps()) >= 5, "five answers")
    stamps_ns = stamps()
    assert min(b - a for a, b in itertools.pairwise(stamps_ns)) >= 400_000_000
    assert running.set(output__max_rate_hz=0.0).successful


def test_inputs_change_while_running(running, make_camera):
    """From rectified images to raw ones and back."""
    assert running.set(input__rectify=True).successful
    rectified, running.camera = running.camera, make_camera(running.graph, image="image_raw")
    running.answered(what="objects of raw images")
    running.graph.until(lambda: not rectified.images[0].get_subscription_count(), "no subscription of rectified images")
    running.camera = rectified
    refused = running.set(input__external="depth")
    assert not refused.successful and "do not go together" in refused.reason
    assert running.set(input__rectify=False, input__reliability="best_effort").successful
    running.answered(what="objects of rectified images")
    assert running.set(input__reliability="auto").successful


def test_unknown_keys_are_refused_and_change_nothing(running):
    refused = running.set(stereo__bakend="sgbm", output__stride=2)
    assert not refused.successful and "did you mean stereo.backend" in refused.reason
    assert running.get("output.stride") == 1
    results = running.answer(
        running.ask(SetParameters, "set_parameters", parameters=[Parameter("output.stride", value=64).to_parameter_msg()])
    ).results
    assert not results[0].successful and running.get("output.stride") == 1
