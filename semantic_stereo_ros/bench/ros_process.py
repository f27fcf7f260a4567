"""Measurements that need ROS run as modules of nodes/harness/ in a process of their own, so that bench/ never imports rclpy."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

from semantic_stereo_ros.checks import MissingDependencyError


def measure_in_process(module: str, *arguments: str) -> dict[str, Any]:
    """The JSON that `python -m semantic_stereo_ros.nodes.harness.<module>` prints on its last line.

    Raises MissingDependencyError without rclpy or the messages, RuntimeError with the module's last words when it fails.
    """
    for needed in ("rclpy", "semantic_stereo_ros.msg"):
        if importlib.util.find_spec(needed) is None:
            raise MissingDependencyError(f"the benchmark {module} needs the Python module {needed!r}, which is not there: run `make build`")
    command = [sys.executable, "-m", f"semantic_stereo_ros.nodes.harness.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
