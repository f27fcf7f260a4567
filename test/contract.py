"""What every stereo backend's answer keeps, whatever it was shown."""

import numpy as np

from semantic_stereo_ros.types import Disparity, StereoRig


def check_disparity(result: Disparity, rig: StereoRig) -> np.ndarray:
    """Shape, dtype and rig; NaN together in disparity and sigma, confidence 0 there. Returns where it is unknown, (H, W) bool."""
    assert isinstance(result, Disparity)
    assert result.rig == rig
    for array in (result.disparity_px, result.sigma_px, result.confidence):
        assert array.shape == rig.shape and array.dtype == np.float32
    unknown = np.isnan(result.disparity_px)
    assert not np.isinf(result.disparity_px).any()
    np.testing.assert_array_equal(np.isnan(result.sigma_px), unknown)
    assert (result.sigma_px[~unknown] > 0).all()
    assert (result.confidence[unknown] == 0).all()
    assert result.confidence.min() >= 0 and result.confidence.max() <= 1
    known = result.disparity_px[~unknown]
    assert result.min_px - 1 <= known.min(initial=np.inf) and known.max(initial=-np.inf) <= result.max_px + 1
    return unknown
