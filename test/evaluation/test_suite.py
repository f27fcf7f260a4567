from __future__ import annotations

import json
import re

import numpy as np
import pytest

from semantic_stereo_ros.checks import ImageError, InputFileError, SemanticStereoError
from semantic_stereo_ros.evaluation.suite import find_cases, read_case, truth_step


def test_a_case_is_read_with_its_calibration_and_truth(write_case):
    instances = np.zeros((160, 320), np.uint16)
    instances[10:60, 10:60] = 300
    suite = write_case("lab_chair", instances=instances)
    (folder,), skipped = find_cases(suite)
    case = read_case(folder)
    assert (folder.name, folder.source, folder.metric, folder.instances_complete, skipped) == ("lab_chair", "lab", True, False, [])
    assert (case.frame.rig.fx, case.frame.rig.baseline_m, case.frame.rig.doffs_px) == (300.0, 0.2, 4.0)
    assert (case.frame.rig.cx, case.frame.rig.cy) == (159.5, 79.5)
    assert case.instance_ids is not None and case.instance_ids[30, 30] == 300
    assert (case.truth_px == 12).all()


def test_the_manifest_names_source_and_what_can_be_judged(write_case, write_manifest):
    suite = write_case("lab_chair")
    write_manifest([{"name": "lab_chair", "source": "our lab", "metric": False, "instances_complete": True, "licence": "none"}])
    (folder,), _ = find_cases(suite)
    assert (folder.source, folder.metric, folder.instances_complete) == ("our lab", False, True)


def test_only_takes_names_and_patterns(write_case):
    for name in ("lab_1", "lab_2", "yard_1"):
        suite = write_case(name)
    assert [c.name for c in find_cases(suite, ["lab_*", "yard_1"])[0]] == ["lab_1", "lab_2", "yard_1"]
    assert [c.name for c in find_cases(suite, ["lab_2"])[0]] == ["lab_2"]
    with pytest.raises(InputFileError, match=r"no case of .* is named 'roof'; there are lab_1, lab_2, yard_1"):
        find_cases(suite, ["roof"])


def test_a_folder_that_lacks_a_file_is_skipped_in_words(write_case):
    suite = write_case("lab_1")
    write_case("lab_2")
    (suite / "lab_2" / "right.png").unlink()
    (suite / "lab_2" / "disp_left.npz").unlink()
    cases, skipped = find_cases(suite)
    assert [c.name for c in cases] == ["lab_1"]
    assert [(s.name, s.reason) for s in skipped] == [("lab_2", "it lacks right.png, disp_left.npz")]


def test_a_suite_without_cases_and_one_that_is_missing_are_one_sentence(write_case, tmp_path):
    suite = write_case("lab_1")
    (suite / "lab_1" / "calib.json").unlink()
    with pytest.raises(InputFileError, match=r"holds no case.*lab_1 is skipped because it lacks calib\.json"):
        find_cases(suite)
    with pytest.raises(InputFileError, match="nowhere does not exist: give a folder of cases"):
        find_cases(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "is no valid JSON"),
        ("[]", "must hold f_px and baseline_m"),
        ('{"f_px": 300, "baseline_m": 0}', "baseline must be above zero"),
        ('{"f_px": "wide", "baseline_m": 0.2}', "is not what it should be"),
        ('{"f_px": 300, "baseline_m": 0.2, "size_wh": [320]}', "is not what it should be"),
        ('{"f_px": 300, "baseline_m": 0.2, "size_wh": [640, 320]}', "images are 320x160 but the calibration is for 640x320"),
    ],
)
def test_a_calibration_that_cannot_be_used_names_the_case(write_case, content, text):
    suite = write_case("lab_1")
    (suite / "lab_1" / "calib.json").write_text(content)
    (folder,), _ = find_cases(suite)
    with pytest.raises(SemanticStereoError, match=text) as caught:
        read_case(folder)
    assert "lab_1" in str(caught.value)


def test_truth_of_another_size_is_refused(write_case):
    suite = write_case("lab_1", truth_px=np.ones((80, 320)))
    (folder,), _ = find_cases(suite)
    with pytest.raises(ImageError, match=r"disp_left.npz must have the images' shape \(160, 320\)"):
        read_case(folder)


def test_truth_in_coarse_steps_is_known_by_its_values():
    rng = np.random.default_rng(0)
    whole = rng.integers(20, 200, (40, 50)).astype(np.float32)
    assert truth_step(whole) == 1
    assert truth_step(whole / 2) == 0.5
    assert truth_step(whole / np.float32(3)) == pytest.approx(1 / 3)
    assert truth_step(whole / 256) == 0
    assert truth_step(rng.uniform(5, 50, (40, 50)).astype(np.float32)) == 0
    half = whole / 2
    half[3] = np.nan
    assert truth_step(half) == 0.5


def test_steps_of_published_truth_are_recognised(real_data):
    suite = real_data("real")
    steps = {}
    for record in json.loads((suite / "manifest.json").read_text()):
        stated = re.search(r"steps of ([\d.]+) px", record["truth"])
        with np.load(suite / record["name"] / "disp_left.npz") as file:
            steps[record["name"]] = truth_step(file["disp"]), float(stated[1]) if stated else 0.0
    found, expected = zip(*steps.values())
    assert found == pytest.approx(expected, abs=0.005) and 0 in expected and 0.5 in expected
