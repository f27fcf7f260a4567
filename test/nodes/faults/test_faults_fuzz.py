"""Messages that no driver would send: thousands of images and infos spoiled at random. Nothing may die, grow or stay broken."""

import random
import struct

import numpy as np
import pytest
from patient import SIZE_WH

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest

from semantic_stereo_ros.io.images import ENCODINGS
from semantic_stereo_ros.nodes.harness.latency import resident_mb

pytestmark = [pytest.mark.xdist_group("dds"), pytest.mark.faults]

HUGE = 2**32 - 1
SIZES = (0, 1, 2, 3, 7, 64, *SIZE_WH, 161, 641, 4096, 65_535, 65_536, 2**31 - 1, 2**31, HUGE)
WORDS = (*ENCODINGS, "", "h264", "RGB8", "mono8; png", "rgb8\x00", "8UC999", "32FC1", "64FC1", "\N{SNOWMAN}", "x" * 5000)
NUMBERS = (0.0, -0.0, 1.0, -1.0, 1e-308, 1e308, -1e308, np.nan, np.inf, -np.inf)
PACE_S = 0.01  # faster ones would only be dropped for newer ones, unread
MAX_GROWTH_MB = 400.0  # one image of a claimed size taken at its word would be a gigabyte and more


class Fuzzer:
    """Spoils good messages: some fields, some by a little, so that many pass the first checks and fail later."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def spoil_image(self, image: Image) -> None:
        choose = self.random
        if choose.random() < 0.4:
            image.encoding = choose.choice(WORDS)
        if choose.random() < 0.3:
            image.width, image.height = choose.choice(SIZES), choose.choice(SIZES)
        if choose.random() < 0.2:
            image.step = choose.choice((*SIZES, image.step - 1, image.step + 1) if image.step else SIZES)
        if choose.random() < 0.3:
            length = choose.choice((0, 1, len(image.data) - 1, choose.randrange(len(image.data) + 1)))
            del image.data[max(length, 0) :]
        if choose.random() < 0.1:
            image.is_bigendian = choose.randrange(256)

    def spoil_info(self, info: CameraInfo) -> None:
        choose = self.random
        for name in ("k", "r", "p"):
            if choose.random() < 0.4:
                values = np.array(getattr(info, name))
                values[choose.randrange(values.size)] = self.number()
                setattr(info, name, values)
        if choose.random() < 0.3:
            info.d = [self.number() for _ in range(choose.choice((0, 1, 4, 5, 8, 14, 1000)))]
        if choose.random() < 0.3:
            info.distortion_model = choose.choice(("", "plumb_bob", "rational_polynomial", "equidistant", "?", "x" * 5000))
        if choose.random() < 0.3:
            info.width, info.height = choose.choice(SIZES), choose.choice(SIZES)
        if choose.random() < 0.2:
            info.binning_x, info.binning_y = choose.choice(SIZES), choose.choice(SIZES)
        if choose.random() < 0.2:
            sizes = [choose.choice(SIZES) for _ in range(4)]
            info.roi = RegionOfInterest(x_offset=sizes[0], y_offset=sizes[1], width=sizes[2], height=sizes[3])

    def number(self) -> float:
        """Any double: a special one, a usual one, or one of random bits."""
        kind = self.random.random()
        if kind < 0.4:
            return float(self.random.choice(NUMBERS))
        if kind < 0.7:
            return self.random.uniform(-1e4, 1e4)
        return struct.unpack("<d", self.random.randbytes(8))[0]


@pytest.mark.parametrize("messages", [800, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("rectify", [False, pytest.param(True, marks=pytest.mark.long)])
def test_fuzzed_messages(new_patient, recovered, record_property, messages, rectify):
    """Four in ten messages are spoiled in one way or several; what is left of a frame may be good or not."""
    patient = new_patient(input__rectify=rectify, image="image_raw" if rectify else "image_rect")
    recovered(patient, "start")
    pid, fuzzer = patient.processes[0].pid, Fuzzer(seed=messages)
    start_mb, spoiled, largest_mb = resident_mb(pid), 0, 0.0

    def change(left, right, left_info, right_info):
        nonlocal spoiled
        jobs = [(fuzzer.spoil_image, left), (fuzzer.spoil_image, right), (fuzzer.spoil_info, left_info), (fuzzer.spoil_info, right_info)]
        for spoil, message in jobs:
            if fuzzer.random.random() < 0.4:
                spoil(message)
                spoiled += 1

    said = patient.said(".")
    while spoiled < messages:
        patient.send(change=change)
        patient.graph.executor.spin_once(timeout_sec=PACE_S)
        patient.objects.clear()
        largest_mb = max(largest_mb, resident_mb(pid))
        patient.assert_alive()
    patient.play(said, "a diagnostic about spoiled messages", lambda: patient.send(change=change))
    recovered(patient, f"{spoiled} fuzzed messages{' of raw images' if rectify else ''}")
    grown_mb = largest_mb - start_mb
    record_property(
        "measured",
        f"{spoiled} fuzzed messages: {patient.number('dropped'):.0f} of {patient.number('pairs'):.0f} pairs dropped, "
        f"grown by at most {grown_mb:.0f} MB from {start_mb:.0f} MB",
    )
    assert grown_mb < MAX_GROWTH_MB
    unexpected = patient.graph.log("pipeline_node").read_text(encoding="utf-8", errors="replace").count("Traceback")
    assert unexpected == 0, "each refusal is a sentence of ours, not an accident somewhere inside"
