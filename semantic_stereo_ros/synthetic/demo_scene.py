"""The scene of the demo and of the README's picture: a room with eight objects, one of which drives behind another and out again."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.synthetic.random_scene import default_rig
from semantic_stereo_ros.synthetic.scene import Body, CameraPath, SceneModel, Sway, facing, place
from semantic_stereo_ros.synthetic.sensor import SyntheticSensor
from semantic_stereo_ros.synthetic.sequence import SyntheticSequence
from semantic_stereo_ros.synthetic.texture import Texture

_FPS = 15.0
_LOOP_S = 12.0  # the camera and the cart come back to where they began, so that a looped player does not jump at 180 frames


def demo_sequence(
    frames: int = 90, size_wh: tuple[int, int] = (640, 480), *, noise_sigma: float = 2.0, color: bool = True
) -> SyntheticSequence:
    """`frames` frames at 15 Hz of a room seen by a swaying camera; always the same.

    Objects stand 1.8 to 8 m away. The cart crosses from left to right within 6 s and is fully hidden by the crate on its way.
    """
    camera = CameraPath(
        position_m=(0.0, 0.0, 1.25),
        pitch=0.16,
        position_sway=Sway((0.2, 0.3, 0.03), _LOOP_S, 0.4),
        angle_sway=Sway((0.05, 0.015, 0.008), _LOOP_S / 2, 1.0),
    )
    return SyntheticSequence(
        model=SceneModel((*_room(), *_objects()), camera, light=(-0.8, 0.5, 0.9), ambient=0.56, shadows=True),
        rig=default_rig(size_wh),
        frames=frames,
        fps=_FPS,
        seed=1,
        sensor=SyntheticSensor(noise_sigma=noise_sigma, right_gain=1.02, right_offset=-1.0, color=color),
    )


def _room() -> list[Body]:
    endless = (np.inf, np.inf, 0.0)
    floor = Texture((0.42, 0.28, 0.17), (0.78, 0.60, 0.41), "cells", 0.8, 0.5, 0.005, 6.0, 0.16, 1.4, 0.47, 0.004)
    plaster = Texture((0.62, 0.60, 0.54), (0.93, 0.91, 0.84), "plain", 0.7, 0.0, 0.010)
    brick = Texture((0.42, 0.20, 0.15), (0.74, 0.44, 0.34), "cells", 0.6, 0.5, 0.006, 1.0, 0.12, 0.36, 0.18, 0.014)
    poster = Texture((0.10, 0.20, 0.34), (0.95, 0.80, 0.45), "stripes", 1.6, 0.5, 0.012, 1.0, 0.21, offset_m=(3.1, 7.7))
    picture = Texture((0.12, 0.30, 0.22), (0.93, 0.88, 0.74), "plain", 2.2, 0.0, 0.012, 2.5, offset_m=(13.1, 2.7))
    skirting = Texture((0.22, 0.16, 0.12), (0.42, 0.32, 0.25), "plain", 0.8, 0.0, 0.006, 5.0)
    return [
        Body("floor", "plane", endless, floor),
        Body("wall", "plane", endless, plaster, facing((9.5, 0.0, 0.0), (-1.0, 0.0, 0.0))),
        Body("wall", "plane", endless, brick, facing((0.0, 4.6, 0.0), (0.0, -1.0, 0.0))),
        Body("skirting", "box", (0.03, 24.0, 0.16), skirting, place((9.48, -7.4, 0.08))),
        Body("poster", "box", (0.04, 1.5, 1.0), poster, place((9.47, -2.2, 2.2))),
        Body("picture", "box", (0.04, 1.1, 1.3), picture, place((9.47, 1.4, 2.2))),
    ]


def _objects() -> list[Body]:
    crate = Texture((0.50, 0.30, 0.12), (0.90, 0.64, 0.34), "cells", 0.9, 0.4, 0.003, 5.0, 0.16, 2.0, 0.0, 0.008, (1.0, 2.0))
    ball = Texture((0.55, 0.05, 0.05), (0.98, 0.30, 0.22), "stripes", 0.9, 0.35, 0.003, 1.0, 0.07, offset_m=(5.0, 9.0))
    barrel = Texture((0.05, 0.18, 0.48), (0.25, 0.50, 0.90), "stripes", 0.8, 0.3, 0.004, 1.0, 0.15, offset_m=(8.0, 3.0))
    pillar = Texture((0.70, 0.12, 0.12), (0.97, 0.95, 0.92), "stripes", 0.35, 0.9, 0.003, 1.0, 0.2, offset_m=(2.0, 4.0))
    cabinet = Texture((0.10, 0.32, 0.20), (0.34, 0.62, 0.42), "cells", 0.9, 0.2, 0.005, 1.0, 0.5, 0.6, 0.0, 0.016, (6.0, 1.0))
    parcel = Texture((0.78, 0.58, 0.08), (0.99, 0.86, 0.32), "checker", 0.6, 0.4, 0.005, 1.0, 0.14, offset_m=(9.0, 6.0))
    drum = Texture((0.34, 0.14, 0.44), (0.68, 0.44, 0.80), "plain", 1.1, 0.0, 0.006, offset_m=(4.0, 8.0))
    cart = Texture((0.02, 0.42, 0.45), (0.45, 0.88, 0.86), "cells", 0.9, 0.4, 0.004, 1.0, 0.14, 0.2, 0.1, 0.008, (7.0, 5.0))
    drive = Sway((0.15, 1.65, 0.0), _LOOP_S, np.pi / 2)
    return [
        Body("crate", "box", (0.62, 0.75, 0.95), crate, place((3.1, 0.62, 0.475), 0.45), 1),
        Body("ball", "sphere", (0.44, 0.44, 0.44), ball, place((2.3, -0.38, 0.22), 0.3), 2),
        Body("barrel", "cylinder", (0.58, 0.58, 0.9), barrel, place((4.3, -1.2, 0.45)), 3),
        Body("pillar", "cylinder", (0.18, 0.18, 2.1), pillar, place((5.9, -0.75, 1.05)), 4),
        Body("cabinet", "box", (0.55, 1.2, 1.5), cabinet, place((7.6, 2.0, 0.75), -0.25), 5),
        Body("parcel", "box", (0.7, 0.7, 0.6), parcel, place((5.4, -2.45, 0.3), 0.6), 6),
        Body("drum", "cylinder", (0.7, 0.7, 1.1), drum, place((7.8, 0.15, 0.55)), 7),
        Body("cart", "box", (0.5, 0.62, 0.5), cart, place((5.1, 0.85, 0.25), 0.12), 8, sway=drive),
    ]
