"""Synthetic stereo scenes with exact truth: disparity of both views, occlusion, instance ids, true distances, camera path.

random_sequence: scenes by seed, for tests and measurements. demo_sequence: the scene of the demo. plane: one textured plane.
"""

from semantic_stereo_ros.synthetic.demo_scene import demo_sequence
from semantic_stereo_ros.synthetic.plane_scene import plane
from semantic_stereo_ros.synthetic.random_scene import default_rig, random_sequence
from semantic_stereo_ros.synthetic.scene import Body, CameraPath, SceneModel, Sway
from semantic_stereo_ros.synthetic.sensor import SyntheticMiscalibration, SyntheticSensor
from semantic_stereo_ros.synthetic.sequence import SyntheticFrame, SyntheticSequence
from semantic_stereo_ros.synthetic.texture import Texture
from semantic_stereo_ros.synthetic.truth import TrueObject

__all__ = [
    "Body",
    "CameraPath",
    "SceneModel",
    "Sway",
    "SyntheticFrame",
    "SyntheticMiscalibration",
    "SyntheticSensor",
    "SyntheticSequence",
    "Texture",
    "TrueObject",
    "default_rig",
    "demo_sequence",
    "plane",
    "random_sequence",
]
