"""What flows between the stages: StereoFrame -> Disparity -> Segmentation -> Measurement -> SceneObject -> Scene.

Frames of reference: `camera` is the rectified LEFT optical frame of REP-103 (x right, y down, z forward), in metres;
`world` is whatever frame `StereoFrame.pose_world_camera` maps to. Arrays are indexed [row, column]; sizes are
(width, height); boxes are (x_min, y_min, x_max, y_max) in pixels with the maximum exclusive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

import numpy as np

from semantic_stereo_ros.cameras import PinholeCamera
from semantic_stereo_ros.checks import CalibrationError, ImageError, check_array, check_finite


@dataclass(frozen=True)
class StereoRig:
    """A rectified stereo pair: Z = fx * baseline_m / (d + doffs_px) with d = x_left - x_right.

    fx, fy, cx, cy are the left camera's, in px; doffs_px = cx_right - cx_left (Middlebury's doffs).
    disparity_hint_px: the least and the largest disparity that the calibration's maker expects, where he says so; no part of equality.
    Raises CalibrationError for values that are not finite or not positive where they must be.
    """

    size_wh: tuple[int, int]
    fx: float
    fy: float
    cx: float
    cy: float
    baseline_m: float
    doffs_px: float = 0.0
    disparity_hint_px: tuple[float, float] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        left = PinholeCamera(self.size_wh, self.fx, self.fy, self.cx, self.cy)
        for name in ("size_wh", "fx", "fy", "cx", "cy"):
            object.__setattr__(self, name, getattr(left, name))
        object.__setattr__(self, "doffs_px", check_finite("doffs_px (px)", self.doffs_px))
        baseline = check_finite("the stereo baseline (m)", self.baseline_m)
        if baseline <= 0:
            raise CalibrationError(
                f"the stereo baseline must be above zero, got {baseline:g} m: the right camera's P[3] must be -fx * baseline; "
                "a zero or negative one means that the two infos are equal, swapped, or lack Tx"
            )
        object.__setattr__(self, "baseline_m", baseline)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return self.size_wh[1], self.size_wh[0]

    @property
    def cx_right(self) -> float:
        """Principal point of the right camera, px."""
        return self.cx + self.doffs_px

    @property
    def bf(self) -> float:
        """fx * baseline_m, px*m: Z = bf / (d + doffs_px)."""
        return self.fx * self.baseline_m

    @property
    def left_camera(self) -> PinholeCamera:
        """The left camera alone."""
        return PinholeCamera(self.size_wh, self.fx, self.fy, self.cx, self.cy)

    @property
    def matrix(self) -> np.ndarray:
        """3x3 float64 intrinsic matrix of the left camera."""
        return self.left_camera.matrix

    def resized(self, size_wh: tuple[int, int]) -> StereoRig:
        """The rig of images resized to `size_wh` (pixel centres at integers, as cv2.resize). Disparities scale with x."""
        sx, sy = size_wh[0] / self.size_wh[0], size_wh[1] / self.size_wh[1]
        return StereoRig(
            size_wh=size_wh,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
            baseline_m=self.baseline_m,
            doffs_px=self.doffs_px * sx,
            disparity_hint_px=None if self.disparity_hint_px is None else (self.disparity_hint_px[0] * sx, self.disparity_hint_px[1] * sx),
        )


@dataclass(frozen=True, eq=False)
class Measured:
    """What the camera itself measured, in the left image's pixels: a disparity or a depth, never both.

    disparity_px: (H, W) float32, raw x_left - x_right. depth_m: (H, W) float32, Z (not range). NaN = unknown in both.
    confidence: (H, W) float32 in 0..1, larger is better, or None when the camera gives none.
    Raises ImageError for neither or both, a wrong dtype, or a confidence of another shape.
    """

    disparity_px: np.ndarray | None = None
    depth_m: np.ndarray | None = None
    confidence: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.disparity_px is None) == (self.depth_m is None):
            raise ImageError("a camera's own measurement must be either a disparity or a depth, got both or neither")
        check_array(f"the given {self.kind}", self.values, shape=(None, None), dtypes=(np.float32,))
        if self.confidence is not None:
            check_array("the given confidence", self.confidence, shape=self.values.shape, dtypes=(np.float32,))

    @property
    def kind(self) -> str:
        """'disparity' or 'depth'."""
        return "depth" if self.disparity_px is None else "disparity"

    @property
    def values(self) -> np.ndarray:
        """The map that is there: px of a disparity, m of a depth."""
        values = self.depth_m if self.disparity_px is None else self.disparity_px
        assert values is not None
        return values


@dataclass(frozen=True, eq=False)
class StereoFrame:
    """One rectified, synchronised pair; or a left image with what the camera measured itself.

    left, right_image: uint8 or uint16, (H, W) grey or (H, W, 3) RGB, same shape and dtype, size of the rig. right_image is None only
    beside `measured`; reading `right` then raises. stamp_ns: the left image's stamp.
    pose_world_camera: 4x4 float64, camera to world, or None when unknown. measured: of the left image's size, or None.
    Raises ImageError when the images do not fit each other or the rig.
    """

    left: np.ndarray
    right_image: np.ndarray | None
    rig: StereoRig
    stamp_ns: int = 0
    pose_world_camera: np.ndarray | None = None
    measured: Measured | None = None

    def __post_init__(self) -> None:
        _check_image("left image", self.left)
        if self.right_image is not None:
            _check_image("right image", self.right_image)
            if self.left.shape != self.right_image.shape:
                raise ImageError(f"left and right images must have one shape, got {self.left.shape} and {self.right_image.shape}")
            if self.left.dtype != self.right_image.dtype:
                raise ImageError(f"left and right images must have one dtype, got {self.left.dtype} and {self.right_image.dtype}")
        elif self.measured is None:
            raise ImageError("a frame needs a right image, or a disparity or depth that the camera measured: got neither")
        if self.left.shape[:2] != self.rig.shape:
            height, width = self.left.shape[:2]
            raise ImageError(
                f"the images are {width}x{height} but the calibration is for {self.rig.size_wh[0]}x{self.rig.size_wh[1]}: "
                "use the calibration of this resolution, or resize the images to it"
            )
        if self.measured is not None and self.measured.values.shape != self.rig.shape:
            height, width = self.measured.values.shape
            raise ImageError(
                f"the {self.measured.kind} is {width}x{height} but the left image {self.rig.size_wh[0]}x{self.rig.size_wh[1]}: it must "
                "be given for the left image's pixels; let the camera's driver align it to that image"
            )
        if self.pose_world_camera is not None:
            check_array("pose_world_camera", self.pose_world_camera, shape=(4, 4))

    @property
    def right(self) -> np.ndarray:
        """The right image. Raises ImageError where the frame has none."""
        if self.right_image is None:
            raise ImageError(
                "this frame has no right image, only what the camera measured itself: use stereo.backend external, or give the right image"
            )
        return self.right_image

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.left.shape[0], self.left.shape[1]

    def as_rgb8(self) -> np.ndarray:
        """The left image as (H, W, 3) uint8 RGB for networks and display; 16-bit is tone-mapped to its 0.5..99.5 % range."""
        return as_rgb8(self.left)


def _check_image(name: str, image: np.ndarray) -> None:
    check_array(name, image, dtypes=(np.uint8, np.uint16))
    if image.size == 0:
        raise ImageError(f"{name} is empty, shape {image.shape}")
    if image.ndim != 2 and not (image.ndim == 3 and image.shape[2] == 3):
        raise ImageError(f"{name} must be (H, W) grey or (H, W, 3) RGB, got shape {image.shape}")


def as_rgb8(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 or uint16 -> (H, W, 3) uint8; a 16-bit image is stretched from its 0.5 to its 99.5 percentile."""
    if image.dtype == np.uint16:
        low, high = np.percentile(image[::4, ::4], (0.5, 99.5))
        image = np.clip((image.astype(np.float32) - low) * (255.0 / max(high - low, 1.0)), 0, 255).astype(np.uint8)
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    return image


MIN_KNOWN_FRACTION = 0.05


@dataclass(frozen=True, eq=False)
class Disparity:
    """Result of the stereo stage, in the left image's pixels.

    disparity_px: (H, W) float32, raw x_left - x_right, NaN = unknown (never a guess).
    sigma_px: (H, W) float32, standard deviation of disparity_px; NaN exactly where disparity_px is.
    confidence: (H, W) float32 in 0..1; 0 where disparity_px is NaN.
    min_px, max_px: the searched range; rig: the rig of these pixels.
    beyond: (H, W) bool, unknown pixels where something nearer than the searched range is seen (nearer than bf / (max_px + doffs)), or
    None where the backend cannot tell. False says nothing.
    row_error_px: how far the rows of the pair are apart (geometry.row_watch), which tells how well the rig is calibrated; None = unknown.
    """

    disparity_px: np.ndarray
    sigma_px: np.ndarray
    confidence: np.ndarray
    rig: StereoRig
    min_px: float = 0.0
    max_px: float = 128.0
    beyond: np.ndarray | None = None
    row_error_px: float | None = None

    def __post_init__(self) -> None:
        for name in ("disparity_px", "sigma_px", "confidence"):
            check_array(name, getattr(self, name), shape=self.rig.shape, dtypes=(np.float32,))
        if self.beyond is not None:
            check_array("beyond", self.beyond, shape=self.rig.shape, dtypes=(np.bool_,))

    @property
    def valid(self) -> np.ndarray:
        """(H, W) bool: disparity known and in front of the camera."""
        return self.disparity_px + self.rig.doffs_px > 0

    @property
    def searched_to_px(self) -> float | None:
        """The end of the searched range where nobody looks beyond it; None where the backend does (`beyond`), and says so."""
        return self.max_px if self.beyond is None else None

    @property
    def known_fraction(self) -> float:
        """Share of the pixels that are valid, 0..1."""
        return float(np.count_nonzero(self.valid)) / self.disparity_px.size

    def can_tell(self) -> bool:
        """Whether enough of the view is known for 'nothing is there' to be an answer: MIN_KNOWN_FRACTION of the pixels."""
        return self.known_fraction >= MIN_KNOWN_FRACTION


@dataclass(frozen=True, eq=False)
class GroundPlane:
    """normal . X + offset_m = height of X above the ground, in m; camera frame, normal (3,) float64 of unit length points up.

    sigma_m: spread of the inliers' heights at the plane, m.
    """

    normal: np.ndarray
    offset_m: float
    sigma_m: float


CLASS_STRUCTURE = 3
LEVEL_STRUCTURE = "structure"


@dataclass(frozen=True)
class Instance:
    """One segmented instance. label: 1..N in layers[layer].labels, local to the frame.

    parent: label of the instance in the layer above that contains it, or None. source_key: the backend's own stable id,
    or None. class_id, class_name: see config/labels.yaml. score: 0..1, the backend's belief that this is one object.
    """

    label: int
    layer: int = 0
    parent: int | None = None
    source_key: str | None = None
    class_id: int = 2
    class_name: str = "object"
    score: float = 1.0


@dataclass(frozen=True, eq=False)
class LabelLayer:
    """One level of masks. labels: (H, W) uint16, 0 = background, 1..N = Instance.label. level: 'object', 'part', 'group', 'structure'."""

    labels: np.ndarray
    level: str = "object"

    def __post_init__(self) -> None:
        check_array("labels", self.labels, shape=(None, None), dtypes=(np.uint16,))


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Result of the segmentation stage. The layer whose level is 'object' (the first otherwise) feeds the distances; 'structure' holds what
    stands in the way but is too large for an object.

    instances: one record per label of every layer. ground: the ground plane when the backend found one.
    """

    layers: tuple[LabelLayer, ...]
    instances: tuple[Instance, ...]
    ground: GroundPlane | None = None

    @property
    def object_layer(self) -> int:
        """Index of the layer that feeds the distances."""
        return next((i for i, layer in enumerate(self.layers) if layer.level == "object"), 0)

    @property
    def labels(self) -> np.ndarray:
        """(H, W) uint16 labels of the object layer."""
        return self.layers[self.object_layer].labels

    @cached_property
    def object_instances(self) -> tuple[Instance, ...]:
        """Records of the object layer, in order of label."""
        layer = self.object_layer
        return tuple(sorted((i for i in self.instances if i.layer == layer), key=lambda i: i.label))

    @property
    def structures(self) -> np.ndarray | None:
        """(H, W) uint16 labels of the structures, or None where there are none."""
        return next((layer.labels for layer in self.layers if layer.level == LEVEL_STRUCTURE), None)

    @staticmethod
    def from_labels(labels: np.ndarray, ground: GroundPlane | None = None) -> Segmentation:
        """A segmentation from a given (H, W) instance-id image of any integer dtype; ids are kept as source_key 'id:<n>'.

        Ids are renumbered 1..N in order; 0 is background. Raises ImageError for non-integer or negative ids, or more than 65535.
        """
        check_array("labels", labels, shape=(None, None))
        if not np.issubdtype(labels.dtype, np.integer):
            raise ImageError(f"instance ids must be integers, got {labels.dtype}")
        ids, inverse = np.unique(labels, return_inverse=True)
        if ids.size and ids[0] < 0:
            raise ImageError(f"instance ids must not be negative, got {ids[0]}")
        if ids.size and ids[0] != 0:
            ids, inverse = np.concatenate([[0], ids]), inverse + 1
        if ids.size > 65536:
            raise ImageError(f"at most 65535 instances fit a label image, got {ids.size - 1}")
        layer = LabelLayer(inverse.reshape(labels.shape).astype(np.uint16))
        instances = tuple(Instance(label=i, source_key=f"id:{int(n)}") for i, n in enumerate(ids) if n != 0)
        return Segmentation(layers=(layer,), instances=instances, ground=ground)


@dataclass(frozen=True, eq=False)
class OrientedBox:
    """center_m (3,), size_m (3,) along the box's axes, orientation_xyzw (4,) quaternion box -> camera. float64."""

    center_m: np.ndarray
    size_m: np.ndarray
    orientation_xyzw: np.ndarray


NAN3 = np.full(3, np.nan)
NAN33 = np.full((3, 3), np.nan)


@dataclass(frozen=True, eq=False)
class Measurement:
    """What one frame says of one instance, camera frame.

    depth_m: median Z. position_m (3,): component-wise median of its visible points (a surface, not a centroid) with
    position_covariance_m2 (3, 3). distance_m: Euclidean norm of the position. nearest_m: 5th percentile of the range.
    *_sigma_m: standard deviations. valid_fraction: share of its pixels with a known disparity, estimated from some hundreds of them when
    there are more. box_xyxy: image box, px.
    With too few valid pixels, or a sigma above a third of the distance, every number is NaN and `reason` says why; '' = good.
    """

    label: int
    pixels: int
    valid_fraction: float
    box_xyxy: tuple[int, int, int, int]
    depth_m: float = float("nan")
    depth_sigma_m: float = float("nan")
    distance_m: float = float("nan")
    distance_sigma_m: float = float("nan")
    nearest_m: float = float("nan")
    nearest_sigma_m: float = float("nan")
    position_m: np.ndarray = field(default_factory=lambda: NAN3)
    position_covariance_m2: np.ndarray = field(default_factory=lambda: NAN33)
    box: OrientedBox | None = None
    reason: str = ""

    @property
    def known(self) -> bool:
        """True when the numbers are numbers."""
        return not self.reason


class ObjectState(IntEnum):
    """VISIBLE: measured now. UNMEASURED: seen now, distance unknown ('cannot tell'). OCCLUDED: predicted, something
    nearer stands before it. LOST: predicted, not found where it should be seen. PREDICTED: was seen in the last frame that had masks;
    this one has none (segmentation.every_n, max_rate_hz)."""

    VISIBLE = 0
    OCCLUDED = 1
    LOST = 2
    UNMEASURED = 3
    PREDICTED = 4


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One tracked object at the frame's stamp. object_id is never reused before a reset.

    measurement: of this frame, or None when it has no mask now (OCCLUDED, LOST). position_m, position_covariance_m2: the filter's,
    camera frame. velocity_mps (3,) with covariance: camera axes; relative to the world when velocity_frame is 'world',
    to the moving camera when it is 'camera'. label: its label in the segmentation, or None.
    The properties depth_m, distance_m, nearest_m and their sigmas are this frame's measurement where there is one, else the prediction.
    """

    object_id: int
    state: ObjectState
    class_id: int
    class_name: str
    score: float
    label: int | None
    measurement: Measurement | None
    position_m: np.ndarray
    position_covariance_m2: np.ndarray
    velocity_mps: np.ndarray
    velocity_covariance: np.ndarray
    velocity_frame: str
    first_seen_ns: int
    last_seen_ns: int
    box: OrientedBox | None = None

    @property
    def measured(self) -> bool:
        return self.measurement is not None and self.measurement.known

    @property
    def depth_m(self) -> float:
        return self.measurement.depth_m if self.measurement is not None else float(self.position_m[2])

    @property
    def depth_sigma_m(self) -> float:
        if self.measurement is not None:
            return self.measurement.depth_sigma_m
        return float(np.sqrt(self.position_covariance_m2[2, 2]))

    @property
    def distance_m(self) -> float:
        return self.measurement.distance_m if self.measurement is not None else float(np.linalg.norm(self.position_m))

    @property
    def distance_sigma_m(self) -> float:
        if self.measurement is not None:
            return self.measurement.distance_sigma_m
        distance = float(np.linalg.norm(self.position_m))
        if not distance > 0:
            return float("nan")
        direction = self.position_m / distance
        return float(np.sqrt(direction @ self.position_covariance_m2 @ direction))

    @property
    def nearest_m(self) -> float:
        return self.measurement.nearest_m if self.measurement is not None else float("nan")

    @property
    def nearest_sigma_m(self) -> float:
        return self.measurement.nearest_sigma_m if self.measurement is not None else float("nan")


@dataclass(frozen=True, eq=False)
class LabeledCloud:
    """Organised cloud, camera frame. xyz: (h, w, 3) float32 m, NaN unknown; rgb: (h, w, 3) uint8; class_id: (h, w) uint8;
    instance: (h, w) uint32 object ids (0 none); confidence: (h, w) float32. Pixel [r, c] is image pixel [r*stride, c*stride]."""

    xyz: np.ndarray
    rgb: np.ndarray
    class_id: np.ndarray
    instance: np.ndarray
    confidence: np.ndarray
    stride: int = 1


@dataclass(frozen=True)
class HiddenSpace:
    """An object `size_m` wide and high could stand unseen. unknown_share: of the view's pixels, 0..1. place: where, for a sentence."""

    unknown_share: float
    place: str
    size_m: float

    def __str__(self) -> str:
        return f"{self.unknown_share:.0%} of the view is unknown, enough {self.place} to hide an object of {self.size_m:g} m"


class SceneStatus(IntEnum):
    """OK: the list of objects (maybe predicted ones only) is an answer; Scene.reason says what is unknown beside them. NO_OBJECTS: the view
    was measured, holds none and could hide none. CANNOT_TELL: no object is seen, but one could stand in what is unknown; or too little of
    the view could be measured to say anything. Scene.reason says why."""

    OK = 0
    NO_OBJECTS = 1
    CANNOT_TELL = 2


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything one frame gave. timings_s: wall seconds per stage name. hidden: where something could stand unseen, or None."""

    frame: StereoFrame
    disparity: Disparity
    segmentation: Segmentation
    objects: tuple[SceneObject, ...]
    status: SceneStatus
    reason: str = ""
    timings_s: Mapping[str, float] = dataclasses.field(default_factory=dict)
    hidden: HiddenSpace | None = None
