"""(d) The node: capture stamp to objects received over DDS, against the sum of the stages; 640x480, 128 disparities.

The graph is measured by processes of its own (nodes/harness/latency.py), below and above what the pipeline can keep up with; and the three
separate nodes against the one process, which take turns.
"""

from __future__ import annotations

from typing import Any

from semantic_stereo_ros.bench.ros_process import measure_in_process

ANSWERS_PER_REPEAT = 3
RATES_HZ = ("10", "30")


def run(repeats: int = 30) -> dict[str, Any]:
    """Ages in ms at each rate, and of both graphs, over 3 * repeats answers. MissingDependencyError without rclpy or the messages."""
    return measure_in_process("latency", str(repeats * ANSWERS_PER_REPEAT), *RATES_HZ)
