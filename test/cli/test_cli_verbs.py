"""The other verbs: eval against truth, backends, doctor, demo without ROS; each explains itself."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semantic_stereo_ros import config

VERBS = ("run", "eval", "demo", "bench", "soak", "backends", "doctor", "weights")


def semantic_stereo(*arguments, columns="200"):
    import os

    command = [sys.executable, "-m", "semantic_stereo_ros.cli.main", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": columns}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False, env=environment)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    result = semantic_stereo(verb, "--help")
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout
    assert len(result.stdout.split()) > 25


def test_an_unknown_verb_fails():
    assert semantic_stereo("mesure").returncode != 0


def test_backends_lists_every_parameter_of_the_schema():
    result = semantic_stereo("backends", "--options", columns="300")
    assert result.returncode == 0, result.stderr
    for key in config.schema():
        assert key in result.stdout


def test_doctor_names_libraries_and_ros():
    result = semantic_stereo("doctor")
    assert result.returncode == 0, result.stdout
    for word in ("numpy", "cv2", "GPU", "ROS 2", "onnxruntime"):
        assert word in result.stdout


def test_doctor_names_the_extra_of_what_is_missing(monkeypatch):
    from semantic_stereo_ros.cli import doctor

    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    remedies = {name: remedy for name, _, _, remedy in doctor._optional()}
    assert "pip install 'semantic_stereo_ros[onnx]'" in remedies["onnxruntime"]


def test_doctor_names_a_few_of_many_stale_segments(tmp_path, monkeypatch):
    from semantic_stereo_ros.cli import doctor
    from semantic_stereo_ros.nodes.runtime import shared_memory

    files = [tmp_path / f"fastrtps_{number:016x}" for number in range(40)]
    for file in files:
        file.write_bytes(bytes(2**20))
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shared_memory, "stale_files", lambda: files)
    _, good, state, remedy = next(row for row in doctor._shared_memory() if row[0] == "stale segments")
    assert good is None and "--clean" in remedy
    assert state.startswith("40 MB of ended processes: fastrtps_0000000000000000, ") and state.endswith(" and 37 more")


def test_eval_of_synthetic_scenes_reports_small_errors(tmp_path):
    result = semantic_stereo("eval", "--synthetic", "2", "--first-seed", "50", "-o", tmp_path / "figures.json")
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    disparity = figures["disparity"]
    assert disparity["density"] > 0.85
    assert disparity["epe_px"] < 1.0
    objects = figures["distances of the found objects (m)"]
    assert objects["distance"]["matched"] >= 8
    assert objects["distance"]["p90_relative"] < 0.05


def test_eval_compares_with_a_disparity_file(tmp_path):
    """Two images shifted by 6 px have disparity 6 wherever both see the surface."""
    import cv2

    wide = np.random.default_rng(3).integers(0, 255, (120, 206), np.uint8)
    wide = cv2.GaussianBlur(wide, (5, 5), 1.2)
    cv2.imwrite(str(tmp_path / "left.png"), wide[:, :200])
    cv2.imwrite(str(tmp_path / "right.png"), wide[:, 6:])
    np.save(tmp_path / "truth.npy", np.full((120, 200), 6.0, np.float32))
    pair = (tmp_path / "left.png", tmp_path / "right.png")
    options = ("--set", "stereo.sgbm.num_disparities=16", "-o", tmp_path / "figures.json")
    result = semantic_stereo("eval", *pair, "--truth", tmp_path / "truth.npy", *options)
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["disparity"]
    assert figures["epe_px"] < 0.1
    assert figures["density"] > 0.85


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), ""),
        (("left.png", "right.png"), "--truth"),
        (("left.png", "right.png", "--truth", "none.npy"), "none.npy"),
        (("left.png", "--synthetic", "1"), "--synthetic takes no images"),
        (("left.png", "right.png", "--truth", "none.npy", "--instances", "ids.png"), "give --calibration too"),
        (("left.png", "right.png", "--truth", "none.npy", "--given-masks"), "give them with --instances"),
        (("left.png", "right.png", "--truth", "none.npy", "--truth-scale", "0"), "--truth-scale"),
    ],
)
def test_eval_says_what_it_needs(arguments, message):
    result = semantic_stereo("eval", *arguments)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    assert message in result.stderr


@pytest.mark.parametrize(
    "verb",
    [
        ("eval", "--synthetic", "1"),
        ("bench", "--only", "cloud", "--repeats", "3"),
        ("soak", "--frames", "100"),
        ("export", "foundation_stereo", "--size", "64x64", "--checkpoint", "none.pth"),
    ],
)
def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path, verb):
    if verb[0] == "export":
        pytest.importorskip("torch")
    if verb[0] == "soak":
        pytest.importorskip("semantic_stereo_ros.msg")
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file" / "out", tmp_path):
        result = semantic_stereo(*verb, "-o", target)
        assert result.returncode == 1, result.stdout
        assert "Traceback" not in result.stderr
        assert "cannot be made" in result.stderr or "must be a file, but is a folder" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_what_the_system_says_of_files_is_one_sentence():
    full = semantic_stereo("eval", "--synthetic", "1", "-o", "/dev/full")
    assert full.returncode == 1 and "No space left on device" in full.stderr and "Traceback" not in full.stderr
    name = "a" * 300 + ".png"
    long = semantic_stereo("run", name, name, "-c", "calib.txt", "-o", "out")
    assert long.returncode == 1 and "File name too long" in long.stderr and "Traceback" not in long.stderr
    verbose = semantic_stereo("-v", "run", name, name, "-c", "calib.txt", "-o", "out")
    assert "Traceback" in verbose.stderr


def test_an_unknown_benchmark_is_answered_with_the_known_ones():
    result = semantic_stereo("bench", "--only", "magic")
    assert result.returncode == 1
    assert "known: " in result.stderr
    assert "sgbm" in result.stderr


def test_the_demo_without_ros_measures_all_objects(tmp_path):
    result = semantic_stereo("demo", "--no-ros", "--frames", "10", "-o", tmp_path, columns="80")
    assert result.returncode == 0, result.stderr
    assert "…" not in result.stdout, "a terminal of 80 columns shows the table whole"
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    measured = [o for o in report["objects"] if o["measured_m"]]
    assert len(measured) >= 6
    for item in measured:
        assert item["measured_m"][-1] == pytest.approx(item["true_m"][-1], rel=0.05), item["name"]
