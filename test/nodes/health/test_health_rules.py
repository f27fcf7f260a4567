"""The sentences that say why nothing comes out, or what is not as it should be: each fault alone, and which one is said first."""

import dataclasses
import string

import pytest

from semantic_stereo_ros.geometry.epipolar import Finding
from semantic_stereo_ros.geometry.row_watch import RowError
from semantic_stereo_ros.nodes.health.health_messages import ERROR, MESSAGES, OK, WARN, diagnose
from semantic_stereo_ros.nodes.health.health_rules import judge
from semantic_stereo_ros.nodes.health.stream_health import InputHealth, JoinHealth, ProcessUsage, StreamHealth
from semantic_stereo_ros.nodes.health.windows import Total, Window
from semantic_stereo_ros.nodes.runtime.node_options import DiagnosticsConfig
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import ObjectState

NOW = 100.0
CONFIG = DiagnosticsConfig(min_input_rate_hz=0.0)


def camera_pair():
    images = {side: InputHealth(f"/{side}/image", publishers=1) for side in ("left", "right")}
    infos = {
        f"{side} camera_info": InputHealth(f"/{side}/camera_info", "camera_info", once=True, publishers=1) for side in ("left", "right")
    }
    for item in (*images.values(), *infos.values()):
        item.arrived(NOW - 1.0, 1_000_000_000)
    return {**images, **infos}


def healthy():
    join = JoinHealth(tolerance_ms=10.0)
    join.joined.add(NOW - 1.0)
    join.skew_s.add(NOW - 1.0, 0.0)
    health = StreamHealth(inputs=camera_pair(), join=join)
    health.valid_fraction.add(NOW - 1.0, 0.8)
    health.published(NOW - 1.0, 0.05)
    return health


def put(target: str, value):
    """A change of one attribute, by dotted path from a StreamHealth; inputs by name."""

    def change(health):
        *path, last = target.split(".")
        owner = health
        for name in path:
            owner = owner[name] if isinstance(owner, dict) else getattr(owner, name)
        setattr(owner, last, value)

    return change


def lose(*names):
    def change(health):
        for name in names:
            health.inputs[name].received = Window()

    return change


def both(*changes):
    return lambda health: [change(health) for change in changes]


def filled(*values):
    window = Window()
    for value in values:
        window.add(NOW - 1.0, value)
    return window


def grown(count):
    total = Total()
    total.update(NOW - 1.0, count)
    return total


FAULTS = [
    (put("halted", diagnose("not_active", state="inactive")), OK, "not_active", "inactive: no frame is processed"),
    (put("halted", diagnose("disabled")), OK, "disabled", "`enable`: call it with data: true"),
    (both(lose("right"), put("inputs.right.publishers", 0)), WARN, "no_publisher", "nobody publishes /right/image: start the camera"),
    (lose("right"), WARN, "silent", "no image has come on /right/image for 5 s though somebody publishes there"),
    (
        both(lose("left"), put("inputs.left.unheard", "/cam (Best effort)")),
        ERROR,
        "input_qos",
        "/left/image: a publisher's quality of service",
    ),
    (put("inputs.left.unheard", "/cam (Best effort)"), WARN, "some_input_qos", "is not heard, its quality of service does not fit: /cam"),
    (put("inputs.left camera_info.newest_stamp_ns", None), WARN, "no_info", "no camera_info has come on /left/camera_info"),
    (put("inputs.left camera_info.changes", filled(0, 0)), WARN, "unsteady_info", "/left/camera_info changed 2 times in the last 5 s"),
    (put("join.joined", Window()), WARN, "no_pairs", "input.sync_tolerance_ms = 10; the newest stamps are 0.0 ms apart: synchronise"),
    (both(put("join.joined", Window()), put("join.tolerance_ms", None)), WARN, "no_joins", "does not meet: no two stamps are equal"),
    (put("join.lone", grown(1)), WARN, "few_pairs", "only 50% of what comes is paired, less than diagnostics.min_pair_fraction = 75%"),
    (put("join.jumps", grown(2)), WARN, "jumped", "jumped back 2 times in the last 5 s"),
    (put("join.why", "the stamps drift apart: synchronise the clocks"), WARN, "stamps", "drift apart: synchronise"),
    (put("join.skew_s", filled(0.008)), WARN, "skew", "8.0 ms apart (95 %), more than diagnostics.max_skew_ms = 5"),
    (put("last_error", "the baseline is zero"), ERROR, "frame_refused", "the baseline is zero"),
    (put("wanted", False), OK, "idle", "idle: nobody subscribes to any output"),
    (both(put("output", Window()), put("busy_since_s", NOW - 5.0)), WARN, "unfinished", "none has been finished for 5 s"),
    (put("switching", "stereo bm"), OK, "switching", "stereo bm is being loaded while the old one goes on"),
    (put("switch_refused", "no such file"), WARN, "switch_refused", "the old setting goes on: no such file"),
    (put("notes", ("out of memory: works on the CPU; free memory",)), WARN, "backend_note", "works on the CPU"),
    (put("prompts_refused", "no such id"), WARN, "no_prompts", "prompts were not taken: no such id"),
    (put("drops", grown(99)), WARN, "dropping", "99% of the pairs are dropped"),
    (put("age_s", filled(2.5)), WARN, "old_output", "2.50 s old when they are published"),
    (put("row_error", RowError(40, 1.4, 2.0, 1.4)), WARN, "rows", "rows of the pair are 1.4 px apart (median of 40 points)"),
    (put("row_error", RowError(40, 3.1, 4.0, 3.1)), ERROR, "rows_off", "not rectified: rows are 3.1 px apart"),
    (put("pair_findings", (Finding("swapped", "left and right are swapped; exchange them", True),)), ERROR, "pair", "are swapped"),
    (put("pair_findings", (Finding("range", "search a larger range", False),)), WARN, "pair_doubt", "search a larger range"),
    (put("scene_reason", "too dark; add light"), WARN, "cannot_tell", "too dark; add light"),
    (put("valid_fraction", filled(0.1)), WARN, "few_valid", "only 10% of the pixels have a known disparity"),
    (
        put("unserved", {"/objects": "/rviz (Volatile)"}),
        WARN,
        "output_qos",
        "does not get /objects, its quality of service does not fit: /rviz",
    ),
    (put("usage", ProcessUsage(900.0, 600.0)), WARN, "memory_growth", "grown by 600 MB to 900 MB"),
    (put("usage", ProcessUsage(900.0, 0.0, None, 7900.0, 100.0, 8000.0)), WARN, "gpu_memory", "100 MB of GPU memory are free"),
]


def test_running():
    found = judge(healthy(), CONFIG, NOW)
    assert (found.level, found.message, found.diagnoses) == (OK, "running at 0.2 Hz", ())
    assert [s.name for s in found.statuses] == ["summary", "inputs", "pairing", "processing", "outputs", "machine"] or [
        s.name for s in found.statuses
    ] == ["summary", "inputs", "pairing", "processing", "scene", "outputs", "machine"]


@pytest.mark.parametrize(("change", "level", "key", "words"), FAULTS, ids=[key for _, _, key, _ in FAULTS])
def test_each_fault_is_named_while_it_lasts(change, level, key, words):
    health = healthy()
    change(health)
    found = judge(health, CONFIG, NOW)
    assert [d.key for d in found.diagnoses] == [key] and found.level == level == MESSAGES[key].level
    assert words in found.message
    assert found.message in [s.message for s in found.statuses[1:]] or health.halted is not None


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (dataclasses.replace(CONFIG, min_input_rate_hz=5.0), "slow_input"),
        (dataclasses.replace(CONFIG, min_output_rate_hz=5.0), "slow_output"),
    ],
)
def test_rates_are_judged_where_a_threshold_is_set(config, key):
    found = judge(healthy(), config, NOW)
    assert found.diagnoses[0].key == key and "0.2 Hz" in found.message


def test_every_finding_has_a_test_and_a_remedy():
    tested = {key for _, _, key, _ in FAULTS} | {"slow_input", "slow_output"}
    assert tested | {"loading", "load_failed"} == set(MESSAGES)
    for key, entry in MESSAGES.items():
        assert len(entry.remedy) > 10, key
        names = {name for text in (entry.sentence, entry.remedy) for _, name, _, _ in string.Formatter().parse(text) if name}
        values = {name: 1 if name not in ("text", "reason", "why", "who", "what") else "x" for name in names}
        diagnose(key, **values)


def test_what_stops_everything_is_said_before_what_is_graver_but_does_not():
    health = healthy()
    health.pair_findings = (Finding("swapped", "left and right are swapped", True),)
    health.unserved = {"/objects": "/rviz"}
    lose("right")(health)
    found = judge(health, CONFIG, NOW)
    assert [d.key for d in found.diagnoses] == ["silent", "output_qos"] and found.message.endswith("(and 1 more)")
    waiting = {s.name: s.message for s in found.statuses}
    assert waiting["outputs"].startswith("a subscriber does not get /objects")
    assert waiting["processing"].startswith("waits: no image has come on /right/image")


def test_the_gravest_is_said_first_where_nothing_is_stopped():
    health = healthy()
    put("join.skew_s", filled(0.008))(health)
    health.row_error = RowError(40, 3.1, 4.0, 3.1)
    found = judge(health, CONFIG, NOW)
    assert [d.key for d in found.diagnoses] == ["rows_off", "skew"] and found.level == ERROR


def test_a_part_says_all_that_is_wrong_with_it():
    health = healthy()
    health.row_error, health.valid_fraction = RowError(40, 1.4, 2.0, 1.4), filled(0.1)
    messages = {s.name: s.message for s in judge(health, CONFIG, NOW).statuses}
    assert "1.4 px apart" in messages["scene"] and "; also: only 10% of the pixels" in messages["scene"]
    assert messages["summary"].endswith("(and 1 more)")


def test_the_cheap_row_watch_overrules_the_thorough_check_which_looks_less_often():
    health = healthy()
    health.pair_findings = (Finding("unrectified", "the pair is not rectified", True),)
    health.row_error = RowError(40, 0.1, 0.2, 0.1)
    assert judge(health, CONFIG, NOW).level == OK
    health.row_error = RowError(3)
    assert judge(health, CONFIG, NOW).level == ERROR


def test_stamps_too_far_apart_are_said_with_their_distance():
    health = healthy()
    put("join.joined", Window())(health)
    health.inputs["right"].newest_stamp_ns = 1_040_000_000
    assert "40.0 ms apart" in judge(health, CONFIG, NOW).message


def test_what_is_only_missing_is_no_fault_in_the_first_seconds():
    health = healthy()
    health.started_s, health.output = NOW - 2.0, Window()
    lose("left", "right")(health)
    assert judge(health, CONFIG, NOW).level == OK and judge(health, CONFIG, NOW).message.startswith("starting: no image")
    assert judge(health, CONFIG, NOW + 5.0).level == WARN


def test_a_frame_in_work_is_unfinished_only_when_it_takes_long():
    health = healthy()
    health.output, health.busy_since_s = Window(), NOW - 1.0
    assert judge(health, CONFIG, NOW).diagnoses == ()
    assert judge(health, CONFIG, NOW + 3.9).diagnoses == ()
    health.busy_since_s = NOW - 1.1
    assert [d.key for d in judge(health, CONFIG, NOW + 3.9).diagnoses] == ["unfinished"]


def test_stamps_of_another_clock_have_no_age():
    health = healthy()
    health.age_s = Window()
    health.published(NOW, 1.7e9)
    found = judge(health, CONFIG, NOW)
    values = {key: value for status in found.statuses for key, value in status.values.items()}
    assert found.level == OK and values["age p50 / p95 (ms)"] == "none" and "1700000000 s behind" in values["clock"]


def test_a_good_answer_ends_the_last_error():
    health = healthy()
    health.last_error = "the baseline is zero"
    health.published(NOW, 0.1)
    assert judge(health, CONFIG, NOW).level == OK


def test_values_hold_the_numbers():
    health = healthy()
    health.took(NOW, stereo=0.020, segmentation=0.010)
    health.took(NOW, stereo=0.040, segmentation=0.010)
    health.backends = {"stereo": "sgbm"}
    values = {f"{s.name}: {key}": value for s in judge(health, CONFIG, NOW).statuses for key, value in s.values.items()}
    assert values["processing: stereo p50 / p95 (ms)"] == "30.0 / 39.0" and values["processing: stereo backend"] == "sgbm"
    assert values["inputs: left rate (Hz)"] == "0.20" and values["pairing: paired (%)"] == "100"
    assert values["scene: pixels with disparity (%)"] == "80.0" and values["outputs: age p50 / p95 (ms)"] == "50.0 / 50.0"
    assert all(isinstance(value, str) for value in values.values())


def test_window_forgets():
    window = Window(span_s=5.0)
    for second in range(10):
        window.add(float(second), float(second))
    assert window.values(9.0).tolist() == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    assert window.percentiles(9.0) == pytest.approx((6.5, 8.75)) and Window().percentiles(0.0) is None


def test_total_tells_what_it_grew_by():
    total = Total(span_s=5.0)
    for second, value in enumerate([3, 3, 10, 10, 12]):
        total.update(float(second), value)
    assert total.value == 12 and total.recent(4.0) == 12 and total.recent(6.5) == 9 and total.recent(7.5) == 2 and total.recent(20.0) == 0


def test_tracked_objects_are_counted_by_state_with_their_scores():
    """A real scene whose nearest object is said to be hidden and another to be lost."""
    scene = Pipeline()(random_sequence(21, 1, (320, 240))[0].frame)
    changed = {0: (ObjectState.OCCLUDED, 0.25), 1: (ObjectState.LOST, 0.75)}
    objects = [dataclasses.replace(o, state=ObjectState.VISIBLE, score=0.5) for o in scene.objects]
    for index, (state, score) in changed.items():
        objects[index] = dataclasses.replace(objects[index], state=state, score=score)
    health = healthy()
    assert "objects" not in next(s for s in judge(health, CONFIG, NOW).statuses if s.name == "scene").values
    for shown, said in ((objects, f"{len(objects) - 2} visible, 1 occluded, 1 lost; scores 0.25 to 0.75"), ([], "none")):
        health.saw_scene(NOW, dataclasses.replace(scene, objects=tuple(shown)))
        assert next(s for s in judge(health, CONFIG, NOW).statuses if s.name == "scene").values["objects"] == said
