"""Fixtures of the fault matrix; what a Patient is stands in patient.py."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from patient import SIZE_WH, Patient, scene_of


@pytest.fixture
def recovered(record_property):
    """recovered(patient, 'fault') sends good frames until one is answered and notes how long that took."""

    def recover(patient: Patient, fault: str, send: Callable[[], int] | None = None) -> Any:
        patient.assert_alive()
        patient.objects.clear()
        start_s, stamps = time.monotonic(), []
        answer = patient.play(
            lambda: stamps and patient.answered(stamps[0])(), f"an answer after: {fault}", lambda: stamps.append((send or patient.send)())
        )
        record_property("measured", f"{fault}: {time.monotonic() - start_s:.2f} s")
        patient.assert_alive()
        return answer

    return recover


@pytest.fixture(scope="session")
def scene():
    """Objects in front of a wall, small enough to be answered several times in the camera's period."""
    return scene_of(SIZE_WH)


@pytest.fixture(scope="module")
def new_patient(new_graph, make_camera, scene) -> Callable[..., Patient]:
    """new_patient(image='image_rect', **parameters) -> a pipeline_node in a domain of its own, with a camera, ready for frames."""

    def make(*, image: str = "image_rect", **parameters: Any) -> Patient:
        graph = new_graph()
        process = graph.start("pipeline_node", **parameters)
        return Patient(graph, make_camera(graph, image=image), scene, process)

    return make


@pytest.fixture(scope="module")
def running(new_patient) -> Patient:
    """A pipeline_node that has already answered; shared by the tests of one module, each of which leaves it well."""
    patient = new_patient()
    patient.play(patient.answered(0), "the first answer")
    return patient


@pytest.fixture
def stopped() -> Iterator[Callable[[subprocess.Popen], None]]:
    """stopped(process) freezes it with SIGSTOP; it goes on after the test."""
    frozen: list[subprocess.Popen] = []

    def stop(process: subprocess.Popen) -> None:
        process.send_signal(signal.SIGSTOP)
        frozen.append(process)

    yield stop
    for process in frozen:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
