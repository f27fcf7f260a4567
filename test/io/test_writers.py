"""Results read back by independent readers; paths that stay inside; the schema."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.checks import ImageError, InputFileError
from semantic_stereo_ros.io.cloud import inlier_mask, write_ply
from semantic_stereo_ros.io.objects_json import scene_record
from semantic_stereo_ros.io.overlay import draw_disparity
from semantic_stereo_ros.io.paths import atomic, inside, safe_name
from semantic_stereo_ros.io.writers import ResultWriter, instance_image, write_png
from semantic_stereo_ros.types import (
    Disparity,
    GroundPlane,
    HiddenSpace,
    Measurement,
    ObjectState,
    OrientedBox,
    Scene,
    SceneObject,
    SceneStatus,
    Segmentation,
    StereoFrame,
    StereoRig,
)

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "objects.schema.json").read_text(encoding="utf-8"))
NUMPY_OF_PLY = {"float": "<f4", "uchar": "u1", "uint": "<u4", "ushort": "<u2", "double": "<f8"}


def read_ply(path: Path) -> np.ndarray:
    """A reader that knows the PLY format and nothing of our writer."""
    data = path.read_bytes()
    header, _, body = data.partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = next(int(line.split()[2]) for line in lines if line.startswith("element vertex"))
    columns = [line.split()[1:] for line in lines if line.startswith("property")]
    vertices = np.frombuffer(body, dtype=[(name, NUMPY_OF_PLY[kind]) for kind, name in columns])
    assert len(vertices) == count
    return vertices


def make_scene(class_name: str = "box", objects: bool = True) -> Scene:
    """A plane 2 m away (disparity 10 px with doffs 5) with one unknown corner, one measured and one predicted and one unmeasured object."""
    rig = StereoRig((60, 40), 100, 100, 30, 20, 0.3, doffs_px=5.0)
    disparity = np.full((40, 60), 10, np.float32)
    disparity[:4, :4] = np.nan
    known = np.isfinite(disparity)
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 20:40], labels[30:38, 2:10] = 5, 9
    segmentation = Segmentation.from_labels(labels)
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    eye, zero = np.eye(3), np.zeros(3)
    position = np.array([0.0, 0.1, 2.0])
    box = OrientedBox(position, np.array([0.4, 0.4, 0.01]), np.array([0.0, 0, 0, 1]))
    measured = Measurement(1, 400, 1.0, (20, 10, 40, 30), 2.0, 0.02, 2.0025, 0.02, 1.9, 0.03, position, eye * 1e-4, box)
    blind = Measurement(2, 64, 0.0, (2, 30, 10, 38), reason="no disparity is known inside the mask")
    common: dict[str, Any] = dict(velocity_mps=zero, velocity_covariance=eye, velocity_frame="camera", first_seen_ns=0, last_seen_ns=7)
    items = (
        SceneObject(300, ObjectState.VISIBLE, 2, class_name, 0.9, 1, measured, position, eye * 1e-4, box=box, **common),
        SceneObject(301, ObjectState.UNMEASURED, 2, "dark", 0.5, 2, blind, zero * np.nan, eye * np.nan, **common),
        SceneObject(302, ObjectState.OCCLUDED, 2, "gone", 0.5, None, None, np.array([0.3, 0, 4.0]), eye * 0.04, **common),
    )
    return Scene(
        StereoFrame(image, image, rig, stamp_ns=7),
        Disparity(disparity, np.where(known, 0.2, np.nan).astype(np.float32), known.astype(np.float32), rig),
        segmentation,
        items if objects else (),
        SceneStatus.OK if objects else SceneStatus.NO_OBJECTS,
        timings_s={"stereo": np.float64(0.01)},
    )


def violations(value, schema, where="$") -> list[str]:
    """The part of JSON Schema that our schema uses: type, enum, required, properties, additionalProperties, items and their counts."""
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}
    wanted = schema.get("type")
    if wanted is not None:
        names = [wanted] if isinstance(wanted, str) else wanted
        if not any(isinstance(value, kinds[name]) and not isinstance(value, bool) for name in names):
            return [f"{where}: {value!r} is no {wanted}"]
    found = [f"{where}: {value!r} not in {schema['enum']}"] if "enum" in schema and value not in schema["enum"] else []
    if isinstance(value, dict):
        found += [f"{where}: {key} is missing" for key in schema.get("required", ()) if key not in value]
        properties = schema.get("properties", {})
        for key, item in value.items():
            if key in properties:
                found += violations(item, properties[key], f"{where}.{key}")
            elif not schema.get("additionalProperties", True):
                found.append(f"{where}: {key} is unknown")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            found.append(f"{where}: {len(value)} items")
        for i, item in enumerate(value):
            found += violations(item, schema.get("items", {}), f"{where}[{i}]")
    return found


def test_objects_json_follows_its_schema(tmp_path):
    scene = make_scene()
    ResultWriter(tmp_path).write(scene, "a.png")

    def no_constants(text):
        raise AssertionError(f"{text} is no JSON")

    record = json.loads((tmp_path / "fusion" / "objects.json").read_text(), parse_constant=no_constants)
    assert violations(record, SCHEMA) == []
    assert violations(json.loads(json.dumps(scene_record(make_scene(objects=False)))), SCHEMA) == []
    assert violations({**record, "extra": 1}, SCHEMA) and violations({**record, "status": "FINE"}, SCHEMA)
    seen, blind, gone = record["objects"]
    assert (seen["id"], seen["state"], seen["pixels"], seen["box_xyxy"]) == (300, "VISIBLE", 400, [20, 10, 40, 30])
    assert (seen["depth_m"], seen["distance_m"], seen["nearest_m"]) == (2.0, 2.0025, 1.9)
    assert seen["box"]["orientation_xyzw"] == [0, 0, 0, 1]
    assert seen["velocity_mps"] == [0, 0, 0] and seen["velocity_covariance"] == np.eye(3).tolist()
    assert blind["depth_m"] is None and blind["position_m"] == [None] * 3 and "no disparity" in blind["reason"]
    assert (seen["source_key"], blind["source_key"], gone["source_key"]) == ("id:5", "id:9", None)
    assert gone["box_xyxy"] is None and gone["distance_m"] == pytest.approx(math.hypot(0.3, 4.0))
    assert gone["depth_sigma_m"] == pytest.approx(0.2) and gone["nearest_m"] is None


def test_every_file_of_a_pair(tmp_path):
    scene = make_scene()
    files = ResultWriter(tmp_path).write(scene)
    names = {file.relative_to(tmp_path.resolve()).as_posix() for file in files}
    assert names == {
        *(f"stereo/{name}" for name in ("disparity.npy", "depth.npy", "disparity.png", "vis.png", "cloud.ply")),
        *("segmentation/masks.png", "segmentation/overlay.png", "fusion/overlay.png", "fusion/objects.json"),
        *("3d/cloud_clean.ply", "3d/obstacles.ply"),
    }
    assert names == {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}, "nothing else is left behind"
    disparity, depth = np.load(tmp_path / "stereo/disparity.npy"), np.load(tmp_path / "stereo/depth.npy")
    assert disparity.dtype == depth.dtype == np.float32
    np.testing.assert_array_equal(disparity, scene.disparity.disparity_px)
    np.testing.assert_allclose(depth[~np.isnan(disparity)], 100 * 0.3 / 15)
    masks = cv2.imread(str(tmp_path / "segmentation/masks.png"), cv2.IMREAD_UNCHANGED)
    assert masks is not None and masks.dtype == np.uint16
    assert masks[20, 30] == 300 and masks[34, 5] == 301 and masks[0, 0] == 0
    colour = cv2.imread(str(tmp_path / "stereo/disparity.png"))
    assert colour is not None and not colour[:4, :4].any() and colour[20, 20].any()
    vis = cv2.imread(str(tmp_path / "stereo/vis.png"))
    assert vis is not None and vis.shape == (40, 120, 3)
    np.testing.assert_array_equal(vis[:, :60, ::-1], scene.frame.left)


def test_the_cloud_holds_the_plane(tmp_path):
    scene = make_scene()
    ResultWriter(tmp_path).write(scene)
    cloud = read_ply(tmp_path / "stereo" / "cloud.ply")
    assert len(cloud) == 40 * 60 - 16
    np.testing.assert_allclose(cloud["z"], 2.0, rtol=1e-6)
    at = (cloud["x"] == np.float32(0)) & (np.abs(cloud["y"]) < 1e-6)
    row = cloud[at][0]
    assert (row["instance"], row["label"], row["confidence"]) == (300, 2, 1.0)
    assert [row["red"], row["green"], row["blue"]] == scene.frame.left[20, 30].tolist()


def test_z_far_cuts_both_clouds(tmp_path):
    ResultWriter(tmp_path, z_far_m=1.5).write(make_scene())
    assert len(read_ply(tmp_path / "stereo" / "cloud.ply")) == len(read_ply(tmp_path / "3d" / "cloud_clean.ply")) == 0


def test_obstacles_are_written_but_for_an_empty_cloud_that_would_say_free(tmp_path):
    """Objects at 2 m; then, into the same folder, the same view without any, where something could stand unseen."""
    scene, file = make_scene(), tmp_path / "3d" / "obstacles.ply"
    writer = ResultWriter(tmp_path)
    assert file.resolve() in writer.write(scene)
    points = read_ply(file)
    assert len(points) > 3
    np.testing.assert_allclose(points["z"], 2.0, rtol=1e-6)
    floor = GroundPlane(np.array([0.0, -1.0, 0.0]), 9.0, 0.01)  # all of the view is above the band of obstacles
    empty = dataclasses.replace(scene, objects=(), segmentation=Segmentation.from_labels(np.zeros(scene.frame.shape, np.uint16), floor))
    writer.write(empty)
    assert len(read_ply(file)) == 0
    assert file.resolve() not in writer.write(dataclasses.replace(empty, hidden=HiddenSpace(0.5, "in the middle", 0.3)))
    assert not file.exists()


def test_ply_columns_and_shapes(tmp_path):
    points = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    points[7] = np.nan
    assert write_ply(tmp_path / "a.ply", points) == 49
    assert read_ply(tmp_path / "a.ply").dtype.names == ("x", "y", "z")
    np.testing.assert_array_equal(read_ply(tmp_path / "a.ply")["y"], np.delete(points[:, 1], 7))
    with pytest.raises(ImageError, match="rgb must have shape"):
        write_ply(tmp_path / "b.ply", points, rgb=np.zeros((49, 3), np.uint8))
    assert not (tmp_path / "b.ply").exists()


def test_outliers_go_and_the_plane_stays():
    rng = np.random.default_rng(0)
    plane = np.column_stack([rng.uniform(-1, 1, (3000, 2)), np.full(3000, 2.0)])
    strays = np.column_stack([rng.uniform(-1, 1, (30, 2)), rng.uniform(2.5, 4, 30)])
    keep = inlier_mask(np.vstack([plane, strays]).astype(np.float32))
    assert not keep[3000:].any()
    assert keep[:3000].mean() > 0.97
    assert inlier_mask(plane[:5]).all()
    with pytest.raises(ImageError, match="finite"):
        inlier_mask(np.full((30, 3), np.nan))


def test_outliers_as_open3d_defines_them():
    open3d = pytest.importorskip("open3d", reason="Open3D is not installed")
    points = np.random.default_rng(1).normal(size=(2000, 3))
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    _, kept = cloud.remove_statistical_outlier(nb_neighbors=20, std_ratio=2.0)
    np.testing.assert_array_equal(np.flatnonzero(inlier_mask(points, 20, 2.0)), np.sort(kept))


def test_a_sequence_gets_numbered_sets_and_the_compact_form_lines(tmp_path):
    full, compact = ResultWriter(tmp_path / "full", sequence=True), ResultWriter(tmp_path / "compact", sequence=True, compact=True)
    for i in range(3):
        full.write(make_scene(), f"frame{i}")
        compact.write(make_scene(), f"frame{i}")
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["000000", "000001", "000002"]
    assert json.loads((tmp_path / "full/000002/fusion/objects.json").read_text())["frame"]["name"] == "frame2"
    lines = (tmp_path / "compact/fusion/objects.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"]["name"] for line in lines] == ["frame0", "frame1", "frame2"]
    assert all(violations(json.loads(line), SCHEMA) == [] for line in lines)
    assert len(list((tmp_path / "compact/fusion").glob("*.jpg"))) == 3


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a/b\\c", "C:\\x", "con", "x\0y", "", "." * 300, "é" * 200])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    path = inside(tmp_path / "out", name, f"{name}.json")
    assert path.parent.parent == (tmp_path / "out").resolve()
    assert safe_name(name) == Path(safe_name(name)).name not in ("", ".", "..")
    path.write_text("x")


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_that_leads_out_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "stereo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputFileError, match="leads out of the output folder"):
        ResultWriter(tmp_path / "out").write(make_scene())
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_is_complete_or_not_there(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic(target) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_output_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputFileError, match="cannot be made"):
        ResultWriter(tmp_path / "file" / "out")


def test_png_of_16_bit_colour_reads_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 65535, (5, 6, 3), np.uint16)
    write_png(tmp_path / "a.png", image)
    stored = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    np.testing.assert_array_equal(stored[..., ::-1], image)


def test_disparity_colours():
    ramp = np.tile(np.linspace(1, 60, 100, dtype=np.float32), (10, 1))
    ramp[0] = np.nan
    colour = draw_disparity(ramp, 0, 61)
    assert not colour[0].any()
    assert colour[5, 0, 2] > colour[5, 0, 0] and colour[5, -1, 0] > colour[5, -1, 2], "far is blue, near is red"
    assert not draw_disparity(np.full((4, 4), np.nan, np.float32)).any()


def test_ids_that_16_bits_do_not_hold_are_refused():
    scene = make_scene()
    large = dataclasses.replace(scene, objects=(dataclasses.replace(scene.objects[0], object_id=65536), *scene.objects[1:]))
    with pytest.raises(InputFileError, match="object id 65536 does not fit"):
        instance_image(large)
    assert set(np.unique(instance_image(scene))) == {0, 300, 301}
