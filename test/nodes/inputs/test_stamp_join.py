"""The ring that fusion_node joins in: exact stamps, late masks, order, bounds, reasons. Needs no ROS."""

import pytest

from semantic_stereo_ros.nodes.inputs.stamp_join import StampJoin

SECOND = 1_000_000_000
FRAME_NS = SECOND // 10


def join(seconds=3.0, megabytes=1.0):
    return StampJoin(("disparity", "masks"), seconds, megabytes)


def add(ring, part, frame, size_bytes=10):
    """One item that names itself, of the given frame number at 10 Hz; the joined frame number, or None."""
    joined = ring.add(part, 100 * SECOND + frame * FRAME_NS, f"{part} {frame}", size_bytes)
    if joined is None:
        return None
    number = (joined.stamp_ns - 100 * SECOND) // FRAME_NS
    assert all(text == f"{name} {number}" for name, text in joined.items.items()), "parts of two frames were mixed"
    return number


@pytest.mark.parametrize("order", [("disparity", "masks"), ("masks", "disparity")])
def test_parts_join_in_either_order(order):
    ring = join()
    assert add(ring, order[0], 0) is None and add(ring, order[1], 0) == 0
    assert ring.counts.joined == 1 and ring.waiting == (0, 0.0)


def test_neighbouring_stamps_never_join():
    ring = join()
    assert ring.add("disparity", 100, "d", 1) is None and ring.add("masks", 101, "m", 1) is None
    assert ring.counts.joined == 0


def test_a_mask_a_second_late_finds_its_own_disparity():
    ring = join()
    for frame in range(11):
        assert add(ring, "disparity", frame) is None
    assert [add(ring, "masks", frame) for frame in range(3)] == [0, 1, 2]
    assert ring.waiting[0] == 8 and ring.counts.missing == {} and ring.last_miss == ""


def test_results_go_up_in_stamp_and_what_is_passed_over_is_counted():
    ring = join()
    for frame in range(5):
        add(ring, "disparity", frame)
    assert add(ring, "masks", 3) == 3
    assert ring.counts.missing == {"masks": 3} and "no masks with the stamp 100.2" in ring.last_miss
    assert ring.waiting[0] == 1


def test_a_mask_without_disparity_is_counted_when_a_newer_frame_passes_it():
    ring = join()
    add(ring, "masks", 0)
    add(ring, "disparity", 1)
    assert add(ring, "masks", 1) == 1
    assert ring.counts.missing == {"disparity": 1} and "no disparity with the stamp 100.0" in ring.last_miss


def test_the_ring_is_bounded_in_seconds_and_says_what_came_too_late():
    ring = join(seconds=1.0)
    for frame in range(15):
        add(ring, "disparity", frame)
    assert ring.waiting[0] == 11 and ring.counts.evicted == 4
    assert add(ring, "masks", 3) is None
    assert ring.counts.too_late == {"masks": 1}
    assert "already left the ring, 1.10 s behind" in ring.last_miss and "join.seconds (1)" in ring.last_miss
    assert add(ring, "masks", 4) == 4


def test_the_ring_is_bounded_in_megabytes_but_keeps_the_newest_frame():
    ring = join(megabytes=1.0)
    for frame in range(10):
        add(ring, "disparity", frame, 300_000)
    assert ring.waiting == (3, pytest.approx(0.9))
    add(ring, "disparity", 10, 5_000_000)
    assert ring.waiting == (1, pytest.approx(5.0)) and add(ring, "masks", 10) == 10


def test_a_repeated_item_replaces_the_first_and_its_size():
    ring = join()
    add(ring, "disparity", 0, 1000)
    add(ring, "disparity", 0, 2000)
    assert ring.waiting == (1, pytest.approx(0.002))


def test_an_item_after_its_result_is_too_late():
    ring = join()
    add(ring, "disparity", 0)
    add(ring, "masks", 0)
    assert add(ring, "masks", 0) is None
    assert ring.counts.too_late == {"masks": 1} and "results go up in stamp" in ring.last_miss and ring.waiting[0] == 0


def test_an_extra_is_waited_for_while_its_stream_runs():
    ring = join()
    ring.want(["image"])
    for part in ("image", "disparity"):
        add(ring, part, 0)
    assert add(ring, "masks", 0) == 0, "the image was there"
    add(ring, "disparity", 1)
    assert add(ring, "masks", 1) is None, "the image may still come"
    assert add(ring, "image", 1) == 1


def test_a_lost_extra_does_not_hold_the_frame_back():
    ring = join()
    ring.want(["image"])
    for part in ("image", "disparity", "masks"):
        add(ring, part, 0)
    add(ring, "disparity", 1)
    assert add(ring, "masks", 1) is None
    assert add(ring, "image", 2) == 1, "the image's stream has passed frame 1"


def test_an_extra_that_never_came_is_not_waited_for():
    """Somebody has just begun to want it: the answers go on."""
    ring = join()
    ring.want(["image"])
    add(ring, "disparity", 0)
    assert add(ring, "masks", 0) == 0


def test_an_extra_whose_stream_stopped_costs_one_frame_of_delay():
    ring = join()
    ring.want(["image"])
    add(ring, "image", 0)
    answers = [add(ring, part, frame) for frame in range(1, 5) for part in ("disparity", "masks")]
    assert [answer for answer in answers if answer is not None] == [1, 2, 3]
    ring.want([])
    assert add(ring, "disparity", 5) is not None


def test_stamps_that_jump_back_start_again():
    ring = join()
    for frame in (50, 51):
        add(ring, "disparity", frame)
    add(ring, "masks", 50)
    assert add(ring, "disparity", 0) is None and ring.counts.jumps == 1 and ring.waiting[0] == 1
    assert add(ring, "masks", 0) == 0
    assert [add(ring, part, 1) for part in ("disparity", "masks")] == [None, 1]


def test_an_old_mask_after_a_jump_does_not_stop_the_new_stream():
    """The mask of the last frame before the jump comes after the first disparities of the new run: these are lost, no more."""
    ring = join()
    add(ring, "disparity", 50)
    for frame in (0, 1):
        add(ring, "disparity", frame)
    assert add(ring, "masks", 50) is None and add(ring, "masks", 0) is None
    assert [add(ring, part, 2) for part in ("disparity", "masks")] == [None, 2]


def test_clear_forgets_what_waits():
    ring = join()
    add(ring, "disparity", 5)
    ring.clear()
    assert ring.waiting == (0, 0.0)
    assert [add(ring, part, 1) for part in ("disparity", "masks")] == [None, 1]


def test_a_frame_that_became_whole_by_needing_less_is_passed_over_for_a_newer_one():
    ring = join()
    add(ring, "disparity", 0)
    ring.require(("disparity",))
    assert add(ring, "disparity", 1) == 1
    assert ring.counts.superseded == 1 and ring.counts.missing == {} and ring.waiting == (0, 0.0)
