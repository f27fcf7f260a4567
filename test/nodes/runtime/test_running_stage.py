"""A stage that is exchanged beside its frames: never within a call, what waits is the newest config, and a failure leaves the old one."""

import threading

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need it")

from semantic_stereo_ros.config import from_flat
from semantic_stereo_ros.nodes.runtime.running_stage import RunningStage
from semantic_stereo_ros.stages import StereoStage

TIMEOUT_S = 20.0
USED, WIDER, WIDEST = (from_flat({"stereo.sgbm.num_disparities": number}) for number in (64, 128, 256))


class SlowStage(StereoStage):
    """A StereoStage whose loading waits until it is let go, and raises what it is told to."""

    def __init__(self, config):
        super().__init__(config)
        self.prepared, self.loads, self.go = [], threading.Semaphore(0), threading.Semaphore(0)
        self.error = None

    def prepare(self, config):
        self.prepared.append(config)
        self.loads.release()
        assert self.go.acquire(timeout=TIMEOUT_S)
        if self.error is not None:
            raise self.error
        return super().prepare(config)


class Told:
    """A RunningStage and what its callbacks were told."""

    def __init__(self):
        self.stage = SlowStage(USED)
        self.failed, self.ended = [], threading.Semaphore(0)
        self.running = RunningStage(self.stage, self.ended.release, self._fail)

    def _fail(self, *what):
        self.failed.append(what)
        self.ended.release()


@pytest.fixture
def told():
    told = Told()
    yield told
    for _ in range(3):
        told.stage.go.release()
    assert told.running.stop(TIMEOUT_S)


def test_the_old_config_serves_while_the_new_one_loads_and_until_the_call_is_over(told):
    told.running.switch_to(WIDER)
    assert told.stage.loads.acquire(timeout=TIMEOUT_S) and told.running.loading == WIDER
    with told.running.using() as stage:
        told.stage.go.release()
        assert not told.ended.acquire(timeout=0.2) and stage.config == USED, "nothing is exchanged within a call"
    assert told.ended.acquire(timeout=TIMEOUT_S)
    with told.running.using() as stage:
        assert stage.config == WIDER
    assert told.running.stop(TIMEOUT_S) and told.running.loading is None and told.failed == []


def test_of_several_configs_that_wait_only_the_newest_is_loaded(told):
    told.running.switch_to(WIDER)
    assert told.stage.loads.acquire(timeout=TIMEOUT_S)
    for config in (from_flat({"stereo.sgbm.num_disparities": 192}), WIDEST):
        told.running.switch_to(config)
    for _ in range(2):
        told.stage.go.release()
        assert told.ended.acquire(timeout=TIMEOUT_S)
    assert told.stage.prepared == [WIDER, WIDEST] and told.stage.config == WIDEST


def test_what_cannot_be_loaded_is_told_and_the_old_config_stays(told):
    told.stage.error = OSError("no such file")
    told.stage.go.release()
    told.running.switch_to(WIDER)
    assert told.ended.acquire(timeout=TIMEOUT_S)
    assert told.failed == [(USED, WIDER, told.stage.error)] and told.stage.config == USED


def test_the_config_in_use_is_not_loaded_again(told):
    told.running.switch_to(USED)
    assert not told.stage.loads.acquire(timeout=0.2) and told.running.loading is None
