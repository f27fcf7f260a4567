"""One textured plane at a known depth: the smallest scene with a truth, for contract tests of stereo backends."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.checks import check_positive
from semantic_stereo_ros.synthetic.random_scene import default_rig
from semantic_stereo_ros.synthetic.scene import Body, CameraPath, SceneModel
from semantic_stereo_ros.synthetic.sensor import SyntheticMiscalibration, SyntheticSensor
from semantic_stereo_ros.synthetic.sequence import SyntheticFrame, SyntheticSequence
from semantic_stereo_ros.synthetic.texture import Texture
from semantic_stereo_ros.types import StereoRig


def plane(
    depth_m: float,
    size_wh: tuple[int, int] = (320, 240),
    *,
    tilt_x: float = 0.0,
    tilt_y: float = 0.0,
    rig: StereoRig | None = None,
    doffs_px: float = 0.0,
    noise_sigma: float = 1.0,
    color: bool = True,
    dtype: type = np.uint8,
    blur_px: float = 0.4,
    seed: int = 0,
    miscalibration: SyntheticMiscalibration | None = None,
) -> SyntheticFrame:
    """A plane that fills the view and crosses the optical axis at `depth_m`: Z = depth_m + tilt_x * X + tilt_y * Y (camera frame).

    The whole plane is background (id 0). Its texture is as fine as the pixels. Raises CalibrationError for depth_m <= 0.
    """
    depth_m = check_positive("the plane's depth (m)", depth_m)
    rig = rig or default_rig(size_wh, doffs_px=doffs_px)
    texture = Texture(
        (0.15, 0.16, 0.18), (0.85, 0.82, 0.78), contrast=1.8, grain_m=1.5 * depth_m / rig.fx, offset_m=(0.37 * seed, 0.11 * seed)
    )
    camera = CameraPath(position_m=(0.0, 0.0, 0.0), pitch=0.0)
    normal = np.array([tilt_x, tilt_y, -1.0])
    pose_camera = np.eye(4)
    z = normal / np.linalg.norm(normal)
    x = np.cross([0.0, -1.0, 0.0], z)
    x /= np.linalg.norm(x)
    pose_camera[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    pose_camera[2, 3] = depth_m
    body = Body("plane", "plane", (np.inf, np.inf, 0.0), texture, camera.pose(0.0) @ pose_camera)
    sequence = SyntheticSequence(
        model=SceneModel((body,), camera),
        rig=rig,
        seed=seed,
        sensor=SyntheticSensor(noise_sigma=noise_sigma, color=color, dtype=dtype, blur_px=blur_px),
        miscalibration=miscalibration or SyntheticMiscalibration(),
    )
    return sequence[0]
