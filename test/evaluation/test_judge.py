from __future__ import annotations

import numpy as np
import pytest
from judged_by_hand import true_depth_m

from semantic_stereo_ros.evaluation.judge import is_phantom, judge
from semantic_stereo_ros.evaluation.pool import figures
from semantic_stereo_ros.evaluation.suite import find_cases, read_case
from semantic_stereo_ros.pipeline import Pipeline

SHAPE = (160, 320)


def judge_case(suite, name):
    (folder,), _ = find_cases(suite, [name])
    pipeline = Pipeline()
    judgement, _ = judge(pipeline, read_case(folder))
    pipeline.close()
    return judgement


def test_errors_of_a_known_size_give_their_numbers(write_case):
    """The pair shows disparity 12; truth that says 13.5 on the left and 11.6 on the right makes errors of -1.5 and 0.4 px."""
    truth = np.full(SHAPE, 13.5)
    truth[:, 160:] = 11.6
    instances = np.zeros(SHAPE, np.uint16)
    instances[40:120, 60:140], instances[40:120, 200:280] = 5, 9
    judgement = judge_case(write_case("lab_1", truth_px=truth, instances=instances), "lab_1")
    f = figures([judgement])
    answered = np.isfinite(judgement.pixels.estimate_px)
    left = np.isclose(judgement.pixels.true_px, 13.5 + 4)
    share = (left & answered).sum() / answered.sum()
    assert f["disparity"]["bad_1_answered"] == pytest.approx(share, abs=0.01)
    assert f["disparity"]["bad_2_answered"] == pytest.approx(0, abs=0.01)
    assert f["disparity"]["epe_px"] == pytest.approx(share * 1.5 + (1 - share) * 0.4, abs=0.03)
    a, b = judgement.objects["true masks"]
    assert (a.true_depth_m, b.true_depth_m) == pytest.approx((true_depth_m(13.5), true_depth_m(11.6)))
    assert (a.depth_m, b.depth_m) == pytest.approx((true_depth_m(12), true_depth_m(12)), rel=0.005)
    assert [m.truth_id for m in judgement.matches] == [5, 9]
    assert f["instances"]["labelled"] == 2 and np.isnan(f["instances"]["precision"])
    cells = judgement.objects["cells"]
    assert {round(c.true_depth_m, 4) for c in cells} == {round(true_depth_m(13.5), 4), round(true_depth_m(11.6), 4)}
    errors = np.array([abs(c.depth_m - c.true_depth_m) / c.sigma_m for c in cells if np.isfinite(c.depth_m)])
    assert f["objects"]["cells"]["count"] == len(errors) > 20
    assert f["objects"]["cells"]["within_1"] == pytest.approx(np.mean(errors <= 1))


def test_the_truths_own_step_is_in_the_sigma_that_judges(write_case):
    coarse, exact = np.full(SHAPE, 12.5), np.full(SHAPE, 12.517)
    instances = np.zeros(SHAPE, np.uint16)
    instances[40:120, 60:140] = 1
    suite = write_case("lab_coarse", truth_px=coarse, instances=instances)
    write_case("lab_exact", truth_px=exact, instances=instances)
    (of_coarse,), (of_exact,) = (judge_case(suite, name).objects["true masks"] for name in ("lab_coarse", "lab_exact"))
    assert of_exact.truth_sigma_m == 0
    assert of_coarse.truth_sigma_m == pytest.approx(true_depth_m(12.5) ** 2 / 60.0 * 0.5 / 3**0.5)


def test_own_masks_without_truth_under_them_are_counted_apart(write_case):
    judgement = judge_case(write_case("lab_1", truth_px=np.where(np.indices(SHAPE)[1] < 4, 12.0, np.nan)), "lab_1")
    assert judgement.not_judged + len(judgement.objects["own masks"]) == judgement.reported
    assert not judgement.objects["cells"] and not judgement.objects["true masks"]
    assert figures([judgement])["objects"]["cells"]["count"] == 0


def test_a_phantom_is_off_by_more_than_three_sigma_and_five_percent():
    assert is_phantom(2.2, 0.05, 2.0)
    assert not is_phantom(2.2, 0.07, 2.0)  # 2.9 sigma
    assert not is_phantom(2.09, 0.01, 2.0)  # 4.5 %
    assert is_phantom(1.8, 0.05, 2.0)
    assert not is_phantom(2.2, 0.05, 2.0, truth_sigma_m=0.05)  # 2.8 of both sigmas
    assert not is_phantom(float("nan"), float("nan"), 2.0)
