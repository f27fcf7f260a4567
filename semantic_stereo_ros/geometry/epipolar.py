"""Is the pair what it claims to be? Rows aligned, left is left - judged from sparse matches of one pair of images.

Corners of the left image are described (ORB), matched both ways, placed to a fraction of a pixel by Lucas-Kanade, and cleaned by one
smooth model of the row error; what remains says how far rows are off and which sign the disparities have.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from semantic_stereo_ros.checks import ImageError, check_array
from semantic_stereo_ros.geometry.jpeg_blocks import MANY_BLOCKS, block_strength
from semantic_stereo_ros.types import StereoFrame, StereoRig, as_rgb8

MIN_MATCHES = 25
# Below the first, matching does not suffer; above the second, most of what it answers is wrong.
GOOD_ROW_ERROR_PX, MAX_ROW_ERROR_PX = 1.0, 2.0
_FEATURES = (1500, 3000)
_WORK_PIXELS = 1_000_000
_ROW_SEARCH, _COLUMN_SEARCH = 0.12, 0.4
_LARGEST_SLOPE = 0.15
_SQUARE_PIXELS = 0.05  # by which fx and fy of a real camera may differ


@dataclass(frozen=True)
class EpipolarHealth:
    """What sparse matches say of a pair.

    matches: matches that agree with each other; of them dy_px = y_right - y_left: median_abs_dy_px, p90_abs_dy_px, median_dy_px (signed).
    behind_fraction: share with d + doffs < 0 (behind infinity, impossible); behind_if_swapped: the same share if the images are
    exchanged; negative_fraction: share with a raw disparity d < 0; p98_disparity_px: 98th percentile of d.
    Numbers are NaN when `known` is False: too few matches to tell.
    """

    matches: int
    median_abs_dy_px: float = float("nan")
    p90_abs_dy_px: float = float("nan")
    median_dy_px: float = float("nan")
    behind_fraction: float = float("nan")
    behind_if_swapped: float = float("nan")
    negative_fraction: float = float("nan")
    p98_disparity_px: float = float("nan")

    @property
    def known(self) -> bool:
        return self.matches >= MIN_MATCHES

    @property
    def swapped(self) -> bool:
        """Left and right are exchanged: impossible disparities as given, none when exchanged. False when unknown."""
        return self.known and self.behind_fraction > 0.25 and self.behind_if_swapped < 0.1

    def unrectified(self, max_row_error_px: float = MAX_ROW_ERROR_PX) -> bool:
        """The rows do not correspond: the median row error exceeds the threshold. False when unknown."""
        return self.known and self.median_abs_dy_px > max_row_error_px


@dataclass(frozen=True)
class Finding:
    """message: one sentence. kind: 'identical', 'swapped' or 'unrectified' when fatal (the results would be wrong); 'row_error',
    'behind_infinity', 'negative', 'range', 'blocks', 'focal' or 'unknown' when it is only worth saying."""

    kind: str
    message: str
    fatal: bool


def epipolar_health(left: np.ndarray, right: np.ndarray, doffs_px: float = 0.0) -> EpipolarHealth:
    """Measure a pair. left, right: (H, W) or (H, W, 3) uint8 or uint16 of one size; doffs_px of the rig, 0 if unknown.

    Images above a megapixel are measured at reduced size; every number is in px of the given images.
    """
    check_array("the left image", left, dtypes=(np.uint8, np.uint16))
    check_array("the right image", right, dtypes=(np.uint8, np.uint16))
    if left.shape[:2] != right.shape[:2]:
        raise ImageError(f"left and right images must have one size, got {left.shape[:2]} and {right.shape[:2]} (height, width)")
    scale = min(1.0, (_WORK_PIXELS / (left.shape[0] * left.shape[1])) ** 0.5)
    small_left, small_right = _grey8(left, scale), _grey8(right, scale)
    start, end, agree = np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, bool)
    for features in _FEATURES:
        start, end = matched_points(small_left, small_right, features)
        start, end = start / scale, end / scale
        agree = _agreeing(start, end, left.shape[0], tolerance_px=max(1.5, 0.75 / scale))
        if agree.sum() >= MIN_MATCHES:
            break
    else:
        return EpipolarHealth(matches=int(agree.sum()))
    shift = end[agree] - start[agree]
    disparity = -shift[:, 0]
    size = np.abs(shift[:, 1])
    tolerance = 1.0 + 0.002 * left.shape[1]
    return EpipolarHealth(
        matches=int(agree.sum()),
        median_abs_dy_px=float(np.median(size)),
        p90_abs_dy_px=float(np.percentile(size, 90)),
        median_dy_px=float(np.median(shift[:, 1])),
        behind_fraction=float(np.mean(disparity + doffs_px < -tolerance)),
        behind_if_swapped=float(np.mean(doffs_px - disparity < -tolerance)),
        negative_fraction=float(np.mean(disparity < -tolerance)),
        p98_disparity_px=float(np.percentile(disparity, 98)),
    )


def check_pair(frame: StereoFrame, searched_to_px: float | None = None, max_row_error_px: float = MAX_ROW_ERROR_PX) -> tuple[Finding, ...]:
    """What is wrong with a rectified pair, in sentences; empty when it is healthy. Without a right image only its calibration is judged.

    searched_to_px: the stereo stage's largest disparity.
    """
    doubts = _focal_lengths(frame.rig)
    if frame.right_image is None:
        return doubts
    if np.array_equal(frame.left, frame.right):
        return (Finding("identical", "left and right are the same image: check the paths or topics of the two cameras", fatal=True),)
    health = epipolar_health(frame.left, frame.right, frame.rig.doffs_px)
    return findings(health, searched_to_px, max_row_error_px) + _blocks(frame) + doubts


def _focal_lengths(rig: StereoRig) -> tuple[Finding, ...]:
    if abs(rig.fy / rig.fx - 1.0) <= _SQUARE_PIXELS:
        return ()
    text = f"the calibration says fx = {rig.fx:g} px and fy = {rig.fy:g} px, but the pixels of nearly every camera are square"
    return (Finding("focal", f"{text}; if one is wrong, so are heights and the ground, or all distances: calibrate again", fatal=False),)


def _blocks(frame: StereoFrame) -> tuple[Finding, ...]:
    if max(block_strength(frame.left), block_strength(frame.right)) <= MANY_BLOCKS:
        return ()
    text = "the images show the blocks of hard JPEG compression, which look like objects and mislead the matching"
    return (Finding("blocks", f"{text}; let the cameras compress less (a quality of 80 or more), or not at all", fatal=False),)


def findings(
    health: EpipolarHealth, searched_to_px: float | None = None, max_row_error_px: float = MAX_ROW_ERROR_PX
) -> tuple[Finding, ...]:
    """The sentences for a measured health."""
    if not health.known:
        text = f"only {health.matches} reliable matches between left and right (expected {MIN_MATCHES}): the rectification cannot be judged"
        return (Finding("unknown", f"{text}; show both cameras a scene with texture", fatal=False),)
    # Of an unrectified pair the sign of the disparities says little: the principal points may differ by more than the parallax.
    if health.unrectified(max_row_error_px):
        hint = "; left and right may be swapped, too" if health.swapped else ""
        text = f"the pair is not rectified: {_row_error(health)}, expected at most {max_row_error_px:g} px"
        return (Finding("unrectified", f"{text}; give rectified images, or the raw pair with its full calibration{hint}", fatal=True),)
    result = []
    if health.swapped:
        text = f"left and right are swapped: {health.behind_fraction:.0%} of the matches have an impossible disparity (d + doffs < 0)"
        result.append(Finding("swapped", f"{text}, and hardly one would if the images were exchanged; exchange them", fatal=True))
    elif health.behind_fraction > 0.5:
        text = f"{health.behind_fraction:.0%} of {health.matches} matches lie behind infinity (d + doffs < 0)"
        result.append(
            Finding("behind_infinity", f"{text}: do the calibration's principal points (doffs) belong to these images?", fatal=False)
        )
    elif health.negative_fraction > 0.9:
        # With a large doffs both orders are possible, and only the scene's distance could tell.
        text = f"{health.negative_fraction:.0%} of {health.matches} matches have a negative disparity, which is possible with this doffs"
        result.append(Finding("negative", f"{text} for far scenes only: are left and right swapped?", fatal=False))
    if health.unrectified(min(GOOD_ROW_ERROR_PX, max_row_error_px)):
        text = f"the rows of the pair do not quite match: {_row_error(health)}, good is below {GOOD_ROW_ERROR_PX:g} px"
        result.append(Finding("row_error", f"{text}; calibrate again for accurate distances", fatal=False))
    if searched_to_px is not None and not health.swapped and health.p98_disparity_px > searched_to_px:
        text = f"disparities reach {health.p98_disparity_px:.0f} px but the stereo stage searches to {searched_to_px:.0f} px only"
        result.append(
            Finding("range", f"{text}, so what is near is unknown or wrong: search a larger range, or smaller images", fatal=False)
        )
    return tuple(result)


def _row_error(health: EpipolarHealth) -> str:
    median, most = health.median_abs_dy_px, health.p90_abs_dy_px
    return f"the epipolar error (row difference of {health.matches} matches) is {median:.1f} px in the median and {most:.1f} px at 90 %"


def _grey8(image: np.ndarray, scale: float) -> np.ndarray:
    grey = as_rgb8(image)[..., 0] if image.ndim == 2 else cv2.cvtColor(as_rgb8(image), cv2.COLOR_RGB2GRAY)
    if scale < 1.0:
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(grey)


def matched_points(left: np.ndarray, right: np.ndarray, features: int = _FEATURES[0]) -> tuple[np.ndarray, np.ndarray]:
    """((N, 2), (N, 2)) float32 pixels of (H, W) uint8 images: unambiguous both ways, refined to a fraction of a pixel."""
    detector = cv2.ORB.create(nfeatures=features, fastThreshold=8, nlevels=5)
    points_left, bits_left = detector.detectAndCompute(left, None)
    points_right, bits_right = detector.detectAndCompute(right, None)
    empty = np.zeros((0, 2), np.float32)
    if bits_left is None or bits_right is None or len(points_left) < 2 or len(points_right) < 2:
        return empty, empty
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING)
    near = _plausible(points_left, points_right, left.shape)
    pairs = _unambiguous(matcher.knnMatch(bits_left, bits_right, k=2, mask=near), points_right)
    back = _unambiguous(matcher.knnMatch(bits_right, bits_left, k=2, mask=np.ascontiguousarray(near.T)), points_left)
    mutual = [(i, j) for i, j in pairs.items() if back.get(j) == i]
    if not mutual:
        return empty, empty
    start = np.array([points_left[i].pt for i, _ in mutual], np.float32)
    guess = np.array([points_right[j].pt for _, j in mutual], np.float32)
    return _refined(left, right, start, guess)


def _plausible(points_left, points_right, shape: tuple[int, ...]) -> np.ndarray:
    """(N, M) uint8: pairs that a stereo rig can give, even a badly aligned one; fewer rivals make fewer ambiguous matches."""
    a = np.array([p.pt for p in points_left], np.float32)
    b = np.array([p.pt for p in points_right], np.float32)
    rows = np.abs(a[:, None, 1] - b[None, :, 1]) < _ROW_SEARCH * shape[0]
    return (rows & (np.abs(a[:, None, 0] - b[None, :, 0]) < _COLUMN_SEARCH * shape[1])).astype(np.uint8)


def _unambiguous(candidates, points, ratio: float = 0.8) -> dict[int, int]:
    """Lowe's ratio test; a runner-up at the same place (the next octave) is no rival."""
    chosen = {}
    for pair in candidates:
        if len(pair) < 2:
            continue
        first, second = pair
        a, b = points[first.trainIdx].pt, points[second.trainIdx].pt
        same_place = abs(a[0] - b[0]) + abs(a[1] - b[1]) < 6.0
        if first.distance < 64 and (first.distance < ratio * second.distance or same_place):
            chosen[first.queryIdx] = first.trainIdx
    return chosen


def _refined(left: np.ndarray, right: np.ndarray, start: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lucas-Kanade from the descriptor's match, there and back; what does not come back or strays is dropped."""
    window, flags = (15, 15), cv2.OPTFLOW_USE_INITIAL_FLOW
    end, found, _ = cv2.calcOpticalFlowPyrLK(left, right, start, guess.copy(), winSize=window, maxLevel=0, flags=flags)
    again, found_back, _ = cv2.calcOpticalFlowPyrLK(right, left, end, start.copy(), winSize=window, maxLevel=0, flags=flags)
    good = (found.ravel() == 1) & (found_back.ravel() == 1)
    good &= np.linalg.norm(again - start, axis=1) < 0.5
    good &= np.linalg.norm(end - guess, axis=1) < 8.0
    return start[good], end[good]


def _agreeing(start: np.ndarray, end: np.ndarray, height: int, tolerance_px: float) -> np.ndarray:
    """(N,) bool: matches that fit one row-error model dy = a + b x + c y + e dx, by RANSAC (seeded).

    That is the affine epipolar geometry: exact for weak perspective, and close for the small rotations of a stereo rig.
    """
    count = len(start)
    if count < MIN_MATCHES:
        return np.zeros(count, bool)
    dy = (end - start)[:, 1].astype(np.float64)
    center = start.mean(axis=0)
    design = np.column_stack([np.ones(count), (start - center) / height, (end - start)[:, 0] / height]).astype(np.float64)
    random = np.random.default_rng(0)
    best = np.zeros(count, bool)
    for _ in range(300):
        sample = random.choice(count, 4, replace=False)
        model, *_ = np.linalg.lstsq(design[sample], dy[sample], rcond=None)
        if np.abs(model[1:]).max() > _LARGEST_SLOPE * height:
            continue
        inside = np.abs(design @ model - dy) < tolerance_px
        if inside.sum() > best.sum():
            best = inside
    # Aligned rows need no model: among repeated structures a model can win by chance, and must win clearly.
    aligned = np.abs(dy) < tolerance_px
    if aligned.sum() >= 0.7 * best.sum():
        best = np.abs(dy) < 4 * tolerance_px
    return best if best.sum() >= max(MIN_MATCHES, 0.3 * count) else np.zeros(count, bool)
