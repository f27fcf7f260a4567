"""Runs, drawn pixels, rims and quantiles against plain NumPy, mask by mask, on maps from dust to stripes."""

import numpy as np
import pytest

from semantic_stereo_ros.fusion.label_statistics import draw_pixels, inside_rim, label_runs, row_quantiles


def _dust(rng):
    return rng.integers(0, 40, (60, 71))


def _rectangles(rng):
    labels = np.zeros((200, 301), int)
    for label in range(1, 60):
        row, column, height, width = rng.integers(0, 199), rng.integers(0, 300), rng.integers(1, 60), rng.integers(1, 90)
        labels[row : row + height, column : column + width] = label
    return labels


def _stripes(rng):
    labels = np.zeros((200, 120), int)
    labels[::2, 10:100] = 65535
    labels[1::4, 20:] = 7
    return labels


def _single_pixels(rng):
    labels = np.zeros((9, 13), int)
    labels[0, 0], labels[4, 12], labels[8, 5] = 3, 1, 2
    return labels


MAPS = (_dust, _rectangles, _stripes, _single_pixels)


@pytest.fixture(params=MAPS, ids=lambda make: make.__name__[1:])
def labels(request):
    return request.param(np.random.default_rng(5)).astype(np.uint16)


def test_runs_count_every_pixel_and_bound_every_mask(labels):
    present = [label for label in np.unique(labels).tolist() if label]
    runs = label_runs(labels, np.array([*present, 60000]))  # one that does not occur
    assert runs.label.tolist() == present
    assert runs.pixels.tolist() == [np.count_nonzero(labels == label) for label in present]
    for label, box, size in zip(present, runs.box_xyxy.tolist(), runs.size_wh.tolist()):
        rows, columns = np.nonzero(labels == label)
        assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert size == [box[2] - box[0], box[3] - box[1]]
    painted = np.zeros_like(labels)
    for row, right, length, mask in zip(runs.row, runs.right, runs.length, runs.mask):
        painted[row, right - length : right] = runs.label[mask]
    assert np.array_equal(painted, labels)


def test_unwanted_labels_are_left_out(labels):
    wanted = np.unique(labels)[1:2].astype(int)
    assert label_runs(labels, wanted).label.tolist() == wanted.tolist()
    none = label_runs(labels, np.array([60000]))
    assert none.label.size == 0 and none.box_xyxy.shape == (0, 4)


def test_drawn_pixels_are_of_their_mask_without_repetition(labels):
    runs = label_runs(labels, np.arange(1, 1 << 16))
    most = 50
    drawn = draw_pixels(runs, labels.shape[1], most)
    assert np.array_equal(drawn.index, drawn.row * labels.shape[1] + drawn.column)
    assert (labels.reshape(-1)[drawn.index] == runs.label[:, None]).all()
    assert (drawn.count <= most).all() and (drawn.count >= np.minimum(runs.pixels, most) / 2).all()
    for i, (count, pixels) in enumerate(zip(drawn.count.astype(int), runs.pixels)):
        real = drawn.index[i][drawn.real[i]]
        assert len(real) == count == len(set(real.tolist()))
        if pixels <= most:
            assert count == pixels  # drawn whole


@pytest.mark.parametrize("border", [0, 3])
def test_the_rim_is_where_a_corner_has_another_label(labels, border):
    """border: also with masks that stay away from the image border, as there nothing is cut."""
    radius = 2
    labels = np.pad(labels, border)
    runs = label_runs(labels, np.arange(1, 1 << 16))
    drawn = draw_pixels(runs, labels.shape[1], 64)
    inside = inside_rim(labels, runs, drawn, radius)
    rows, columns = labels.shape
    for i, j in np.ndindex(*inside.shape):
        row, column = drawn.row[i, j], drawn.column[i, j]
        corners = [
            labels[np.clip(row + down, 0, rows - 1), np.clip(column + across, 0, columns - 1)]
            for down in (-radius, radius)
            for across in (-radius, radius)
        ]
        assert inside[i, j] == all(corner == runs.label[i] for corner in corners)


def test_quantiles_are_numpys():
    rng = np.random.default_rng(2)
    value = rng.normal(size=(3, 20, 33)).astype(np.float32)
    chosen = rng.random((20, 33)) < 0.6
    chosen[4] = False
    chosen[5, 1:] = False
    fractions = (0.05, 0.5, 0.93)
    got = row_quantiles(value, chosen, chosen.sum(axis=1), fractions)
    assert got.shape == (3, 20, 3)
    assert np.isnan(got[:, 4]).all()
    for i, j in np.ndindex(3, 20):
        if j != 4:
            assert got[i, j] == pytest.approx(np.quantile(value[i, j][chosen[j]].astype(float), fractions), abs=1e-6)
    every = np.ones((20, 33), bool)
    assert row_quantiles(value[0], every, np.full(20, 33), fractions) == pytest.approx(np.quantile(value[0], fractions, axis=1).T, abs=1e-6)
