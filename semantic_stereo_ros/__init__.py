"""Distances with uncertainty from a stereo camera: a core without ROS, a command line and ROS 2 nodes."""

from pkgutil import extend_path

# The messages generated from msg/ and srv/ are installed under this same name; without this line the source tree hides them.
__path__ = extend_path(__path__, __name__)
__version__ = "0.1.0"
