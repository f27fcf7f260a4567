"""The one sentence that says why nothing comes out."""

import pytest

from semantic_stereo_ros.nodes.health import ERROR, OK, WARN, Health, SideHealth, Window

NOW = 100.0


def healthy():
    health = Health(SideHealth("/l", publishers=1), SideHealth("/r", publishers=1))
    for window in (health.left.received, health.right.received, health.pairs, health.output):
        window.add(NOW - 1.0)
    return health


def test_running():
    level, text = healthy().verdict(NOW)
    assert level == OK and "0.2 Hz" in text


@pytest.mark.parametrize(
    ("change", "level", "words"),
    [
        (lambda h: setattr(h, "right", SideHealth("/r")), WARN, "nobody publishes /r"),
        (lambda h: setattr(h, "right", SideHealth("/r", publishers=1)), WARN, "no image has come on /r"),
        (lambda h: setattr(h, "right", SideHealth("/r", publishers=1, qos_mismatch="does not fit")), ERROR, "/r: does not fit"),
        (lambda h: setattr(h, "missing_infos", ("left",)), WARN, "no camera_info has come on left"),
        (lambda h: setattr(h, "pairs", Window()), WARN, "input.sync_tolerance_ms"),
        (lambda h: setattr(h, "last_error", "the baseline is zero"), ERROR, "the baseline is zero"),
        (lambda h: setattr(h, "wanted", False), OK, "nobody subscribes"),
        (lambda h: setattr(h, "output", Window()), WARN, "none has been finished"),
        (lambda h: setattr(h, "scene_reason", "too dark"), WARN, "too dark"),
        (lambda h: setattr(h, "pair_finding", "swapped"), WARN, "swapped"),
    ],
)
def test_names_the_first_thing_that_is_wrong(change, level, words):
    health = healthy()
    change(health)
    assert health.verdict(NOW)[0] == level and words in health.verdict(NOW)[1]


def test_stamps_too_far_apart_are_said_with_their_distance():
    health = healthy()
    health.pairs, health.tolerance_ms = Window(), 10.0
    health.left.newest_stamp_ns, health.right.newest_stamp_ns = 1_000_000_000, 1_040_000_000
    assert "40.0 ms apart" in health.verdict(NOW)[1]


def test_window_forgets():
    window = Window(span_s=5.0)
    for second in range(10):
        window.add(float(second), float(second))
    assert window.values(9.0).tolist() == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    assert window.percentiles(9.0) == pytest.approx((6.5, 8.75)) and Window().percentiles(0.0) is None
