from __future__ import annotations

import math

import pytest
from judged_by_hand import judgement

from semantic_stereo_ros.evaluation.pool import by_source, figures
from semantic_stereo_ros.evaluation.report import make_report
from semantic_stereo_ros.metrics import InstanceMatch

NAN = math.nan


def test_pixels_are_pooled_as_pixels():
    f = figures([judgement(errors=(0.5, 4.0, NAN)), judgement(errors=(-1.5,), seconds=3.0)])
    d = f["disparity"]
    assert (d["pixels"], d["answered"], d["density"], d["epe_px"]) == (4, 3, 0.75, pytest.approx(2.0))
    assert (d["bad_1_answered"], d["bad_2_answered"], d["bad_3_all"]) == pytest.approx((2 / 3, 1 / 3, 0.5))
    assert f["pixel_sigma"]["within_1"] == pytest.approx(1 / 3) and f["pixel_sigma"]["within_2"] == pytest.approx(2 / 3)
    assert f["pixel_sigma"]["small_errors"]["count"] == 2
    assert f["seconds"] == {"stereo": 2.0, "segmentation": 0.0, "fusion": 0.0, "tracking": 0.0}


def test_objects_are_pooled_as_objects_and_unknown_ones_counted():
    cells = [(0.5, 1.0, False), (-1.5, 1.0, False), (NAN, NAN, False)]
    f = figures([judgement(cells=cells), judgement(cells=[(3.0, 1.0, False)])])["objects"]["cells"]
    assert (f["count"], f["unknown"], f["within_1"], f["within_2"]) == (3, 1, pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert f["relative_sigma"] == pytest.approx(math.sqrt((0.25 + 2.25 + 9) / 3) / 10)
    assert f["gain"] == pytest.approx(f["relative_nll"] - f["nll"]) and f["gain"] < 0
    assert f["median_relative_error"] == pytest.approx(0.15)


def test_precision_is_of_complete_labels_only_and_recall_of_all():
    hit, miss = InstanceMatch(1, 4, 0.7), InstanceMatch(2, 0, 0.0)
    f = figures([judgement(matches=[hit, miss], reported=10), judgement(matches=[hit], reported=4, complete=True)])["instances"]
    assert (f["labelled"], f["found"], f["recall"]) == (3, 2, pytest.approx(2 / 3))
    assert (f["complete_cases"], f["reported_in_complete"], f["precision"]) == (1, 4, 0.25)


def test_phantoms_are_shares_of_the_judged_metric_masks():
    own = [(2.0, 0.1, True), (0.1, 0.1, False), (NAN, NAN, False)]
    f = figures([judgement(own=own, reported=5), judgement(own=[(0.0, 0.1, False)], reported=1, metric=False)])["phantoms"]
    assert f == {"reported": 6, "judged": 2, "phantoms": 1, "share": 0.5, "without_truth": 2}


def test_sources_are_told_apart():
    cases = [judgement("lab_1", errors=(1.0,)), judgement("yard_1", errors=(3.0,)), judgement("lab_2", errors=(2.0,))]
    assert {name: len(group) for name, group in by_source(cases).items()} == {"lab": 2, "yard": 1}
    report = make_report(cases, {})
    assert [report.sources[name]["disparity"]["epe_px"] for name in ("lab", "yard")] == pytest.approx([1.5, 3.0])
    assert report.pooled["disparity"]["epe_px"] == pytest.approx(2.0)
    assert report.cases["lab_2"]["source"] == "lab"
