"""Repeating and bare texture in exact scenes: what cannot be told is unknown, and what can stays."""

from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.config import from_flat
from semantic_stereo_ros.geometry.depth import disparity_to_depth
from semantic_stereo_ros.geometry.points import depth_to_points
from semantic_stereo_ros.io.images import read_image
from semantic_stereo_ros.metrics import disparity_metrics
from semantic_stereo_ros.options import build
from semantic_stereo_ros.pipeline import Pipeline
from semantic_stereo_ros.stereo.backends.sgbm import Backend, Config
from semantic_stereo_ros.synthetic import (
    Body,
    CameraPath,
    SceneModel,
    SyntheticFrame,
    SyntheticSensor,
    SyntheticSequence,
    Texture,
    default_rig,
    random_sequence,
)
from semantic_stereo_ros.synthetic.scene import facing, place
from semantic_stereo_ros.types import StereoFrame

DARK, LIGHT = (0.2, 0.2, 0.22), (0.75, 0.74, 0.72)
PLASTER = Texture((0.35, 0.34, 0.3), (0.86, 0.84, 0.78), contrast=1.0, grain_m=0.012)
CONCRETE = Texture((0.30, 0.31, 0.32), (0.66, 0.65, 0.62), contrast=1.0, grain_m=0.006)


def checks(size_m: float, contrast: float = 0.05) -> Texture:
    return Texture(DARK, LIGHT, "checker", contrast, 0.8, 0.005, pattern_m=size_m)


def tiles(size_m: float) -> Texture:
    return Texture(DARK, LIGHT, "cells", 0.05, 0.0, 0.005, pattern_m=size_m, cell_length_m=size_m, joint_m=0.01)


BRICKS = Texture((0.5, 0.24, 0.18), (0.76, 0.46, 0.36), "cells", 0.1, 0.0, 0.008, 1.0, 0.08, 0.24, 0.12, 0.012)
BARE = Texture((0.70, 0.70, 0.68), (0.72, 0.72, 0.70), contrast=0.3, grain_m=0.02)
BLOWN_OUT = Texture((2.0, 2.0, 2.0), (2.0, 2.0, 2.0), contrast=0.0)


def floor(texture: Texture = CONCRETE) -> Body:
    return Body("floor", "plane", (np.inf, np.inf, 0.0), texture)


def wall(texture: Texture, at_m: float) -> Body:
    return Body("wall", "plane", (np.inf, np.inf, 0.0), texture, facing((at_m, 0.0, 0.0), (-1.0, 0.1, 0.0)))


def crate(at_m: float) -> Body:
    wood = Texture((0.5, 0.3, 0.12), (0.9, 0.64, 0.34), contrast=0.9, grain_m=0.005, offset_m=(3.0, 4.0))
    return Body("crate", "box", (0.5, 0.5, 0.9), wood, place((at_m, 0.3, 0.45), 0.4), 1)


def fence(at_m: float) -> list[Body]:
    paint = Texture((0.75, 0.74, 0.70), (0.95, 0.94, 0.92), contrast=0.1, grain_m=0.005)
    return [Body("picket", "box", (0.02, 0.06, 1.2), paint, place((at_m, left, 0.6)), 1) for left in np.arange(-3.0, 3.0, 0.15)]


def sequence(*bodies: Body, pitch: float = 0.12, frames: int = 1, noise: float = 2.0) -> SyntheticSequence:
    model = SceneModel(bodies, CameraPath(position_m=(0.0, 0.0, 1.2), pitch=pitch))
    return SyntheticSequence(model, default_rig(), frames=frames, sensor=SyntheticSensor(noise_sigma=noise))


REPEATING = {
    "wall of 8 cm checks": sequence(floor(), wall(checks(0.08), 3.0)),
    "wall of 8 cm tiles": sequence(floor(), wall(tiles(0.08), 6.0)),
    "wall of 15 cm checks": sequence(floor(), wall(checks(0.15), 4.5)),
    "wall of 15 cm tiles": sequence(floor(), wall(tiles(0.15), 4.5)),
    "wall of 15 cm tiles behind a crate": sequence(floor(), wall(tiles(0.15), 5.0), crate(3.0)),
    "floor of 8 cm tiles": sequence(floor(tiles(0.08)), wall(PLASTER, 7.0), crate(3.5), pitch=0.3),
    "floor of 15 cm tiles": sequence(floor(tiles(0.15)), wall(PLASTER, 7.0), crate(3.5), pitch=0.3),
    "bricks": sequence(floor(), wall(BRICKS, 4.0)),
    "checked box": sequence(
        floor(), wall(PLASTER, 6.0), Body("box", "box", (0.7, 0.9, 0.9), checks(0.06, 0.0), place((3.0, 0.1, 0.45)), 1)
    ),
    "fence": sequence(floor(), wall(PLASTER, 6.0), *fence(2.0)),
}


def match(frame: StereoFrame, **options):
    return Backend(build(Config, options))(frame)


def phantoms(item: SyntheticFrame, **options) -> tuple[int, int]:
    """(objects reported, those whose distance is off by more than 3 sigma and 5 % from what their own pixels truly show)."""
    scene = Pipeline(from_flat(options))(item.frame)
    points = depth_to_points(disparity_to_depth(item.disparity_px, item.rig), item.rig)
    reported = off = 0
    for found in scene.objects:
        if found.label is None or not np.isfinite(found.distance_m):
            continue
        true_m = np.linalg.norm(np.nanmedian(points[scene.segmentation.labels == found.label], axis=0))
        error_m = abs(found.distance_m - true_m)
        reported += 1
        off += not error_m <= max(3 * found.distance_sigma_m, 0.05 * true_m)
    return reported, off


@pytest.fixture(scope="module", params=REPEATING)
def repeating(request) -> SyntheticFrame:
    return REPEATING[request.param][0]


def test_repeating_texture_gives_hardly_a_wrong_pixel(repeating):
    against = disparity_metrics(match(repeating.frame).disparity_px, repeating.disparity_px, ~repeating.occluded)
    assert against.bad_2_answered < 0.03
    assert against.density > 0.25  # the floor, the wall behind, the crate


def test_repeating_texture_makes_no_phantom_objects():
    counts = np.array([phantoms(scenes[0]) for scenes in REPEATING.values()])
    unchecked = np.array([phantoms(scenes[0], **{"stereo.sgbm.ambiguity_check": False}) for scenes in REPEATING.values()])
    assert unchecked[:, 1].sum() > 10  # the scenes do ask the question
    assert counts[:, 1].sum() <= 1


@pytest.mark.parametrize("surface", [BARE, BLOWN_OUT], ids=["bare wall", "blown-out sky"])
def test_what_has_no_texture_makes_no_phantom(surface):
    for item in sequence(floor(), wall(surface, 4.0), frames=6):
        assert phantoms(item)[1] == 0


def test_the_shared_case_of_a_tiled_wall(real_data):
    folder = real_data("real").parents[1] / "cases" / "ambiguous"
    if not folder.is_dir():
        pytest.skip("the case 'ambiguous' is missing beside the real data")
    left, right = (read_image(str(folder / f"tiles_{side}.png")) for side in ("left", "right"))
    scene = Pipeline()(StereoFrame(left, right, default_rig()))
    near = [o for o in scene.objects if o.label is not None and o.distance_m < 5.5]
    assert not near  # a wall at 6 m and nothing before it


def test_texture_that_does_not_repeat_stays():
    for seed in (31, 32):
        item = random_sequence(seed)[0]
        off, on = (
            disparity_metrics(match(item.frame, ambiguity_check=c).disparity_px, item.disparity_px, ~item.occluded) for c in (False, True)
        )
        assert on.density > 0.99 * off.density
        assert on.bad_2_answered <= off.bad_2_answered + 1e-3


def test_what_is_unknown_because_it_repeats_is_said():
    backend = Backend(Config())
    backend(REPEATING["wall of 15 cm tiles"][0].frame)
    (note,) = backend.notes()
    assert "repeats along the rows" in note and "unknown" in note
    backend(random_sequence(31)[0].frame)
    assert backend.notes() == ()
