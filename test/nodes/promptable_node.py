"""Runs one of the package's nodes with the test backend 'drawn' on the backends' path: promptable_node.py MODULE --ros-args ..."""

import runpy
import sys
from pathlib import Path

from semantic_stereo_ros.segmentation import backends

if __name__ == "__main__":
    backends.__path__.append(str(Path(__file__).resolve().parent.parent / "promptable"))
    del sys.argv[0]
    runpy.run_module(f"semantic_stereo_ros.nodes.{sys.argv[0]}", run_name="__main__", alter_sys=True)
