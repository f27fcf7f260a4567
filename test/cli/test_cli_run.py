"""`semantic-stereo run` as a user types it: every file of the documented layout, right numbers in them, and one sentence on bad input."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from semantic_stereo_ros.synthetic import random_sequence

SEED = 7


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Three synthetic pairs on disk: left/, right/, K.txt (in FoundationStereo's format), truth of the first frame, its id image."""
    folder = tmp_path_factory.mktemp("scene")
    sequence = random_sequence(SEED, frames=3, size_wh=(480, 360))
    for side in ("left", "right"):
        (folder / side).mkdir()
    for index, item in enumerate(sequence):
        for side in ("left", "right"):
            image = getattr(item.frame, side)
            stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
            assert cv2.imwrite(str(folder / side / f"{index:04d}.png"), stored)
    rig = sequence.rig
    (folder / "K.txt").write_text(f"{rig.fx} 0 {rig.cx} 0 {rig.fy} {rig.cy} 0 0 1\n{rig.baseline_m}\n", encoding="utf-8")
    assert cv2.imwrite(str(folder / "ids.png"), sequence[0].instance_ids)
    return folder, sequence


def semantic_stereo(*arguments):
    command = [sys.executable, "-m", "semantic_stereo_ros.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def run_pair(folder, output, *extra):
    pair = (folder / "left" / "0000.png", folder / "right" / "0000.png")
    return semantic_stereo("run", *pair, "-c", folder / "K.txt", "-o", output, *extra)


def test_a_pair_gives_every_documented_file_with_right_numbers(scene, tmp_path):
    folder, sequence = scene
    result = run_pair(folder, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    out = tmp_path / "out"
    expected = ["stereo/disparity.npy", "stereo/depth.npy", "stereo/disparity.png", "stereo/cloud.ply", "stereo/vis.png"]
    expected += ["segmentation/masks.png", "segmentation/overlay.png", "fusion/overlay.png", "fusion/objects.json", "3d/cloud_clean.ply"]
    expected += ["3d/obstacles.ply"]
    assert sorted(str(p.relative_to(out).as_posix()) for p in out.rglob("*") if p.is_file()) == sorted(expected)

    truth, rig = sequence[0], sequence.rig
    disparity, depth = np.load(out / "stereo/disparity.npy"), np.load(out / "stereo/depth.npy")
    assert disparity.dtype == np.float32
    error = np.abs(disparity - truth.disparity_px)[~truth.occluded]
    assert np.nanmedian(error) < 0.4
    assert np.isfinite(error).mean() > 0.9
    known = disparity + rig.doffs_px > 0  # a disparity of zero is infinitely far: no depth
    np.testing.assert_allclose(depth[known], rig.bf / (disparity[known] + rig.doffs_px), rtol=1e-5)
    assert np.isnan(depth[~known]).all()

    record = json.loads((out / "fusion/objects.json").read_text(encoding="utf-8"))
    assert record["schema_version"]
    fields = ["id", "state", "class_name", "score", "box_xyxy", "pixels", "valid_fraction", "depth_m", "depth_sigma_m"]
    fields += ["distance_m", "distance_sigma_m", "nearest_m", "position_m", "position_covariance", "box"]
    assert record["objects"]
    for item in record["objects"]:
        assert set(fields) <= set(item)
    masks = cv2.imread(str(out / "segmentation/masks.png"), cv2.IMREAD_UNCHANGED)
    assert masks is not None
    assert masks.dtype == np.uint16
    assert set(np.unique(masks)) - {0} <= {item["id"] for item in record["objects"]}


def test_given_masks_are_measured_instead_of_segmented(scene, tmp_path):
    folder, sequence = scene
    result = run_pair(folder, tmp_path, "--masks", folder / "ids.png", "--quiet")
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "fusion/objects.json").read_text(encoding="utf-8"))
    measured = {tuple(o["box_xyxy"]): o for o in record["objects"] if o["box_xyxy"]}
    compared = 0
    for truth in sequence[0].objects:
        item = measured.get(truth.box_xyxy)
        if truth.pixels > 500 and item is not None and item["distance_m"] is not None:
            assert item["distance_m"] == pytest.approx(truth.distance_m, rel=0.1)
            compared += 1
    assert compared >= 3


def test_two_folders_become_numbered_sets_and_ids_stay(scene, tmp_path):
    folder, _ = scene
    result = semantic_stereo("run", folder / "left", folder / "right", "-c", folder / "K.txt", "-o", tmp_path, "--fps", "15")
    assert result.returncode == 0, result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000", "000001", "000002"]
    ids = []
    for number in range(3):
        record = json.loads((tmp_path / f"{number:06d}/fusion/objects.json").read_text(encoding="utf-8"))
        ids.append({o["id"] for o in record["objects"] if o["state"] == "VISIBLE"})
    assert ids[0] & ids[1] & ids[2]


def test_a_compact_sequence_is_one_text_file_and_one_picture_per_frame(scene, tmp_path):
    folder, _ = scene
    globs = (str(folder / "left" / "*.png"), str(folder / "right" / "*.png"))
    result = semantic_stereo("run", *globs, "-c", folder / "K.txt", "-o", tmp_path, "--compact", "--limit", "2")
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "fusion/objects.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert len(list((tmp_path / "fusion").glob("*.jpg"))) == 2


def test_z_far_cuts_the_clouds(scene, tmp_path):
    folder, _ = scene
    assert run_pair(folder, tmp_path, "--z-far", "3", "--quiet").returncode == 0
    data = (tmp_path / "stereo/cloud.ply").read_bytes()
    header, body = data.split(b"end_header\n", 1)
    lines = header.decode("ascii").splitlines()
    count = next(int(line.split()[-1]) for line in lines if line.startswith("element vertex"))
    stride = len(body) // count
    z = np.ndarray((count,), "<f4", body, offset=8, strides=(stride,))
    assert count > 100
    assert z.max() <= 3.0


def write_measured(folder, truth, form):
    """One file of the true depth or disparity; the option that names it, with its path."""
    rig = truth.rig
    depth_m = (rig.bf / (truth.disparity_px + rig.doffs_px)).astype(np.float32)
    if form == "depth.png":
        cv2.imwrite(str(folder / form), np.rint(depth_m * 1000).astype(np.uint16))
    elif form == "tum.png":
        cv2.imwrite(str(folder / form), np.rint(depth_m * 5000).astype(np.uint16))
        return "--map-scale", "5000", "--depth", folder / form
    elif form == "disparity.png":
        cv2.imwrite(str(folder / form), np.rint(truth.disparity_px * 256).astype(np.uint16))
    elif form.endswith(".npy"):
        np.save(folder / form, depth_m)
    else:
        cv2.imwrite(str(folder / form), truth.disparity_px.astype(np.float32))
    return ("--depth" if form.startswith("depth") else "--disparity"), folder / form


@pytest.mark.parametrize("form", ["depth.png", "tum.png", "depth.npy", "disparity.pfm", "disparity.png"])
def test_depth_or_disparity_of_the_camera_needs_no_right_image(scene, tmp_path, form):
    """The true map as a file: with the true masks each distance is the truth, within what the file can hold."""
    folder, sequence = scene
    given = write_measured(tmp_path, sequence[0], form)
    left = folder / "left" / "0000.png"
    arguments = ("run", left, "-c", folder / "K.txt", "-o", tmp_path / "out", "--masks", folder / "ids.png", "--quiet", *given)
    result = semantic_stereo(*arguments)
    assert result.returncode == 0, result.stderr
    depth_m = np.load(tmp_path / "out/stereo/depth.npy")
    true_m = sequence.rig.bf / (sequence[0].disparity_px + sequence.rig.doffs_px)
    assert np.nanmax(np.abs(depth_m / true_m - 1)) < 0.01
    objects = json.loads((tmp_path / "out/fusion/objects.json").read_text(encoding="utf-8"))["objects"]
    measured = {tuple(o["box_xyxy"]): o for o in objects if o["box_xyxy"] and o["distance_m"] is not None}
    pairs = [(measured[t.box_xyxy], t) for t in sequence[0].objects if t.pixels > 500 and t.box_xyxy in measured]
    assert len(pairs) >= 3
    for item, true in pairs:
        assert item["distance_m"] == pytest.approx(true.distance_m, rel=0.03) and item["distance_sigma_m"] > 0


def test_given_maps_that_do_not_fit_are_answered_with_one_sentence(scene, tmp_path):
    folder, sequence = scene
    left, right, k = folder / "left/0000.png", folder / "right/0000.png", folder / "K.txt"
    option, depth = "--depth", tmp_path / "depth.npy"
    write_measured(tmp_path, sequence[0], "depth.npy")
    np.save(tmp_path / "small.npy", np.ones((20, 30), np.float32))
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((360, 480), np.uint8))
    for arguments, message in [
        ((left,), "the right images are missing"),
        ((left, right, "--stereo", "external"), "belong together"),
        ((left, option, depth, "--stereo", "sgbm"), "belong together"),
        ((left, option, depth, "--disparity", depth), "exclude each other"),
        ((left, right, "--map-scale", "5"), "--map-scale needs"),
        ((left, option, tmp_path / "small.npy"), "the depth is 30x20 but the left image 480x360"),
        ((left, option, tmp_path / "none.npy"), "the depth file"),
        ((left, option, tmp_path / "picture.png"), "8-bit"),
        ((folder / "left", option, depth), "one depth file per image, got 1 for 3"),
    ]:
        assert_one_sentence(semantic_stereo("run", *arguments, "-c", k, "-o", tmp_path / "out"), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "stereo.sgbm.blok_size=5"], "did you mean stereo.sgbm.block_size"),
        (["--set", "stereo.sgbm.num_disparities=many"], "must be int"),
        (["--stereo", "magic"], "must be one of"),
        (["--config", "none.yaml"], "does not exist"),
        (["--masks", "none.png"], "none.png"),
        (["--baseline", "-1"], "baseline"),
    ],
)
def test_a_bad_option_is_answered_with_one_sentence(scene, tmp_path, arguments, message):
    result = run_pair(scene[0], tmp_path, *arguments)
    assert_one_sentence(result, message)


def test_a_rate_or_scale_without_an_end_is_refused():
    for option in ("--fps", "--map-scale"):
        result = semantic_stereo("run", "left", "right", "-c", "calib.txt", "-o", "out", option, "inf")
        assert result.returncode == 2 and option in result.stderr and "Traceback" not in result.stderr


def test_what_is_doubtful_in_a_pair_or_its_calibration_is_said_and_measured_all_the_same(scene, tmp_path):
    folder, sequence = scene
    pair = [tmp_path / f"{side}.jpg" for side in ("left", "right")]
    for path in pair:
        image = cv2.imread(str(folder / path.stem / "0000.png"))
        assert image is not None and cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 15])
    rig = sequence.rig
    k = tmp_path / "K.txt"
    k.write_text(f"{rig.fx} 0 {rig.cx} 0 {rig.fy / 2} {rig.cy} 0 0 1\n{rig.baseline_m}\n", encoding="utf-8")
    result = semantic_stereo("run", *pair, "-c", k, "-o", tmp_path / "out", "--quiet")
    assert result.returncode == 0 and (tmp_path / "out/fusion/objects.json").is_file()
    assert "warning: the images show the blocks of hard JPEG compression" in result.stderr
    assert f"warning: the calibration says fx = {rig.fx:g} px and fy = {rig.fy / 2:g} px" in result.stderr


def test_bad_files_are_answered_with_one_sentence(scene, tmp_path):
    folder, _ = scene
    left, right, k = folder / "left/0000.png", folder / "right/0000.png", folder / "K.txt"
    small, empty = tmp_path / "small.png", tmp_path / "empty.png"
    cv2.imwrite(str(small), np.zeros((20, 30), np.uint8))
    empty.write_bytes(b"")
    for arguments, message in [
        ((folder / "none.png", right, k), "none.png"),
        ((empty, right, k), "empty.png"),
        ((left, small, k), "got"),
        ((left, right, folder / "none.txt"), "none.txt"),
        ((right, left, k), "swapped"),
        ((left, folder / "right", k), ""),
    ]:
        pair, calibration = arguments[:2], arguments[2]
        assert_one_sentence(semantic_stereo("run", *pair, "-c", calibration, "-o", tmp_path / "out"), message)


def assert_one_sentence(result, message):
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.count("error:") == 1
    assert message in result.stderr
