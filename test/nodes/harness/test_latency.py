"""Memory of the node over many frames; ages are measured by the bench, not asserted here."""

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")
pytest.importorskip("semantic_stereo_ros.msg", reason="the messages are not built: run `make build`")

from semantic_stereo_ros.nodes.harness.latency import measure_latency

pytestmark = pytest.mark.xdist_group("dds")


@pytest.mark.long
def test_memory_does_not_grow_over_a_thousand_frames(dds_environment):
    result = measure_latency(1000, 30.0)
    assert result["answers"] >= 1000
    assert result["resident_end_mb"] - result["resident_start_mb"] < 20.0, result
