"""Newest only, in a thread, whatever the handler raises."""

import threading

from semantic_stereo_ros.nodes.runtime.worker import LatestOnlyWorker


def test_newest_waits_and_older_ones_are_dropped_and_counted():
    started, go, handled = threading.Event(), threading.Event(), []

    def handle(item):
        started.set()
        assert go.wait(60)
        handled.append(item)

    worker = LatestOnlyWorker(handle, lambda error: handled.append(error))
    worker.submit(1)
    assert started.wait(60)
    for item in (2, 3, 4):
        worker.submit(item)
    go.set()
    assert worker.wait_idle(60)
    assert handled == [1, 4] and worker.dropped == 2 and worker.submitted == 4
    assert worker.stop()


def test_error_is_reported_and_the_next_item_handled():
    errors, handled = [], []

    def handle(item):
        if item == "bad":
            raise ValueError("refused")
        handled.append(item)

    worker = LatestOnlyWorker(handle, errors.append)
    worker.submit("bad")
    assert worker.wait_idle(60)
    worker.submit("good")
    assert worker.wait_idle(60)
    assert [str(e) for e in errors] == ["refused"] and handled == ["good"]
    assert worker.stop()


def test_stop_ends_the_thread_and_discards_what_waits():
    worker = LatestOnlyWorker(lambda item: None, lambda error: None)
    assert worker.stop()
    worker.submit(1)
    assert not worker.wait_idle(0.05)
