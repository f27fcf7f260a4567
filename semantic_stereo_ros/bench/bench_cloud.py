"""(b) Arrays to a filled 640x480 labeled PointCloud2 against create_cloud and against the floor; see nodes/harness/cloud_timing.py."""

from __future__ import annotations

from typing import Any

from semantic_stereo_ros.bench.ros_process import measure_in_process


def run(repeats: int = 30) -> dict[str, Any]:
    """Median times in ms and their ratios. Raises MissingDependencyError where the ROS messages are not installed."""
    return measure_in_process("cloud_timing", str(repeats))
