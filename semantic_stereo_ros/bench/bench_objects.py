"""Depth, nearest point and sigma of many objects: one pass over a label map against loops over masks and boxes.

The baselines are given what they need beforehand, outside the timing: boolean masks, image boxes, the depth, range and sigma images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from semantic_stereo_ros.fusion.measure import measure
from semantic_stereo_ros.geometry.depth import depth_sigma, depth_to_disparity, disparity_to_depth
from semantic_stereo_ros.geometry.points import ray_tables
from semantic_stereo_ros.registry import backend_module
from semantic_stereo_ros.synthetic import default_rig, random_sequence
from semantic_stereo_ros.types import Disparity, Segmentation

SIZE_WH = (1280, 720)
LABELLED_SHARE = 0.2
NEAR_PERCENTILE = 5.0
SYNTHETIC_SEEDS = range(4000, 4020)
MIN_SYNTHETIC_PIXELS = 64


@dataclass(frozen=True, eq=False)
class ObjectScene:
    """Tilted ellipses over a wall with true depth and nearest range, seen with matcher-like errors."""

    disparity: Disparity
    segmentation: Segmentation
    masks: list[np.ndarray]
    boxes_xyxy: list[tuple[int, int, int, int]]
    depth_m: np.ndarray
    range_m: np.ndarray
    sigma_m: np.ndarray
    true_depth_m: np.ndarray
    true_nearest_m: np.ndarray


def make_scene(objects: int, seed: int = 0, share: float = LABELLED_SHARE, bleed_px: int = 2) -> ObjectScene:
    """`objects` tilted ellipses on a grid that cover `share` of a 1280x720 image.

    Errors as a matcher makes them: smooth ones shared by neighbours, fine noise, wrong matches, unknown pixels, and the wall's disparity
    bleeding bleed_px into every silhouette.
    """
    rng = np.random.default_rng(seed)
    width, height = SIZE_WH
    rig = default_rig(SIZE_WH)
    labels, truth, bled = np.zeros((height, width), np.uint16), np.full((height, width), 12.0), np.zeros((height, width), bool)
    columns = int(np.ceil(np.sqrt(objects * width / height)))
    rows = int(np.ceil(objects / columns))
    radius = np.sqrt(share * width * height / objects / np.pi)
    v, u = np.mgrid[:height, :width]
    for label in range(1, objects + 1):
        row, column = divmod(label - 1, columns)
        center = (int((column + 0.5) * width / columns), int((row + 0.5) * height / rows))
        aspect = rng.uniform(0.8, 1.25)
        mask = np.zeros((height, width), np.uint8)
        cv2.ellipse(mask, center, (max(2, int(radius * aspect)), max(2, int(radius / aspect))), rng.uniform(0, 180), 0, 360, 1, -1)
        inside = mask > 0
        tilt = rng.uniform(-0.15, 0.15, 2) / radius
        plane = rng.uniform(1.5, 10.0) * (1.0 + tilt[0] * (u - center[0]) + tilt[1] * (v - center[1]))
        labels[inside], truth[inside] = label, plane[inside]
        core = cv2.erode(mask, np.ones((2 * bleed_px + 1, 2 * bleed_px + 1), np.uint8)) > 0
        bled |= inside & ~core & (rng.random((height, width)) < 0.5)
    seen = np.where(bled, 12.0, truth)
    disparity = depth_to_disparity(seen, rig)
    shared = cv2.resize(rng.normal(0, 0.15, (height // 16, width // 16)), SIZE_WH, interpolation=cv2.INTER_CUBIC)
    disparity = disparity + shared + rng.normal(0, 0.2, disparity.shape)
    wrong = rng.random(disparity.shape) < 0.03
    disparity[wrong] = rng.uniform(2, 128, int(wrong.sum()))
    disparity[rng.random(disparity.shape) < 0.1] = np.nan
    disparity = disparity.astype(np.float32)
    sigma_px = np.where(np.isnan(disparity), np.nan, 0.25).astype(np.float32)
    full = Disparity(disparity, sigma_px, np.nan_to_num(1.0 - sigma_px).astype(np.float32), rig, 0.0, 128.0)
    x_over_z, y_over_z = ray_tables(rig)
    ray = np.sqrt(1.0 + x_over_z[None] ** 2 + y_over_z[:, None] ** 2)
    masks = [labels == label for label in range(1, objects + 1)]
    true_range = truth * ray
    true_depth = np.array([np.median(truth[m]) for m in masks])
    return _object_scene(full, labels, masks, true_depth, np.array([np.percentile(true_range[m], NEAR_PERCENTILE) for m in masks]))


def synthetic_scene(seed: int) -> ObjectScene:
    """A random scene's first frame through the sgbm backend, with the scene's own masks, as far as a tenth of their pixels is known."""
    synthetic = random_sequence(seed)[0]
    module = backend_module("stereo", "sgbm")
    matcher = module.Backend(module.Config())
    matcher.load()
    disparity = matcher(synthetic.frame)
    truth = [
        o
        for o in synthetic.visible_objects
        if disparity.valid[synthetic.instance_ids == o.object_id].mean() >= 0.1 and o.pixels >= MIN_SYNTHETIC_PIXELS
    ]
    masks = [synthetic.instance_ids == o.object_id for o in truth]
    labels = np.zeros(disparity.disparity_px.shape, np.uint16)
    for label, mask in enumerate(masks, 1):
        labels[mask] = label
    return _object_scene(disparity, labels, masks, np.array([o.depth_m for o in truth]), np.array([o.nearest_m for o in truth]))


def _object_scene(
    disparity: Disparity, labels: np.ndarray, masks: list[np.ndarray], true_depth_m: np.ndarray, true_nearest_m: np.ndarray
) -> ObjectScene:
    depth = disparity_to_depth(disparity.disparity_px, disparity.rig)
    x_over_z, y_over_z = ray_tables(disparity.rig)
    boxes = [(x, y, x + w, y + h) for x, y, w, h in (cv2.boundingRect(m.astype(np.uint8)) for m in masks)]
    return ObjectScene(
        disparity=disparity,
        segmentation=Segmentation.from_labels(labels),
        masks=masks,
        boxes_xyxy=boxes,
        depth_m=depth,
        range_m=depth * np.sqrt(1.0 + x_over_z[None] ** 2 + y_over_z[:, None] ** 2),
        sigma_m=depth_sigma(depth, disparity.sigma_px, disparity.rig),
        true_depth_m=true_depth_m,
        true_nearest_m=true_nearest_m,
    )


def label_map(scene: ObjectScene, boxes: bool = False) -> np.ndarray:
    """Ours: (n, 3) depth, nearest, sigma; boxes=True adds the oriented boxes to the work."""
    result = measure(scene.disparity, scene.segmentation, boxes=boxes)
    return np.array([(m.depth_m, m.nearest_m, m.depth_sigma_m) for m in result])


def mask_median(scene: ObjectScene) -> np.ndarray:
    """np.median and np.percentile of the known pixels of every boolean mask."""
    result = []
    for mask in scene.masks:
        depth = scene.depth_m[mask]
        known = np.isfinite(depth)
        near = np.percentile(scene.range_m[mask][known], NEAR_PERCENTILE)
        result.append((np.median(depth[known]), near, np.median(scene.sigma_m[mask][known])))
    return np.array(result)


def box_median(scene: ObjectScene) -> np.ndarray:
    """The same over the image boxes: what a detector without masks does."""
    result = []
    for x0, y0, x1, y1 in scene.boxes_xyxy:
        depth = scene.depth_m[y0:y1, x0:x1]
        known = np.isfinite(depth)
        near = np.percentile(scene.range_m[y0:y1, x0:x1][known], NEAR_PERCENTILE)
        result.append((np.median(depth[known]), near, np.median(scene.sigma_m[y0:y1, x0:x1][known])))
    return np.array(result)


def density_bounds(scene: ObjectScene, bins: int = 50, floor_share: float = 0.1) -> np.ndarray:
    """Sort the depths, find the densest of `bins` bins, grow while a bin holds floor_share of it: what lies inside is the object."""
    result = []
    for mask in scene.masks:
        depth = scene.depth_m[mask]
        depth = np.sort(depth[np.isfinite(depth)])
        edges = np.linspace(depth[0], depth[-1], bins + 1)
        count = np.diff(np.searchsorted(depth, edges))
        first = last = int(np.argmax(count))
        least = floor_share * count[first]
        while first > 0 and count[first - 1] > least:
            first -= 1
        while last < bins - 1 and count[last + 1] > least:
            last += 1
        inside = depth[np.searchsorted(depth, edges[first]) : np.searchsorted(depth, edges[last + 1], side="right")]
        near = inside[int(NEAR_PERCENTILE / 100 * (len(inside) - 1))]
        result.append((inside[len(inside) // 2], near, inside.std()))
    return np.array(result)


def run(repeats: int = 30) -> dict[str, Any]:
    """Median times in ms at 20 and 100 objects (equal labelled area), all candidates in turn, with their 90th-percentile errors."""
    candidates: dict[str, Callable[[ObjectScene], np.ndarray]] = {
        "label_map": label_map,
        "label_map_boxes_covariance": lambda scene: label_map(scene, boxes=True),
        "mask_median": mask_median,
        "box_median": box_median,
        "density_bounds": density_bounds,
    }
    result: dict[str, Any] = {
        "name": "objects",
        "size_wh": list(SIZE_WH),
        "labelled_share": LABELLED_SHARE,
        "repeats": repeats,
        "cases": {},
    }
    scenes = {count: make_scene(count) for count in (20, 100)}
    times: dict[int, dict[str, list[float]]] = {count: {name: [] for name in candidates} for count in scenes}
    for repeat in range(repeats + 1):
        for count, scene in scenes.items():
            for name, candidate in candidates.items():
                start = time.perf_counter()
                candidate(scene)
                if repeat:  # the first round warms up
                    times[count][name].append((time.perf_counter() - start) * 1e3)
    for count in scenes:
        medians = {name: float(np.median(t)) for name, t in times[count].items()}
        fastest = min(medians[name] for name in ("mask_median", "box_median", "density_bounds"))
        result["cases"][str(count)] = {
            "median_ms": medians,
            "speedup_over_fastest": fastest / medians["label_map"],
            "p90_relative_error": _errors([make_scene(count, seed) for seed in range(100, 100 + max(1, 100 // count))], candidates),
        }
    # the timed scenes are noisier than a matcher's disparity of a textured scene
    result["synthetic_p90_relative_error"] = _errors([synthetic_scene(seed) for seed in SYNTHETIC_SEEDS], candidates)
    result["growth_20_to_100"] = float(np.median(times[100]["label_map"]) / np.median(times[20]["label_map"]))
    result["bars"] = {"speedup_over_fastest": {"20": 2.0, "100": 5.0}, "growth_20_to_100": 1.4}
    return result


def _errors(scenes: list[ObjectScene], candidates: dict[str, Callable[[ObjectScene], np.ndarray]]) -> dict[str, dict[str, float | int]]:
    """90th percentile of the relative error of depth and nearest over the answered objects of all scenes, and how many have no answer."""
    errors = {}
    for name in ("label_map", "mask_median", "box_median", "density_bounds"):
        numbers = np.concatenate([candidates[name](scene)[:, :2] for scene in scenes])
        truth = np.concatenate([np.stack([s.true_depth_m, s.true_nearest_m], axis=1) for s in scenes])
        answered = np.isfinite(numbers).all(axis=1)
        depth, nearest = np.percentile(np.abs(numbers[answered] / truth[answered] - 1.0), 90, axis=0)
        errors[name] = {"depth": float(depth), "nearest": float(nearest), "unanswered": int((~answered).sum())}
    return errors
