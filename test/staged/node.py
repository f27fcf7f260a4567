"""Runs a node of the package with the backends of this folder on the path: `python node.py pipeline_node --ros-args ...`."""

import runpy
import sys
from pathlib import Path

from semantic_stereo_ros.nodes.harness.child import end_with_parent
from semantic_stereo_ros.stereo import backends

end_with_parent()
backends.__path__ = [*backends.__path__, str(Path(__file__).resolve().parent / "backends")]
del sys.argv[0]
runpy.run_module(f"semantic_stereo_ros.nodes.{sys.argv[0]}", run_name="__main__", alter_sys=True)
