"""The rim of a mask against images whose true silhouettes are known."""

from __future__ import annotations

import cv2
import numpy as np

from semantic_stereo_ros.segmentation.geometric import silhouettes


def fattened(contrast: float, noise: float = 4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(true mask, mask with two pixels too many all around, grey image)."""
    rng = np.random.default_rng(1)
    truth = np.zeros((80, 100), np.uint8)
    truth[20:60, 30:70] = 1
    grey = 100 + contrast * truth + noise * rng.standard_normal(truth.shape)
    return truth > 0, cv2.dilate(truth, np.ones((5, 5), np.uint8)).astype(np.uint16), np.clip(grey, 0, 255).astype(np.uint8)


def test_a_fattened_rim_is_given_back_where_the_image_shows_it():
    truth, labels, grey = fattened(contrast=60)
    trimmed = silhouettes.trim(labels, grey, 2)
    assert np.mean((trimmed > 0) == truth) > 0.98 > np.mean((labels > 0) == truth)
    assert (trimmed[truth] == 1).mean() > 0.97


def test_without_contrast_nothing_changes():
    _, labels, grey = fattened(contrast=0)
    np.testing.assert_array_equal(silhouettes.trim(labels, grey, 2), labels)


def test_the_rim_between_two_objects_is_left_alone():
    labels = np.zeros((60, 60), np.uint16)
    labels[:, :30], labels[:, 30:] = 1, 2
    grey = np.where(labels == 1, 50, 200).astype(np.uint8)
    np.testing.assert_array_equal(silhouettes.trim(labels, np.roll(grey, 2, axis=1), 2), labels)
