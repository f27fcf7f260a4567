"""Metrics on literal arrays whose answers are known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from semantic_stereo_ros import metrics
from semantic_stereo_ros.checks import ImageError, SemanticStereoError

NAN = np.nan


def test_disparity_metrics_of_a_literal_map():
    truth = np.array([[10.0, 10.0, 10.0, 10.0], [20.0, 20.0, NAN, np.inf]], np.float32)
    estimate = np.array([[10.5, 12.0, 7.5, NAN], [24.0, 20.0, 5.0, 6.0]], np.float32)  # errors 0.5 2 2.5 - 4 0 - -
    result = metrics.disparity_metrics(estimate, truth)
    assert (result.pixels, result.answered) == (6, 5)
    assert result.density == pytest.approx(5 / 6)
    assert result.epe_px == pytest.approx(9.0 / 5)
    assert (result.bad_1_answered, result.bad_2_answered, result.bad_3_answered) == pytest.approx((3 / 5, 2 / 5, 1 / 5))
    assert (result.bad_1_all, result.bad_2_all, result.bad_3_all) == pytest.approx((4 / 6, 3 / 6, 2 / 6))


def test_disparity_metrics_over_chosen_pixels():
    truth = np.array([[1.0, 2.0]], np.float32)
    result = metrics.disparity_metrics(np.array([[1.0, 9.0]], np.float32), truth, valid=np.array([[True, False]]))
    assert (result.pixels, result.epe_px, result.bad_1_all) == (1, 0.0, 0.0)


def test_disparity_metrics_without_any_answer_are_nan_not_zero():
    result = metrics.disparity_metrics(np.full((2, 2), NAN, np.float32), np.ones((2, 2), np.float32))
    assert result.density == 0 and result.bad_1_all == 1
    assert math.isnan(result.epe_px) and math.isnan(result.bad_1_answered)
    assert math.isnan(metrics.disparity_metrics(np.ones((1, 1)), np.full((1, 1), NAN)).density)


def test_disparity_metrics_of_two_sizes_are_refused():
    with pytest.raises(ImageError, match=r"shape \(2, 2\), got \(2, 3\)"):
        metrics.disparity_metrics(np.zeros((2, 3)), np.zeros((2, 2)))


def test_sparsification_of_four_errors():
    error = np.array([4.0, 1.0, 3.0, 2.0])
    perfect = metrics.sparsification(error, -error, steps=4)
    np.testing.assert_allclose(perfect.fraction_kept, [1, 0.75, 0.5, 0.25])
    np.testing.assert_allclose(perfect.by_confidence, [2.5, 2.0, 1.5, 1.0])
    assert perfect.ause == 0 and perfect.relative_ause == 0
    # 0.25 held at 1.0, then trapezoids 1.25, 1.75, 2.25 of width 0.25
    assert perfect.oracle_area == pytest.approx(0.25 * (1 + 1.25 + 1.75 + 2.25))
    worst = metrics.sparsification(error, error, steps=4)
    np.testing.assert_allclose(worst.by_confidence, [2.5, 3.0, 3.5, 4.0])
    assert worst.relative_ause > 1


def test_sparsification_of_a_constant_confidence_is_chance():
    result = metrics.sparsification(np.array([-4.0, 1.0, 3.0, NAN, 2.0]), np.ones(5))
    np.testing.assert_allclose(result.by_confidence, 2.5)
    assert result.random == 2.5
    assert result.relative_ause == pytest.approx(1)


def test_sparsification_of_nothing_is_refused():
    with pytest.raises(ImageError, match="nothing can be ranked"):
        metrics.sparsification(np.array([NAN]), np.array([1.0]))


def test_sigma_coverage_of_literal_errors():
    result = metrics.sigma_coverage(np.array([0.5, -1.0, 1.5, -3.0, 7.0]), np.array([1.0, 1.0, 1.0, 1.0, NAN]))
    assert (result.count, result.within_1, result.within_2) == (4, 0.5, 0.75)
    mean_square = (0.25 + 1 + 2.25 + 9) / 4
    assert result.z_std == pytest.approx(math.sqrt(mean_square))
    assert result.nll == pytest.approx(0.5 * mean_square + 0.5 * math.log(2 * math.pi))
    assert result.constant_sigma == pytest.approx(math.sqrt(mean_square))
    assert result.constant_nll == pytest.approx(0.5 + 0.5 * math.log(2 * math.pi * mean_square))
    assert math.isnan(result.relative_nll)


def test_sigma_coverage_prefers_the_sigma_that_made_the_errors():
    rng = np.random.default_rng(3)
    value = rng.uniform(1, 10, 20000)
    sigma = 0.01 * value**2
    result = metrics.sigma_coverage(rng.normal(0, sigma), sigma, value)
    assert result.within_1 == pytest.approx(0.683, abs=0.01)
    assert result.within_2 == pytest.approx(0.954, abs=0.006)
    assert result.nll < result.relative_nll - 0.05 < result.constant_nll - 0.05
    # exact expectation of the best relative sigma: rms of 0.01 * value
    assert result.relative_sigma == pytest.approx(0.01 * math.sqrt(np.mean(value**2)), rel=0.03)


@pytest.mark.parametrize(("error", "sigma", "text"), [([1.0], [0.0], "above zero"), ([NAN], [1.0], "no error with a finite sigma")])
def test_sigma_coverage_refuses_what_has_no_likelihood(error, sigma, text):
    with pytest.raises(SemanticStereoError, match=text):
        metrics.sigma_coverage(np.array(error), np.array(sigma))


def test_match_instances_of_literal_masks():
    truth = np.array([[1, 1, 1, 1], [2, 2, 0, 0], [0, 0, 9, 9]])
    labels = np.array([[5, 5, 5, 0], [5, 0, 0, 0], [7, 0, 7, 7]], np.uint16)
    first, second, third = metrics.match_instances(labels, truth)
    assert (first.truth_id, first.label, first.iou) == (1, 5, pytest.approx(3 / 5))
    assert (second.truth_id, second.label, second.iou) == (2, 0, 0.0)
    assert (third.truth_id, third.label, third.iou) == (9, 7, pytest.approx(2 / 3))


def test_match_instances_gives_a_label_to_one_truth_only():
    truth = np.array([[1, 1, 1, 2, 2]])
    labels = np.array([[3, 3, 3, 3, 3]])
    first, second = metrics.match_instances(labels, truth, minimum_iou=0.3)
    assert (first.label, second.label) == (3, 0)


def test_match_instances_takes_sparse_ids():
    truth = np.array([[0, 26001, 26001]], np.int32)
    (match,) = metrics.match_instances(np.array([[0, 60000, 60000]], np.uint16), truth)
    assert match == metrics.InstanceMatch(26001, 60000, 1.0)


def test_match_instances_refuses_what_is_not_an_id():
    with pytest.raises(ImageError, match="integers"):
        metrics.match_instances(np.zeros((1, 1), np.float32), np.zeros((1, 1), int))


def test_object_errors_of_four_objects():
    result = metrics.object_errors([1.1, 1.8, NAN, 5.0], [1.0, 2.0, 3.0, NAN])
    assert (result.matched, result.unknown) == (2, 1)
    assert result.mean_signed == pytest.approx(-0.05)
    assert result.mean_absolute == pytest.approx(0.15) == result.median_absolute
    assert result.mean_relative == pytest.approx(0.1)


def test_object_errors_without_an_object_are_nan():
    result = metrics.object_errors([], [])
    assert result.matched == 0 and math.isnan(result.mean_absolute)


def test_object_errors_of_two_lengths_are_refused():
    with pytest.raises(SemanticStereoError, match="one length"):
        metrics.object_errors([1.0], [1.0, 2.0])


def test_sigma_coverage_adds_what_the_truth_may_be_off_by_to_both_sides():
    """Errors of the truth alone: with them known, the reported sigma and the best constant are judged by what is left."""
    rng = np.random.default_rng(5)
    truth_sigma, value = np.full(20000, 0.3), rng.uniform(1, 10, 20000)
    error = rng.normal(0, np.hypot(0.02 * value, truth_sigma))
    known = metrics.sigma_coverage(error, 0.02 * value, value, truth_sigma)
    assert known.within_1 == pytest.approx(0.683, abs=0.01) and known.z_std == pytest.approx(1, abs=0.02)
    assert known.relative_sigma == pytest.approx(0.02, rel=0.1)
    assert known.relative_nll <= known.nll < known.constant_nll
    assert metrics.sigma_coverage(error, 0.02 * value, value).within_1 < 0.5
    with pytest.raises(SemanticStereoError, match="truth_sigma must be 0 or above"):
        metrics.sigma_coverage(error, value, value, -truth_sigma)


def test_reliability_of_a_true_sigma_is_the_diagonal_and_of_half_of_it_lies_below():
    rng = np.random.default_rng(6)
    sigma = rng.uniform(0.1, 2.0, 50000)
    error = rng.normal(0, sigma)
    true, half = metrics.reliability(error, sigma), metrics.reliability(error, sigma / 2)
    np.testing.assert_allclose(true.observed, true.level, atol=0.01)
    assert half.observed[9] == pytest.approx(math.erf(0.6745 / 2 / math.sqrt(2)), abs=0.01)  # the level 0.5 reaches to 0.6745 sigma
    np.testing.assert_allclose(true.bin_error, true.bin_sigma, rtol=0.05)
    np.testing.assert_allclose(half.bin_error, 2 * half.bin_sigma, rtol=0.05)
    assert (np.diff(true.bin_sigma) > 0).all()


def test_reliability_needs_an_error_with_a_sigma():
    with pytest.raises(SemanticStereoError, match="no error with a finite sigma"):
        metrics.reliability(np.array([NAN]), np.array([1.0]))
    with pytest.raises(SemanticStereoError, match="every sigma must be above zero"):
        metrics.reliability(np.array([1.0]), np.array([0.0]))
