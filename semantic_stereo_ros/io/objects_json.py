"""objects.json: the distances of one frame as text. The format is described in docs/objects_json.md and docs/objects.schema.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from semantic_stereo_ros.io.paths import atomic
from semantic_stereo_ros.types import OrientedBox, Scene, SceneObject

SCHEMA_VERSION = "1.1"


def scene_record(scene: Scene, name: str = "") -> dict[str, Any]:
    """The scene as plain lists and numbers that json can write; unknown (NaN) is None. `name`: the frame's, for people."""
    rig = scene.frame.rig
    keys = {record.label: record.source_key for record in scene.segmentation.object_instances}
    return _plain(
        {
            "schema_version": SCHEMA_VERSION,
            "frame": {"name": name, "stamp_ns": int(scene.frame.stamp_ns), "pose_world_camera": scene.frame.pose_world_camera},
            "rig": {
                "size_wh": rig.size_wh,
                "fx_px": rig.fx,
                "fy_px": rig.fy,
                "cx_px": rig.cx,
                "cy_px": rig.cy,
                "baseline_m": rig.baseline_m,
                "doffs_px": rig.doffs_px,
            },
            "status": scene.status.name,
            "reason": scene.reason,
            "objects": [object_record(item, None if item.label is None else keys.get(item.label)) for item in scene.objects],
            "timings_s": dict(scene.timings_s),
        }
    )


def object_record(item: SceneObject, source_key: str | None = None) -> dict[str, Any]:
    """One object; box_xyxy, pixels and valid_fraction are None when it has no mask now (OCCLUDED, LOST). source_key: of its Instance."""
    measurement = item.measurement
    position, covariance = item.position_m, item.position_covariance_m2
    if measurement is not None and measurement.known:
        position, covariance = measurement.position_m, measurement.position_covariance_m2
    box = item.box if item.box is not None else (measurement.box if measurement is not None else None)
    return _plain(
        {
            "id": item.object_id,
            "state": item.state.name,
            "source_key": source_key,
            "class_id": item.class_id,
            "class_name": item.class_name,
            "score": item.score,
            "box_xyxy": measurement.box_xyxy if measurement is not None else None,
            "pixels": measurement.pixels if measurement is not None else None,
            "valid_fraction": measurement.valid_fraction if measurement is not None else None,
            "depth_m": item.depth_m,
            "depth_sigma_m": item.depth_sigma_m,
            "distance_m": item.distance_m,
            "distance_sigma_m": item.distance_sigma_m,
            "nearest_m": item.nearest_m,
            "nearest_sigma_m": item.nearest_sigma_m,
            "position_m": position,
            "position_covariance": covariance,
            "velocity_mps": item.velocity_mps,
            "velocity_covariance": item.velocity_covariance,
            "velocity_frame": item.velocity_frame,
            "box": _box_record(box),
            "reason": measurement.reason if measurement is not None else "",
        }
    )


def _box_record(box: OrientedBox | None) -> dict[str, Any] | None:
    if box is None:
        return None
    return {"center_m": box.center_m, "size_m": box.size_m, "orientation_xyzw": box.orientation_xyzw}


def _plain(value: Any) -> Any:
    """NumPy to Python, NaN and infinity to None: JSON knows neither."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_objects_json(path: str | Path, scene: Scene, name: str = "") -> None:
    """Write one frame's objects.json, complete or not at all."""
    with atomic(path) as file:
        file.write((json.dumps(scene_record(scene, name), indent=2, allow_nan=False) + "\n").encode("utf-8"))
