"""The geometric backend on unseen synthetic scenes with known instances, and on real pairs."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.segmentation.backends.geometric import Backend, Config
from semantic_stereo_ros.stereo.backends import sgbm
from semantic_stereo_ros.synthetic import (
    Body,
    CameraPath,
    SceneModel,
    SyntheticFrame,
    SyntheticSequence,
    Texture,
    default_rig,
    plane,
    random_sequence,
)
from semantic_stereo_ros.synthetic.scene import facing, place
from semantic_stereo_ros.types import CLASS_STRUCTURE, Disparity, Segmentation, StereoFrame, StereoRig

SEEDS = range(9000, 9016)
STREET = StereoRig((1226, 370), 707.0912, 707.0912, 601.8873, 183.1104, 0.53715)
MOTORCYCLE = StereoRig((741, 500), 994.978, 994.978, 311.193, 254.877, 0.193001, 31.086)


def match(frame: StereoFrame, **options) -> Disparity:
    backend = sgbm.Backend(sgbm.Config(**options))
    backend.load()
    return backend(frame)


def exact(scene: SyntheticFrame, sigma_px: float = 0.2) -> Disparity:
    disparity = scene.disparity_px.astype(np.float32)
    sigma = np.full_like(disparity, sigma_px)
    return Disparity(disparity, sigma, np.ones_like(disparity), scene.rig)


def overlaps(truth: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(largest truth id + 1, largest label + 1) intersection over union; row 0 and column 0 are the backgrounds'."""
    n, m = int(truth.max()) + 1, int(labels.max()) + 1
    both = np.bincount(truth.ravel().astype(np.int64) * m + labels.ravel(), minlength=n * m).reshape(n, m)
    return both / np.maximum(both.sum(1)[:, None] + both.sum(0)[None] - both, 1)


def load(path: Path) -> np.ndarray:
    """(H, W) uint8 or (H, W, 3) RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image if image.ndim == 2 else np.ascontiguousarray(image[..., 2::-1])


@cache
def matched_scene(seed: int) -> tuple[SyntheticFrame, Disparity]:
    scene = random_sequence(seed)[0]
    return scene, match(scene.frame)


def assert_well_formed(result: Segmentation, shape: tuple[int, int]) -> None:
    labels = result.labels
    assert labels.shape == shape and labels.dtype == np.uint16
    present = np.unique(labels[labels > 0])
    assert present.tolist() == [i.label for i in result.object_instances] == list(range(1, len(present) + 1))
    assert all(0.0 < i.score <= 1.0 for i in result.object_instances)


def test_instances_of_unseen_scenes():
    found, objects, poles_found, poles, labels, false = 0, 0, 0, 0, 0, 0
    best_overlaps = []
    for seed in SEEDS:
        scene, disparity = matched_scene(seed)
        result = Backend(Config())(scene.frame, disparity)
        assert_well_formed(result, scene.frame.shape)
        assert result.ground is not None
        overlap = overlaps(scene.instance_ids, result.labels)
        overlap[:, 0] = 0
        for item in scene.objects:
            mask = scene.instance_ids == item.object_id
            if item.pixels < 400 or item.depth_m > 8.0 or disparity.valid[mask].mean() < 0.5:
                continue
            best = float(overlap[item.object_id].max())
            best_overlaps.append(best)
            objects += 1
            found += best >= 0.5
            poles += item.name == "pole"
            poles_found += item.name == "pole" and best >= 0.5
        labels += len(result.object_instances)
        for label in range(1, overlap.shape[1]):
            on_object = np.mean(scene.instance_ids[result.labels == label] > 0)
            false += on_object < 0.5
    assert objects > 80 and poles > 8
    assert found / objects >= 0.92, f"{found} of {objects}"
    assert poles_found / poles >= 0.75, f"{poles_found} of {poles} poles"
    assert np.median(best_overlaps) >= 0.87
    assert false / labels <= 0.05, f"{false} false of {labels}"


def test_the_same_scene_under_other_noise_gives_the_same_objects():
    shares = []
    for seed in SEEDS[:6]:
        scene, disparity = matched_scene(seed)
        again = dataclasses.replace(random_sequence(seed), seed=seed + 50000)[0]
        assert (again.frame.left != scene.frame.left).any()
        first = Backend(Config())(scene.frame, disparity).labels
        second = Backend(Config())(again.frame, match(again.frame)).labels
        overlap = overlaps(first, second)[1:, 1:]
        shares += overlap.max(axis=1).tolist()
    assert np.mean(np.array(shares) > 0.5) >= 0.9
    assert np.mean(shares) >= 0.85


def test_the_lower_edge_stays_at_the_ground_contact():
    cuts = []
    for seed in SEEDS:
        scene, _ = matched_scene(seed)
        labels = Backend(Config())(scene.frame, exact(scene)).labels
        overlap = overlaps(scene.instance_ids, labels)
        overlap[:, 0] = 0
        for item in scene.objects:
            if item.box_xyxy[3] >= scene.frame.shape[0] or item.pixels < 400 or item.depth_m > 8.0:
                continue
            best = int(overlap[item.object_id].argmax())
            if overlap[item.object_id, best] < 0.7:
                continue
            rows = np.flatnonzero((labels == best).any(axis=1))
            cuts.append(item.box_xyxy[3] - 1 - rows[-1])
    assert len(cuts) > 60
    assert abs(np.median(cuts)) <= 2
    assert np.percentile(np.abs(cuts), 80) <= 6


def test_ground_and_walls_are_background():
    for seed in SEEDS[:6]:
        scene, _ = matched_scene(seed)
        labels = Backend(Config())(scene.frame, exact(scene)).labels
        assert np.mean(labels[scene.instance_ids == 0] > 0) < 0.01


@pytest.mark.parametrize("tilt_x", [0.0, 0.5])
def test_a_wall_alone_holds_no_object(tilt_x):
    scene = plane(3.0, (640, 480), tilt_x=tilt_x)
    result = Backend(Config())(scene.frame, match(scene.frame))
    assert result.ground is None
    assert result.object_instances == () and not result.labels.any()


def test_an_object_before_a_wall_needs_no_ground():
    scene = plane(4.0, (320, 240))
    disparity = scene.disparity_px.copy()
    disparity[80:180, 100:170] *= 1.6
    sigma = np.full_like(disparity, 0.2)
    result = Backend(Config(ground=False))(scene.frame, Disparity(disparity, sigma, np.ones_like(sigma), scene.rig))
    assert len(result.object_instances) == 1
    truth = np.zeros(disparity.shape, bool)
    truth[80:180, 100:170] = True
    assert np.mean(truth == (result.labels == 1)) > 0.995


def rail_scene() -> SyntheticFrame:
    """A rail 8 m long and a car's size of a box that touches it (id 1 both), a box that stands apart (id 2), a wall behind."""
    texture = Texture((0.2, 0.2, 0.2), (0.8, 0.8, 0.8))
    bodies = (
        Body("floor", "plane", (np.inf, np.inf, 0.0), texture),
        Body("wall", "plane", (np.inf, np.inf, 0.0), texture, facing((20.0, 0.0, 0.0), (-1.0, 0.0, 0.0))),
        Body("rail", "box", (0.3, 8.0, 0.8), texture, place((9.0, 0.0, 0.4)), 1),
        Body("car", "box", (0.4, 1.8, 1.4), texture, place((8.95, 1.5, 0.7)), 1),
        Body("box", "box", (0.5, 0.5, 0.9), texture, place((5.0, -2.6, 0.45)), 2),
    )
    return SyntheticSequence(SceneModel(bodies, CameraPath((0.0, 0.0, 1.2), pitch=0.1)), default_rig())[0]


def test_what_is_too_large_for_an_object_is_a_structure_with_all_that_it_touches():
    scene = rail_scene()
    result = Backend(Config())(scene.frame, exact(scene, 0.1))
    assert result.structures is not None
    (item,) = (i for i in result.instances if i.layer == 1)
    assert (item.class_name, item.class_id, result.layers[1].level) == ("structure", CLASS_STRUCTURE, "structure")
    assert overlaps(scene.instance_ids == 1, result.structures)[1, 1] > 0.8
    assert len(result.object_instances) == 1 and overlaps(scene.instance_ids == 2, result.labels)[1, 1] > 0.8
    assert not ((result.labels > 0) & (result.structures > 0)).any()
    larger = Backend(Config(max_size_m=20.0))(scene.frame, exact(scene, 0.1))
    assert larger.structures is None and len(larger.object_instances) == 2


def test_what_stands_on_a_table_is_found_at_its_own_scale():
    """Blocks 5 to 8 cm high, 0.7 m away, and the same scene ten times as large and as far."""
    texture = Texture((0.2, 0.2, 0.2), (0.8, 0.8, 0.8))
    places = ((0.7, 0.15, 0.05), (0.75, 0.0, 0.06), (0.7, -0.16, 0.07), (0.95, 0.12, 0.08), (0.95, -0.1, 0.06))
    for scale in (1.0, 10.0):
        blocks = tuple(
            Body(f"block {i}", "box", (0.05 * scale, 0.06 * scale, h * scale), texture, place((x * scale, y * scale, h * scale / 2)), i)
            for i, (x, y, h) in enumerate(places, 1)
        )
        table = Body("table", "plane", (np.inf, np.inf, 0.0), texture)
        camera = CameraPath((0.0, 0.0, 0.35 * scale), pitch=0.45)
        rig = default_rig(baseline_m=0.05 * scale)
        scene = SyntheticSequence(SceneModel((table, *blocks), camera), rig)[0]
        result = Backend(Config())(scene.frame, exact(scene, 0.1))
        assert (overlaps(scene.instance_ids, result.labels)[1:, 1:].max(axis=1) > 0.5).all(), scale


def test_nothing_known_gives_nothing():
    scene = plane(3.0)
    unknown = np.full(scene.frame.shape, np.nan, np.float32)
    result = Backend(Config())(scene.frame, Disparity(unknown, unknown, np.zeros_like(unknown), scene.rig))
    assert_well_formed(result, scene.frame.shape)
    assert result.object_instances == () and result.ground is None


@pytest.mark.parametrize("size_wh", [(64, 48), (33, 17), (5, 4)])
def test_tiny_images_do_not_fail(size_wh):
    scene = random_sequence(9000, size_wh=size_wh)[0]
    assert_well_formed(Backend(Config())(scene.frame, exact(scene)), scene.frame.shape)


def test_options_limit_what_is_reported():
    scene, disparity = matched_scene(SEEDS[0])
    everything = Backend(Config())(scene.frame, disparity)
    near = Backend(Config(max_range_m=4.0))(scene.frame, disparity)
    large = Backend(Config(min_pixels=4000))(scene.frame, disparity)
    depth = scene.rig.bf / np.where(disparity.valid, disparity.disparity_px, np.nan)
    assert 0 < len(near.object_instances) < len(everything.object_instances)
    assert np.nanmax(depth[near.labels > 0]) < 4.2
    assert np.bincount(large.labels.ravel())[1:].min() >= 4000


def test_a_missing_or_foreign_disparity_is_refused():
    scene, _ = matched_scene(SEEDS[0])
    with pytest.raises(ImageError, match="got None"):
        Backend(Config())(scene.frame, None)
    with pytest.raises(ImageError, match="match the two"):
        Backend(Config())(scene.frame, exact(plane(3.0)))


def test_frames_after_a_reset_do_not_depend_on_those_before():
    backend = Backend(Config())
    for seed in SEEDS[:2]:
        scene, disparity = matched_scene(seed)
        backend(scene.frame, disparity)
    backend.reset("test")
    scene, disparity = matched_scene(SEEDS[2])
    np.testing.assert_array_equal(backend(scene.frame, disparity).labels, Backend(Config())(scene.frame, disparity).labels)


# Cars outlined by hand: frame, (x_min, y_min, x_max, y_max) px.
CARS = [(0, (738, 172, 850, 252)), (10, (659, 174, 731, 218)), (16, (690, 176, 805, 237)), (20, (748, 178, 880, 264))]


@pytest.mark.parametrize(("number", "box"), CARS)
def test_cars_of_the_street_are_instances(real_data, number, box):
    folder = real_data("street")
    left, right = (load(folder / f"image_{side}" / f"{number:06d}.png") for side in "lr")
    frame = StereoFrame(left, right, STREET)
    result = Backend(Config())(frame, match(frame, num_disparities=96))
    assert result.ground is not None
    assert 1.5 < result.ground.offset_m < 1.8  # KITTI's cameras stand 1.65 m above the road
    car = np.zeros(frame.shape, np.uint16)
    car[box[1] : box[3], box[0] : box[2]] = 1
    assert overlaps(car, result.labels)[1, 1:].max() > 0.55
    road = result.labels[300:, 500:650]
    assert not road.any()


def test_the_motorcycle_is_one_instance(real_data):
    folder = real_data("motorcycle")
    left, right = (load(folder / f"motorcycle_{side}.png") for side in ("left", "right"))
    frame = StereoFrame(left, right, MOTORCYCLE)
    result = Backend(Config())(frame, match(frame))
    assert result.ground is not None
    truth_px = np.load(folder / "motorcycle_disp.npz")["arr_0"].astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = np.where(np.isfinite(truth_px), MOTORCYCLE.bf / (truth_px + MOTORCYCLE.doffs_px), np.nan)
        rows = (np.arange(500, dtype=np.float32)[:, None] - MOTORCYCLE.cy) / MOTORCYCLE.fy
        columns = (np.arange(741, dtype=np.float32)[None] - MOTORCYCLE.cx) / MOTORCYCLE.fx
        normal, offset = result.ground.normal, result.ground.offset_m
        height = depth * (normal[0] * columns + normal[1] * rows + normal[2]) + offset
        motorcycle = (depth < 3.0) & (height > 0.03)
    overlap = overlaps(motorcycle.astype(np.uint16), result.labels)[1, 1:]
    assert overlap.max() > 0.75


def test_a_size_at_the_limit_does_not_flicker():
    """The same view with a longer baseline is the same scene, only larger."""

    def largest_overlap(backend: Backend, scale: float) -> float:
        rig = dataclasses.replace(scene.rig, baseline_m=scale * scene.rig.baseline_m)
        disparity = dataclasses.replace(exact(scene), rig=rig)
        result = backend(dataclasses.replace(scene.frame, rig=rig), disparity)
        return float(overlaps(scene.instance_ids, result.labels)[target.object_id, 1:].max(initial=0.0))

    scene = random_sequence(9001)[0]
    target = max(scene.visible_objects, key=lambda o: o.pixels)
    backend = Backend(Config(max_size_m=1.0 * float(target.size_m.max())))
    assert largest_overlap(backend, 1.0) > 0.6
    assert largest_overlap(backend, 1.5) > 0.6
    backend.reset("test")
    assert largest_overlap(backend, 1.5) == 0.0
