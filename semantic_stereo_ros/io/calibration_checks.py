"""Values of a calibration file that cannot be, said rather than repaired: units, sizes, optics."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from semantic_stereo_ros.checks import CalibrationError
from semantic_stereo_ros.geometry.calibration import StereoCalibration
from semantic_stereo_ros.types import StereoRig

SHORTEST_BASELINE_M, LONGEST_BASELINE_M = 0.002, 20.0
# Longer ones exist, but a file in chessboard squares or cm is more likely.
USUAL_BASELINE_M = 2.5


def baseline_of(calibration: StereoRig | StereoCalibration) -> float:
    """Distance of the cameras as the file says it, m."""
    if isinstance(calibration, StereoRig):
        return calibration.baseline_m
    if calibration.has_projections:
        return calibration.rectified_rig().baseline_m
    assert calibration.translation_m is not None
    return float(np.linalg.norm(calibration.translation_m))


def check_baseline(file: Path, calibration: StereoRig | StereoCalibration) -> None:
    """CalibrationError for a baseline that no rig has: nearly always mm or cm taken for m."""
    baseline = baseline_of(calibration)
    if not SHORTEST_BASELINE_M <= baseline <= LONGEST_BASELINE_M:
        guess = "mm or cm" if baseline > LONGEST_BASELINE_M else "another unit"
        raise CalibrationError(
            f"{file}: a stereo baseline of {baseline:g} m cannot be (expected {SHORTEST_BASELINE_M:g} to {LONGEST_BASELINE_M:g} m): "
            f"the file is probably in {guess}; mend it, or give the baseline in m"
        )
    if baseline > USUAL_BASELINE_M:
        logging.getLogger(__name__).warning("%s: a stereo baseline of %g m is unusual: is the file in metres?", file, baseline)


def check_size(file: Path, calibration: StereoRig | StereoCalibration, image_size_wh: tuple[int, int] | None) -> None:
    """CalibrationError when the images, if given, have another size."""
    if image_size_wh is not None and tuple(calibration.size_wh) != tuple(image_size_wh):
        width, height = calibration.size_wh
        raise CalibrationError(
            f"the calibration {file} is for {width}x{height} pixels but the images are {image_size_wh[0]}x{image_size_wh[1]}: "
            "use the calibration of this resolution, or resize the images to it"
        )


def check_camera(file: Path, calibration: StereoRig | StereoCalibration) -> None:
    """A principal point outside the image, or a field of view that no lens has, means another resolution or a broken file.

    One far from the centre is said in the log: it happens after cropping, and when the images were resized but the calibration was not.
    """
    width, height = calibration.size_wh
    matrices = [calibration.matrix] if isinstance(calibration, StereoRig) else [calibration.left.matrix, calibration.right.matrix]
    for matrix in matrices:
        fx, cx, cy = matrix[0, 0], matrix[0, 2], matrix[1, 2]
        if not (0 <= cx <= width and 0 <= cy <= height):
            raise CalibrationError(
                f"{file}: the principal point ({cx:g}, {cy:g}) lies outside the {width}x{height} image: "
                "the calibration is of another resolution, or broken"
            )
        if not 0.05 * width < fx < 100 * width:
            raise CalibrationError(f"{file}: a focal length of {fx:g} px cannot be for an image {width} px wide: is it in px?")
        if abs(cx / width - 0.5) > 0.3 or abs(cy / height - 0.5) > 0.3:
            logging.getLogger(__name__).warning(
                "%s: the principal point (%.1f, %.1f) is far from the centre of the %dx%d image: is the calibration of this resolution?",
                *(file, cx, cy, width, height),
            )
