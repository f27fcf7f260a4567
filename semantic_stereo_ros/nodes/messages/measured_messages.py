"""What a camera measured itself, as arrays: incoming depth, disparity and confidence images."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from stereo_msgs.msg import DisparityImage

from semantic_stereo_ros.checks import ImageError
from semantic_stereo_ros.io.depth_images import decode_compressed_depth, depth_in_metres
from semantic_stereo_ros.nodes.messages.conversions import pixels


def depth_to_array(message: Image | CompressedImage) -> np.ndarray:
    """A depth image as REP-118 has it, or compressed by compressed_depth_image_transport -> (H, W) float32 m, NaN unknown.

    Raises ImageError for an encoding that is none of a depth, truncated and broken data.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed_depth(memoryview(message.data), message.format)
    if message.encoding not in ("32FC1", "16UC1", "mono16"):
        raise ImageError(f"depth must be 32FC1 (m) or 16UC1 (mm), got encoding {message.encoding!r}: is this a camera image's topic?")
    return depth_in_metres(pixels(message))


_WORST_AND_BEST = {"fraction": (0.0, 1.0), "percent": (0.0, 100.0), "percent_inverted": (100.0, 0.0), "byte": (0.0, 255.0)}


def confidence_to_array(message: Image, meaning: str) -> np.ndarray:
    """A confidence image (32FC1, mono8 or mono16) -> (H, W) float32 in 0..1, 1 is best, 0 where it is NaN.

    meaning: 'fraction', 'percent', 'percent_inverted' (ZED: 0 is best, 100 worst) or 'byte'. Raises ImageError for a colour image, and
    for values outside of the meaning's range.
    """
    values = pixels(message)
    if values.ndim != 2:
        raise ImageError(f"a confidence image must have one channel, got encoding {message.encoding!r}")
    worst, best = _WORST_AND_BEST[meaning]
    low, high = sorted((worst, best))
    with np.errstate(invalid="ignore"):
        if ((values < low) | (values > high)).any():
            span = f"{np.nanmin(values):g} to {np.nanmax(values):g}"
            raise ImageError(f"confidences of input.confidence = {meaning} lie in [{low:g}, {high:g}], got {span}: choose another meaning")
    return np.nan_to_num((values.astype(np.float32) - np.float32(worst)) / np.float32(best - worst), nan=0.0)


def disparity_to_array(message: DisparityImage) -> np.ndarray:
    """stereo_msgs/DisparityImage -> (H, W) float32 px, d + doffs as it stands there, NaN where it is unknown.

    Unknown is what is not finite, not above zero, or below the smaller of min_disparity and max_disparity (stereo_image_proc
    writes min_disparity - 1, Isaac 0; ZED's driver gives the two limits in the other order). Raises ImageError.
    """
    image = message.image
    if image.encoding != "32FC1":
        raise ImageError(f"a disparity image must have the encoding 32FC1, got {image.encoding!r}")
    values = pixels(image)
    least = max(0.0, min(message.min_disparity, message.max_disparity))
    with np.errstate(invalid="ignore"):
        known = np.isfinite(values) & (values > 0) & (values >= np.float32(least))
    if not known.any() and np.count_nonzero(values < 0) > 0.5 * values.size:
        raise ImageError(
            "most of the disparity image is below zero: a disparity is x_left - x_right, so the driver may give its negative; take its "
            "depth instead (input.external: depth)"
        )
    return np.where(known, values, np.float32(np.nan))
