"""Why an object has no mask now: something nearer stands before it, or it is not where it should be."""

from __future__ import annotations

import numpy as np

from semantic_stereo_ros.tracking.mask_memory import MIN_DEPTH_M, MovedMasks
from semantic_stereo_ros.types import Disparity, StereoRig

NEARER_SIGMAS = 3.0
MAX_SPREAD = 0.1
"""Share of the depth that the prediction's sigma counts for at most: a long hidden object does not come forward for that."""

MIN_KNOWN_SHARE = 0.2
MIN_HIDDEN_SHARE = 0.6

VIEW_MARGIN = 0.1
"""Share of the image's size; what is predicted farther outside is not waited for."""


def hidden(
    moved: MovedMasks, depths_m: np.ndarray, depth_sigmas_m: np.ndarray, half_extents_m: np.ndarray, disparity: Disparity
) -> np.ndarray:
    """(n,) bool: most of the object's predicted pixels show something significantly nearer than the object can reach.

    depths_m, depth_sigmas_m: (n,) predicted depth and its standard deviation; half_extents_m: (n,) how far the object may
    reach towards the camera. An object whose pixels are out of the image, or whose pixels mostly have no known disparity, is not hidden.
    """
    rig, owner = disparity.rig, moved.owner
    front_m = np.maximum(depths_m - half_extents_m, 0.3 * depths_m)
    with np.errstate(divide="ignore", invalid="ignore"):
        nearest_px = rig.bf / front_m - rig.doffs_px
        spread_px = rig.bf / depths_m**2 * np.minimum(depth_sigmas_m, MAX_SPREAD * depths_m)
    measured_px = disparity.disparity_px[moved.rows, moved.columns]
    sigma_px = disparity.sigma_px[moved.rows, moved.columns]
    nearer = measured_px - nearest_px[owner] > NEARER_SIGMAS * sigma_px + spread_px[owner]
    count = len(moved.total)
    in_view = np.bincount(owner, minlength=count)
    known = np.bincount(owner[np.isfinite(measured_px)], minlength=count)
    covered = np.bincount(owner[nearer], minlength=count)
    in_image = in_view > 0.3 * np.maximum(moved.total, 1)
    return in_image & (known > MIN_KNOWN_SHARE * in_view) & (covered > MIN_HIDDEN_SHARE * known)


def out_of_view(positions_m: np.ndarray, rig: StereoRig) -> np.ndarray:
    """(n,) bool: the (n, 3) predicted middle, camera frame, is behind the camera or outside the image by more than VIEW_MARGIN of its size.

    An object without a known position (NaN) is not out of view."""
    depths_m = positions_m[:, 2]
    rays = positions_m[:, :2] / np.maximum(depths_m, MIN_DEPTH_M)[:, None]
    share = (rays * (rig.fx, rig.fy) + (rig.cx, rig.cy)) / rig.size_wh
    beside = ((share < -VIEW_MARGIN) | (share > 1.0 + VIEW_MARGIN)).any(axis=1)
    return (depths_m <= MIN_DEPTH_M) | beside
