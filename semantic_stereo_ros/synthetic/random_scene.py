"""Random scenes by seed: textured boxes, balls, cylinders and poles on a floor before walls, a moving camera, some moving objects."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.synthetic.scene import Body, CameraPath, SceneModel, Sway, facing, place
from semantic_stereo_ros.synthetic.sensor import SyntheticMiscalibration, SyntheticSensor
from semantic_stereo_ros.synthetic.sequence import SyntheticSequence
from semantic_stereo_ros.synthetic.texture import Texture
from semantic_stereo_ros.types import StereoRig

_CAMERA_SWAY_M = 0.25
_MOST_OBJECTS = 500


def default_rig(size_wh: tuple[int, int] = (640, 480), baseline_m: float = 0.2, doffs_px: float = 0.0) -> StereoRig:
    """A rig with a horizontal field of view of 61 degrees; 1.5 m is 72 px of disparity at 640 px width."""
    width, height = size_wh
    focal = 0.85 * width
    return StereoRig(size_wh=size_wh, fx=focal, fy=focal, cx=(width - 1) / 2, cy=(height - 1) / 2, baseline_m=baseline_m, doffs_px=doffs_px)


def random_sequence(
    seed: int,
    frames: int = 1,
    size_wh: tuple[int, int] = (640, 480),
    objects: int | None = None,
    *,
    rig: StereoRig | None = None,
    doffs_px: float = 0.0,
    fps: float = 15.0,
    moving_share: float = 0.3,
    noise_sigma: float = 2.0,
    right_gain: float = 1.0,
    right_offset: float = 0.0,
    blur_px: float = 0.4,
    color: bool = True,
    dtype: type = np.uint8,
    miscalibration: SyntheticMiscalibration | None = None,
    antialias: bool = True,
    shadows: bool = False,
) -> SyntheticSequence:
    """A random scene with `objects` objects (6 to 12 when None) at 1.5 to 10 m; the same `seed` gives the same frames.

    rig: overrides size_wh and doffs_px. moving_share: chance of an object to move. antialias: silhouettes mix both sides. shadows: the
    lamp's, hard. The rest: see SyntheticSensor and SyntheticMiscalibration. Raises ConfigError for frames < 1 or objects outside 0..500.
    """
    if frames < 1:
        raise ConfigError(f"a sequence needs at least one frame, got frames={frames}")
    if objects is not None and not 0 <= objects <= _MOST_OBJECTS:
        raise ConfigError(f"a random scene holds 0 to {_MOST_OBJECTS} objects, got objects={objects}")
    rng = np.random.default_rng([seed, 7])
    rig = rig or default_rig(size_wh, doffs_px=doffs_px)
    count = int(rng.integers(6, 13)) if objects is None else objects
    camera = _camera(rng)
    far_m = float(rng.uniform(9.0, 12.0))
    half_view = 0.5 * rig.size_wh[0] / rig.fx
    bodies = [*_room(rng, far_m), *_objects(rng, count, min(far_m - 1.0, 10.0), half_view, moving_share)]
    light = (float(rng.uniform(-0.8, -0.1)), float(rng.uniform(-0.6, 0.6)), 0.9)
    return SyntheticSequence(
        model=SceneModel(tuple(bodies), camera, light, shadows=shadows),
        rig=rig,
        frames=frames,
        fps=fps,
        seed=seed,
        sensor=SyntheticSensor(noise_sigma, right_gain, right_offset, blur_px, color, dtype),
        miscalibration=miscalibration or SyntheticMiscalibration(),
        antialias=antialias,
    )


def _camera(rng: np.random.Generator) -> CameraPath:
    amplitude = rng.uniform(0.3, 1.0, 3) * (_CAMERA_SWAY_M, _CAMERA_SWAY_M, 0.04)
    angles = rng.uniform(0.3, 1.0, 3) * (0.05, 0.02, 0.01)
    return CameraPath(
        position_m=(0.0, 0.0, float(rng.uniform(0.9, 1.5))),
        pitch=float(rng.uniform(0.08, 0.2)),
        position_sway=Sway(tuple(amplitude), float(rng.uniform(5.0, 9.0)), float(rng.uniform(0.0, 6.28))),
        angle_sway=Sway(tuple(angles), float(rng.uniform(4.0, 8.0)), float(rng.uniform(0.0, 6.28))),
    )


def _room(rng: np.random.Generator, far_m: float) -> list[Body]:
    endless = (np.inf, np.inf, 0.0)
    floors = (
        Texture((0.45, 0.32, 0.22), (0.72, 0.55, 0.38), "cells", 0.8, 0.5, 0.006, 6.0, 0.14, 1.3, 0.47, 0.004),
        Texture((0.42, 0.42, 0.44), (0.72, 0.71, 0.68), "cells", 0.7, 0.3, 0.005, 1.0, 0.4, 0.4, 0.0, 0.008),
        Texture((0.30, 0.31, 0.32), (0.66, 0.65, 0.62), "plain", 1.0, 0.0, 0.006),
        Texture((0.28, 0.33, 0.40), (0.55, 0.60, 0.66), "checker", 0.7, 0.35, 0.005, 1.0, 0.5),
    )
    walls = (
        Texture((0.50, 0.24, 0.18), (0.76, 0.46, 0.36), "cells", 0.6, 0.5, 0.008, 1.0, 0.08, 0.24, 0.12, 0.01),
        Texture((0.55, 0.54, 0.48), (0.86, 0.84, 0.78), "plain", 0.6, 0.0, 0.012),
        Texture((0.40, 0.46, 0.44), (0.74, 0.78, 0.74), "cells", 0.6, 0.4, 0.01, 1.0, 0.6, 1.1, 0.3, 0.012),
    )
    floor, wall = floors[rng.integers(len(floors))], walls[rng.integers(len(walls))]
    bodies = [
        Body("floor", "plane", endless, floor),
        Body("wall", "plane", endless, wall, facing((far_m, 0.0, 0.0), (-1.0, float(rng.uniform(-0.15, 0.15)), 0.0))),
    ]
    for side in (-1.0, 1.0):
        if rng.uniform() < 0.5:
            at = side * float(rng.uniform(4.0, 6.0))
            bodies.append(Body("wall", "plane", endless, wall, facing((0.0, at, 0.0), (0.0, -side, 0.0))))
    return bodies


def _objects(rng: np.random.Generator, count: int, far_m: float, half_view: float, moving_share: float) -> list[Body]:
    bodies: list[Body] = []
    taken: list[tuple[float, float, float]] = []
    attempts = 0
    while len(bodies) < count:
        attempts += 1
        shrink = 0.985 ** max(0, attempts - 4 * count)
        forward = float(1.5 + (far_m - 1.5) * rng.uniform() ** 1.3)
        left = float(forward * half_view * rng.uniform(-0.9, 0.9))
        name, shape, size = _size(rng, min(1.0, 0.45 + 0.12 * forward), shrink)
        reach = shrink * float(rng.uniform(0.3, 0.8)) if rng.uniform() < moving_share else 0.0
        radius = 0.5 * float(np.hypot(size[0], size[1])) + reach
        clear = all(np.hypot(forward - f, left - s) > radius + r + 0.1 * shrink for f, s, r in taken)
        if not clear or forward - radius < 1.1 or forward + radius > far_m + 0.5 or abs(left) + radius > 3.9:
            continue
        taken.append((forward, left, radius))
        heading = float(rng.uniform(0.0, 6.28))
        sway = None
        if reach:
            sway = Sway(
                (reach * np.cos(heading), reach * np.sin(heading), 0.0), float(rng.uniform(4.0, 8.0)), float(rng.uniform(0.0, 6.28))
            )
        pose = place((forward, left, 0.5 * size[2]), heading)
        bodies.append(Body(name, shape, size, random_texture(rng), pose, len(bodies) + 1, sway=sway))
    return bodies


def _size(rng: np.random.Generator, scale: float, shrink: float) -> tuple[str, str, tuple[float, float, float]]:
    """(name, shape, size): `scale` grows with the distance and leaves poles alone, `shrink` makes room in a crowd."""
    scale *= shrink
    kind = rng.choice(["box", "ball", "cylinder", "pole"], p=[0.5, 0.17, 0.18, 0.15])
    if kind == "box":
        sides = rng.uniform((0.3, 0.3, 0.3), (0.9, 0.9, 1.5)) * scale
        return "box", "box", (float(sides[0]), float(sides[1]), float(sides[2]))
    if kind == "ball":
        diameter = float(rng.uniform(0.35, 0.8) * scale)
        return "ball", "sphere", (diameter, diameter, diameter)
    thin = kind == "pole"
    diameter = float(rng.uniform(0.08, 0.16) * shrink if thin else rng.uniform(0.3, 0.6) * scale)
    height = float(rng.uniform(1.2, 2.2) if thin else rng.uniform(0.4, 1.4) * scale)
    return str(kind), "cylinder", (diameter, diameter, height)


def random_texture(rng: np.random.Generator) -> Texture:
    """A coloured texture for an object: noise of differing contrast (one in eight nearly bare), sometimes checks, stripes or bricks."""
    base = 0.2 + 0.6 * rng.uniform(0.0, 1.0, 3)
    spread = rng.uniform(0.15, 0.35) * np.array([1.0, 1.0, 1.0])
    dark, bright = np.clip(base - spread, 0.03, 1.0), np.clip(base + spread, 0.0, 0.97)
    pattern = str(rng.choice(["plain", "checker", "stripes", "cells"], p=[0.6, 0.12, 0.13, 0.15]))
    offset = rng.uniform(0.0, 50.0, 2)
    return Texture(
        color_a=(float(dark[0]), float(dark[1]), float(dark[2])),
        color_b=(float(bright[0]), float(bright[1]), float(bright[2])),
        pattern=pattern,
        contrast=float(rng.uniform(0.12, 0.3) if rng.uniform() < 0.12 else rng.uniform(0.35, 1.0)),
        pattern_contrast=float(rng.uniform(0.25, 0.5)),
        grain_m=float(rng.uniform(0.003, 0.007)),
        pattern_m=float(rng.uniform(0.06, 0.15)),
        cell_length_m=float(rng.uniform(0.1, 0.3)),
        stagger_m=float(rng.uniform(0.0, 0.1)),
        joint_m=float(rng.uniform(0.0, 0.01)),
        offset_m=(float(offset[0]), float(offset[1])),
    )
