"""Overlapping masks become groups, objects and parts; literal masks."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'semantic_stereo_ros[torch]'")

from semantic_stereo_ros.segmentation.automask.levels import LEVELS, layers_of, nest  # noqa: E402
from semantic_stereo_ros.segmentation.automask.mask_cleaning import clean  # noqa: E402


def squares(*corners_and_sides: tuple[int, int, int]):
    """(K, 64, 64) bool: row, column and side of each."""
    masks = torch.zeros(len(corners_and_sides), 64, 64, dtype=torch.bool)
    for mask, (row, column, side) in zip(masks, corners_and_sides):
        mask[row : row + side, column : column + side] = True
    return masks


GROUP, OBJECT, PART, ALONE, HANDLE = (0, 0, 40), (4, 4, 24), (8, 8, 8), (44, 44, 16), (50, 50, 6)


def test_three_in_a_chain_are_group_object_and_part_and_two_are_object_and_part():
    nested = nest(squares(PART, ALONE, GROUP, HANDLE, OBJECT))
    assert [LEVELS[level] for level in nested.level] == ["part", "object", "group", "part", "object"]
    assert nested.container.tolist() == [4, -1, -1, 1, 2]


def test_what_is_hardly_larger_or_does_not_hold_most_of_it_is_no_container():
    assert nest(squares((0, 0, 20), (0, 0, 22))).container.tolist() == [-1, -1]
    assert nest(squares((0, 0, 20), (4, 4, 40))).container.tolist() == [-1, -1]


def test_layers_carry_the_records_and_the_links_to_the_level_above():
    result = layers_of(squares(PART, ALONE, GROUP, HANDLE, OBJECT), np.array([0.9, 0.8, 0.7, 0.6, 0.5]), 10)
    assert [layer.level for layer in result.layers] == list(LEVELS)
    assert result.layers[0].labels[20, 38] == 1 and result.layers[2].labels[10, 10] == 1
    labels = {record.score: (record.layer, record.label, record.parent) for record in result.instances}
    assert labels == {0.7: (0, 1, None), 0.8: (1, 1, None), 0.5: (1, 2, 1), 0.9: (2, 1, 2), 0.6: (2, 2, 1)}


def test_the_better_score_has_the_pixel_and_the_best_are_kept():
    masks = squares((0, 0, 30), (20, 20, 30))
    labels = layers_of(masks, np.array([0.6, 0.9]), 10).labels
    assert labels[25, 25] == labels[45, 45] != labels[5, 5] != 0
    kept = layers_of(masks, np.array([0.6, 0.9]), 1)
    assert [record.score for record in kept.instances] == [0.9] and not kept.labels[5, 5]


def test_what_is_prompted_is_an_object_and_lies_over_better_scores():
    """It lies within a larger mask, and beside that would be its part."""
    result = layers_of(squares((10, 10, 12), (0, 0, 40)), np.array([0.2, 0.9]), 10, [("prompt:7", "cup")])
    (prompted,) = (record for record in result.object_instances if record.source_key)
    assert (prompted.source_key, prompted.class_name, prompted.score) == ("prompt:7", "cup", 0.2)
    assert (result.labels == prompted.label).sum() == 144 and (result.labels > 0).sum() == 1600


def test_small_holes_are_filled_and_small_islands_dropped():
    mask = squares((10, 10, 20))
    mask[0, 12:14, 12:14], mask[0, 20:26, 20:26], mask[0, 50:52, 50:53] = False, False, True
    (cleaned,) = clean(mask.clone(), 20)
    assert cleaned[12:14, 12:14].all() and not cleaned[20:26, 20:26].any() and not cleaned[50:, 50:].any()
    assert (clean(mask.clone(), 0) == mask).all()


def test_of_islands_that_are_all_small_the_largest_stays():
    mask = squares((10, 10, 3), (40, 40, 4)).any(dim=0, keepdim=True)
    (cleaned,) = clean(mask, 30)
    assert cleaned.sum() == 16 and cleaned[40:44, 40:44].all()
