from __future__ import annotations

import numpy as np
import pytest

from semantic_stereo_ros.evaluation.cells import cell_side_px, cell_truth

SHAPE = (192, 512)  # 32 px squares: 6 rows of 16


def test_squares_follow_the_width_between_two_bounds():
    assert [cell_side_px(width) for width in (320, 640, 700, 1242)] == [32, 40, 44, 48]


def test_every_square_of_a_plane_counts_and_has_its_median():
    row, column = np.indices(SHAPE)
    truth = (20 + 0.05 * column + 0.02 * row).astype(np.float32)
    labels, medians = cell_truth(truth)
    assert labels.max() == len(medians) == 96
    assert (labels[:32, :32] == 1).all() and (labels[:32, 32:64] == 2).all() and (labels[32:64, :32] == 17).all()
    assert medians[0] == pytest.approx(20 + 0.05 * 15.5 + 0.02 * 15.5, abs=0.01)


def test_a_square_that_holds_two_surfaces_does_not_count():
    truth = np.full(SHAPE, 20.0, np.float32)
    truth[:, 80:] = 24.0  # an edge inside the squares of columns 64..95
    labels, medians = cell_truth(truth)
    assert (labels[:, 64:96] == 0).all()
    assert (labels[:, :64] > 0).all() and (labels[:, 96:] > 0).all()
    assert len(medians) == 90 and set(medians) == {20.0, 24.0}


def test_a_steep_square_does_not_count():
    column = np.indices(SHAPE)[1]
    assert not cell_truth((5 + 0.5 * column).astype(np.float32))[0].any()  # 16 px between the quartiles


def test_a_square_that_is_seen_in_part_does_not_count():
    truth = np.full(SHAPE, 20.0, np.float32)
    truth[:32, 16:32] = np.nan
    labels, medians = cell_truth(truth)
    assert (labels[:32, :32] == 0).all() and len(medians) == 95


def test_sparse_truth_counts_and_its_gaps_do_not_shift_the_median():
    row = np.indices(SHAPE)[0]
    truth = np.full(SHAPE, np.nan, np.float32)
    plane = 20 + 0.15 * row
    truth[::4, ::2] = plane[::4, ::2]
    truth[17:32, 1::2] = plane[17:32, 1::2]  # seen better below
    labels, medians = cell_truth(truth)
    assert labels[16, 16] == 1
    assert np.median(truth[:32, :32][np.isfinite(truth[:32, :32])]) > 22.9
    assert medians[0] == pytest.approx(20 + 0.15 * 15.5, abs=0.1)


def test_coarse_truth_is_allowed_its_own_steps():
    column = np.indices(SHAPE)[1]
    coarse = np.floor(20 + 0.06 * column).astype(np.float32)
    assert cell_truth(coarse, 1.0)[0].max() == 96


def test_an_image_smaller_than_a_square_has_no_cells():
    labels, medians = cell_truth(np.full((20, 20), 5.0, np.float32))
    assert not labels.any() and medians.size == 0
