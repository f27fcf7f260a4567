"""(d) The node: capture stamp to objects received over DDS, against the sum of the stages; 640x480, 128 disparities.

The graph is measured by processes of its own (nodes/latency.py), below and above what the pipeline can keep up with.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

from semantic_stereo_ros.checks import MissingDependencyError

ANSWERS_PER_REPEAT = 3


def run(repeats: int = 30) -> dict[str, Any]:
    """Ages in ms at 10 and 30 Hz over 3 * repeats answers each. Raises MissingDependencyError without rclpy or the messages."""
    for module in ("rclpy", "semantic_stereo_ros.msg"):
        if importlib.util.find_spec(module) is None:
            raise MissingDependencyError(f"the node's latency needs the Python module {module!r}, which is not there: run `make build`")
    command = [sys.executable, "-m", "semantic_stereo_ros.nodes.latency", str(repeats * ANSWERS_PER_REPEAT), "10", "30"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring the graph failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
