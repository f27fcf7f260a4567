"""`semantic-stereo run` with prompts: the backend 'drawn' makes exactly what it is told, so that what arrives is known."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.cli.main import app
from semantic_stereo_ros.geometry.box_projection import project_box
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import OrientedBox


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Three synthetic pairs on disk with a K.txt, and their truth."""
    folder = tmp_path_factory.mktemp("scene")
    sequence = random_sequence(21, frames=3, size_wh=(320, 240))
    for side in ("left", "right"):
        (folder / side).mkdir()
        for index, item in enumerate(sequence):
            assert cv2.imwrite(str(folder / side / f"{index}.png"), cv2.cvtColor(getattr(item.frame, side), cv2.COLOR_RGB2BGR))
    rig = sequence.rig
    (folder / "K.txt").write_text(f"{rig.fx} 0 {rig.cx} 0 {rig.fy} {rig.cy} 0 0 1\n{rig.baseline_m}\n", encoding="utf-8")
    return folder, sequence


@pytest.fixture
def run(scene, drawn_backend, tmp_path):
    """run(*options) -> the objects of objects.json by class, of the first pair; raises what a user would read."""
    folder, _ = scene

    def call(*options):
        pair = [folder / "left" / "0.png", folder / "right" / "0.png", "-c", folder / "K.txt", "-o", tmp_path / "out", "--quiet"]
        result = CliRunner().invoke(app, ["run", *map(str, pair), "--segmentation", drawn_backend, *map(str, options)])
        if result.exception:
            raise result.exception
        objects = json.loads((tmp_path / "out/fusion/objects.json").read_text(encoding="utf-8"))["objects"]
        return {item["class_name"]: item for item in objects}

    return call


def middle_box(truth):
    """The class-free truth of the largest object, and a box (px) well inside it."""
    item = max(truth.visible_objects, key=lambda o: o.pixels)
    rows, columns = np.nonzero(truth.instance_ids == item.object_id)
    x0, x1 = (round(float(np.percentile(columns, p))) for p in (30, 70))
    y0, y1 = (round(float(np.percentile(rows, p))) for p in (30, 70))
    return item, (x0, y0, x1, y1)


def test_a_box_and_a_point_become_measured_objects_with_their_classes(run, scene):
    item, (x0, y0, x1, y1) = middle_box(scene[1][0])
    found = run("--prompt-box", f"{x0},{y0},{x1},{y1},class=crate", "--prompt-point", "300, 20, +, class=far corner, id=4000000000")
    assert set(found) == {"crate", "far corner"}
    assert found["crate"]["box_xyxy"] == [x0, y0, x1, y1]
    assert found["crate"]["distance_m"] == pytest.approx(item.distance_m, rel=0.1)
    assert found["far corner"]["box_xyxy"] == [292, 12, 308, 28]  # 8 px around the point


def test_prompts_of_one_id_are_one_object(run):
    found = run("--prompt-box", "20,30,80,90,class=cup,id=3", "--prompt-point", "72,60,-,id=3", "--prompt-box", "100,100,140,140")
    assert set(found) == {"cup", "object"} and found["cup"]["source_key"] == "prompt:3"
    assert found["cup"]["pixels"] == 60 * 60 - 16 * 16


def box_file(folder, frame: str) -> OrientedBox:
    """prompts.yaml with one 3D box in the frame left or world; the camera's pose is a turn and a shift."""
    box = OrientedBox(np.array([0.3, -0.2, 4.0]), np.array([0.8, 0.6, 0.4]), Rotation.from_euler("y", 0.4).as_quat())
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_euler("z", 0.3).as_matrix(), (1.0, 2.0, 3.0)
    (folder / "poses.txt").write_text(" ".join(map(str, pose[:3].ravel())) + "\n", encoding="utf-8")
    center, turn = box.center_m, Rotation.from_quat(box.orientation_xyzw)
    if frame == "world":
        center, turn = pose[:3, :3] @ center + pose[:3, 3], Rotation.from_matrix(pose[:3, :3]) * turn
    item = {"center_m": center.tolist(), "size_m": box.size_m.tolist(), "orientation_xyzw": turn.as_quat().tolist(), "frame": frame}
    content = {"objects": [{"class": "pallet", "boxes_3d": [item]}]}
    (folder / "prompts.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return box


@pytest.mark.parametrize("frame", ["left", "world"])
def test_a_3d_box_is_seen_where_it_projects(run, scene, tmp_path, frame):
    box = box_file(tmp_path, frame)
    found = run("--prompts", tmp_path / "prompts.yaml", "--poses", tmp_path / "poses.txt")
    assert found["pallet"]["box_xyxy"] == [round(v) for v in project_box(box, scene[1].rig.left_camera) or ()]


def test_a_file_holds_all_kinds(run, tmp_path):
    mask = np.zeros((240, 320), np.uint8)
    mask[200:230, 10:50] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    objects = [
        {"id": 7, "class": "cup", "boxes": [[20, 30, 80, 90]], "negative_points": [[72, 60]]},
        {"class": "stain", "masks": ["mask.png"]},
        {"points": [[300, 20]]},
    ]
    (tmp_path / "prompts.json").write_text(json.dumps({"objects": objects}, indent="\t"), encoding="utf-8")
    found = run("--prompts", tmp_path / "prompts.json", "--prompt-point", "150,100,class=more")
    assert set(found) == {"cup", "stain", "object", "more"}
    assert found["stain"]["box_xyxy"] == [10, 200, 50, 230] and found["cup"]["pixels"] == 60 * 60 - 16 * 16


def test_a_sequence_keeps_the_prompts_of_its_first_frame(scene, drawn_backend, tmp_path):
    folder, _ = scene
    sides = [folder / "left", folder / "right", "-c", folder / "K.txt", "-o", tmp_path, "--quiet", "--compact"]
    arguments = ["run", *sides, "--segmentation", drawn_backend, "--prompt-box", "20,30,80,90,class=cup"]
    assert CliRunner().invoke(app, [str(a) for a in arguments]).exit_code == 0
    lines = (tmp_path / "fusion/objects.jsonl").read_text(encoding="utf-8").splitlines()
    seen = [[(o["id"], o["class_name"]) for o in json.loads(line)["objects"]] for line in lines]
    assert len(seen) == 3 and seen[1] == seen[2] == [(1, "cup")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt-box", "1,2,3"], "--prompt-box takes x0,y0,x1,y1"),
        (["--prompt-box", "1,2,3,four"], "--prompt-box takes x0,y0,x1,y1"),
        (["--prompt-box", "9,2,3,4"], "--prompt-box 9,2,3,4: a box must have x_min < x_max"),
        (["--prompt-box", "1,2,3,4,name=cup"], "got 'name=cup'"),
        (["--prompt-box", "1,2,3,4,id=-1"], "an id is a number above zero, got '-1'"),
        (["--prompt-box", "1,2,3,4,id=0"], "object id must lie in 1"),
        (["--prompt-box", "900,900,990,990"], r"outside the 320x240 image"),
        (["--prompt-point", "1,2,3"], r"\+ or - after x,y, got '3'"),
        (["--prompt-point", "1"], "--prompt-point takes x,y"),
        (["--prompt-point", "nan,1"], "must be 2 finite numbers"),
        (["--prompt-point", "10,10,-,id=2"], "object 2 has only negative points"),
        (["--prompt-box", "1,2,3,4,id=1,class=a", "--prompt-point", "5,5,id=1,class=b"], "say two classes, 'a' and 'b'"),
        (["--prompt-box", "1,2,3,4", "--masks", "ids.png"], "--masks says which pixels are objects"),
        (["--prompt-box", "1,2,30,40", "--segmentation", "geometric"], "'geometric' takes no prompts; choose segmentation.backend .*sam2"),
        (["--prompts", "none.yaml"], "prompts file none.yaml does not exist"),
    ],
)
def test_bad_prompts_are_answered_with_one_sentence(run, options, message):
    with pytest.raises(SemanticStereoError, match=message):
        run(*options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is neither YAML nor JSON"),
        ("things: []", "must hold one list `objects`"),
        ("objects: []", "holds no prompt"),
        ("objects: [{id: 3}]", r"objects\[0\]: it has no prompt"),
        ("objects: [{box: [1, 2, 3, 4]}]", r"objects\[0\]: unknown key 'box'; known: id, class, points"),
        ("objects: [3]", r"objects\[0\]: it must be a mapping"),
        ("objects: [{id: one, points: [[1, 2]]}]", "id must be a whole number, got 'one'"),
        ("objects: [{class: 3, points: [[1, 2]]}]", "class must be a text, got 3"),
        ("objects: [{points: [1, 2]}]", "each of points must be 2 numbers, got 1"),
        ("objects: [{points: 1}]", "points must be a list, got 1"),
        ("objects: [{points: [[1, 2], [3, 4]]}]", "several prompts of one object need an id"),
        ("objects: [{masks: [none.png]}]", "none.png"),
        ("objects: [{boxes_3d: [{center_m: [0, 0, 4]}]}]", "needs size_m"),
        ("objects: [{boxes_3d: [{center_m: [0, 0, 4], size_m: [1, 1, 1], frame: map}]}]", "must be left .* or world .*, got 'map'"),
        ("objects: [{boxes_3d: [{center_m: [0, 0, 4], size_m: [1, 1, 1], frame: world}]}]", "pose is unknown: give --poses"),
        ("objects: [{boxes_3d: [{center_m: [0, 0, -4], size_m: [1, 1, 1]}]}]", "lies behind the camera"),
    ],
)
def test_a_bad_file_is_answered_with_the_place(run, tmp_path, text, message):
    (tmp_path / "prompts.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SemanticStereoError, match=message):
        run("--prompts", tmp_path / "prompts.yaml")


def test_as_a_user_types_it_a_refusal_is_one_sentence(scene, tmp_path):
    folder, _ = scene
    arguments = [folder / "left" / "0.png", folder / "right" / "0.png", "-c", folder / "K.txt", "-o", tmp_path, "--prompt-box", "1,2,30,40"]
    command = [sys.executable, "-m", "semantic_stereo_ros.cli.main", "run", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1 and "'geometric' takes no prompts; choose segmentation.backend sam2" in done.stderr
    assert not list(tmp_path.iterdir())
