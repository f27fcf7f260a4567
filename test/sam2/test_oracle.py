"""The comparison with the reference says something only if the reference finds something."""

from __future__ import annotations

import numpy as np
import oracle


def test_the_reference_keeps_many_masks_of_spread_sizes(reference_masks):
    assert len(reference_masks) >= oracle.FEWEST_MASKS
    areas = np.array([record["area"] for record in reference_masks])
    low, high = np.percentile(areas, (10, 90))
    assert high > 4 * low
    centres = np.array([np.argwhere(record["segmentation"]).mean(axis=0) for record in reference_masks])
    assert (np.ptp(centres, axis=0) > 0.5 * np.array(reference_masks[0]["segmentation"].shape)).all()
    assert len({round(record["predicted_iou"], 4) for record in reference_masks}) > 20
