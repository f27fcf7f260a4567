"""`semantic-stereo demo`: the synthetic scene with exact truth, measured live by real nodes, and a table of what came out."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import typer
from rich.console import Console

from semantic_stereo_ros.checks import MissingDependencyError, SemanticStereoError
from semantic_stereo_ros.cli import common

PROGRESS_PREFIX = "progress "
RESULT_NAME = "result.json"


def demo(
    output: Path = typer.Option(Path("outputs/demo"), "--output", "-o", help="Folder for pictures, video, cloud and bag."),
    frames: int = typer.Option(90, min=10, help="Length of the synthetic sequence."),
    ros: bool | None = typer.Option(
        None, "--ros/--no-ros", help="Over DDS between processes (default where rclpy is), or in this process."
    ),
) -> None:
    """Play a synthetic stereo sequence with known truth through the pipeline and compare: true distance, measured, sigma, error.

    With ROS: player_node in one process, pipeline_node in another, every topic recorded to a rosbag2 (MCAP) that Foxglove opens.
    """
    have_ros = importlib.util.find_spec("rclpy") is not None and importlib.util.find_spec("semantic_stereo_ros.msg") is not None
    if ros and not have_ros:
        raise MissingDependencyError("the demo over ROS needs rclpy and this package's messages: run 'make demo', or pass --no-ros")
