"""What a camera can do wrong: each fault is named in /diagnostics while it lasts and forgotten when good frames come again."""

import random

import numpy as np
import pytest
from patient import LEFT, LEFT_INFO, RIGHT, RIGHT_INFO, SIZE_WH, scene_of

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from semantic_stereo_ros.nodes.messages.conversions import stamp_to_ns

pytestmark = [pytest.mark.xdist_group("dds"), pytest.mark.faults]

SECOND_NS = 1_000_000_000


@pytest.mark.parametrize(
    ("skipped", "topics"),
    [
        ((LEFT_INFO, RIGHT_INFO), "camera_info.*/left/camera_info.*/right/camera_info"),
        pytest.param((RIGHT_INFO,), "camera_info.*/right/camera_info", marks=pytest.mark.long),
    ],
)
def test_camera_info_that_comes_late(new_patient, recovered, skipped, topics):
    """Missing for as long as it takes to be called a fault (6 s from the start): named; then it comes."""
    patient = new_patient()
    patient.play(patient.said(topics), "a warning that names the missing camera_infos", lambda: patient.send(skip=skipped))
    assert not patient.objects
    recovered(patient, "camera_info late")


def other_focal_length(left, right, left_info, right_info):
    right_info.p = np.array(right_info.p) * ([1.5] + [1.0] * 11)


def other_size(left, right, left_info, right_info):
    right_info.width, right_info.height = 640, 480


def nan_projection(left, right, left_info, right_info):
    left_info.p = np.full(12, np.nan)


def nan_baseline(left, right, left_info, right_info):
    right_info.p = np.where(np.arange(12) == 3, np.nan, right_info.p)


def infinite_focal_length(left, right, left_info, right_info):
    for info in (left_info, right_info):
        info.p = np.where(np.arange(12) == 0, np.inf, info.p)


def empty_info(left, right, left_info, right_info):
    for info in (left_info, right_info):
        info.p = np.zeros(12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (nan_projection, "finite"),
        (other_focal_length, "focal|rectif|differ"),
        pytest.param(nan_baseline, "finite", marks=pytest.mark.long),
        pytest.param(infinite_focal_length, "finite", marks=pytest.mark.long),
        pytest.param(other_size, "640.*480|size", marks=pytest.mark.long),
        pytest.param(empty_info, "calibrat|focal|projection|zero", marks=pytest.mark.long),
    ],
)
def test_infos_that_cannot_be(running, recovered, change, words):
    running.play(running.said(words), f"a diagnostic about {change.__name__}", lambda: running.send(change=change))
    recovered(running, change.__name__)


def test_two_calibrations_in_turn(running, recovered):
    """Two drivers on one topic: every frame comes with another calibration than the one before."""
    frames = iter(range(10_000))

    def change(left, right, left_info, right_info):
        if next(frames) % 2:
            for info in (left_info, right_info):
                info.p = np.array(info.p) * ([1.2] + [1.0] * 4 + [1.2] + [1.0] * 6)

    running.play(running.said("camera_info|calibration"), "a warning about changing infos", lambda: running.send(change=change))
    recovered(running, "two calibrations in turn")


@pytest.mark.parametrize(("side", "name"), [(LEFT, "left"), pytest.param(RIGHT, "right", marks=pytest.mark.long)])
def test_one_camera_stops(running, recovered, side, name):
    running.play(running.said(f"no image.*/{name}/image_rect"), f"a warning about {name}", lambda: running.send(skip=(side,)))
    recovered(running, f"{name} camera stopped")


def test_thirty_percent_lost_per_side(running, recovered):
    """Every frame of which both halves came is answered, none is paired with a neighbour; the loss is said."""
    lost, sent, whole = random.Random(30), [], []

    def send():
        skip = tuple(side for side in (LEFT, RIGHT) if lost.random() < 0.3)
        sent.append(running.send(skip=skip))
        if not skip:
            whole.append(sent[-1])

    said = running.said("paired|partner")
    running.play(lambda: whole and said(), "a whole frame, and a warning about images without a partner", send)
    running.graph.until(running.answered(whole[-1]), "the answer to the last whole frame")
    answers = {stamp_to_ns(m.header.stamp) for m in running.objects if stamp_to_ns(m.header.stamp) >= sent[0]}
    assert answers and answers <= set(whole)
    recovered(running, "30 % lost per side")


def test_stamps_that_are_zero(running, recovered):
    """A driver that does not stamp: nothing may be answered as if it were of 1970, and the reason is said."""
    running.play(running.said(r"stamps? (is |are |of )?(zero|0(?![.\d]))"), "a diagnostic about stamps of zero", lambda: running.send(0))
    recovered(running, "stamps of zero")


def test_stamps_that_jump_back(running, recovered):
    """A bag that starts again: said, and the older frames are answered."""
    base_ns = running.send()
    past = iter(range(base_ns - 1000 * SECOND_NS, base_ns, SECOND_NS // 10))
    recovered(running, "stamps jumped back", lambda: running.send(next(past)))
    running.play(running.said("jump|back"), "a diagnostic about the jump", lambda: running.send(next(past)))
    recovered(running, "stamps jumped forth")


def test_stamps_that_jump_to_and_fro(running, recovered):
    """Two sources on one topic, an hour apart: the worst case of the above, in every frame."""
    turns = iter(range(10_000))
    running.play(
        running.said("jump|back"),
        "a diagnostic about jumping stamps",
        lambda: running.send(running.stamp_ns() - next(turns) % 2 * 3600 * SECOND_NS),
    )
    recovered(running, "stamps to and fro")


@pytest.mark.parametrize("infos_follow", [True, False])
def test_images_change_size(running, recovered, infos_follow):
    """With the infos: the stream goes on at the new size. Without: refused with both sizes, and well again at the old one."""
    large = scene_of((2 * SIZE_WH[0], 2 * SIZE_WH[1]))
    if infos_follow:
        recovered(running, "size changed with the infos", lambda: running.send(scene=large))
    else:

        def send():
            running.camera.send(large.frame.left, large.frame.right, running.scene.frame.rig, running.stamp_ns())

        status = running.play(running.said("320x240"), "a diagnostic with the wrong size", send)
        assert "160x120" in status.message
    recovered(running, "size back again")


@pytest.mark.long
def test_simulated_clock_that_jumps_back(new_patient, recovered):
    """use_sim_time: a simulator that is reset, and one that stands still. Ages stay those of the simulation."""
    from rosgraph_msgs.msg import Clock

    from semantic_stereo_ros.nodes.messages.conversions import ns_to_stamp

    patient = new_patient(use_sim_time=True)
    clock, now_ns = patient.graph.publisher(Clock, "/clock", 10), 1000 * SECOND_NS

    def send(step_ns=SECOND_NS // 10):
        nonlocal now_ns
        now_ns += step_ns
        clock.publish(Clock(clock=ns_to_stamp(now_ns)))
        return patient.send(now_ns)

    recovered(patient, "simulated clock started", send)
    send(-500 * SECOND_NS)
    recovered(patient, "simulated clock jumped back", send)
    patient.play(patient.said("jump|back"), "a diagnostic about the jump", send)
    still = patient.said(".", 0)
    patient.graph.until(still, "diagnostics while the simulated clock stands still")
    recovered(patient, "simulated clock went on", send)
    ages = [
        float(v.value.split("/")[1])
        for m in patient.diagnostics
        for s in m.status
        for v in s.values
        if v.key == "age p50 / p95 (ms)" and "/" in v.value
    ]
    assert all(0 <= age < 60_000 for age in ages), "an age across the jump would be minus 500 s"


def test_nothing_is_held_against_a_camera_that_works_again(running):
    """After all of the above."""
    running.diagnostics.clear()
    running.play(lambda: any(m.status[0].message.startswith("running at") for m in running.diagnostics), "a summary without a fault")
