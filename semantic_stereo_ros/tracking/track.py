"""One object that is followed: its filter, what its mask looked like, and what is said of it outside."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from semantic_stereo_ros.tracking import filter as kalman
from semantic_stereo_ros.tracking.mask_memory import MaskSamples
from semantic_stereo_ros.types import NAN3, Instance, Measurement, ObjectState, OrientedBox, SceneObject, StereoRig

CLASS_MEMORY = 0.9
"""Each frame's vote for a class fades by this factor, so that a few wrong frames do not rename an object."""

SIZE_MEMORY = 0.98
"""What is left of the largest size after one frame: an object that is cut off for long gets smaller."""


@dataclass(eq=False)
class Track:
    """Mutable, internal. mean (6,) and covariance (6, 6) are in the filter's frame, NaN until the object was measured once.

    object_id: None while tentative. samples: pixels of the last mask, taken when the object stood at anchor_m (camera frame, NaN
    unknown). extent_m, full_m2: largest side and area seen lately. last_box: the last measured box, the position
    measured with it and the rotation then.
    lost_s: time since it should have been found; hidden_s: time without a mask.
    """

    mean: np.ndarray
    covariance: np.ndarray
    first_seen_ns: int
    last_seen_ns: int
    object_id: int | None = None
    hits: int = 0
    state: ObjectState = ObjectState.VISIBLE
    label: int | None = None
    measurement: Measurement | None = None
    source_key: str | None = None
    score: float = 1.0
    votes: dict[tuple[int, str], float] = field(default_factory=dict)
    samples: MaskSamples = field(default_factory=lambda: MaskSamples(np.zeros((0, 2), np.float32), 1.0))
    anchor_m: np.ndarray = field(default_factory=lambda: NAN3)
    extent_m: float = float("nan")
    full_m2: float = float("nan")
    lost_s: float = 0.0
    hidden_s: float = 0.0
    last_box: tuple[OrientedBox, np.ndarray, np.ndarray] | None = None

    @property
    def located(self) -> bool:
        """The object was measured at least once."""
        return bool(np.isfinite(self.mean[0]))

    @property
    def seen(self) -> bool:
        """The object has a mask in the newest frame."""
        return self.label is not None

    @property
    def class_of(self) -> tuple[int, str]:
        return max(self.votes, key=lambda key: self.votes[key])

    def note_instance(self, instance: Instance, measurement: Measurement, stamp_ns: int) -> None:
        """Take over what a matched instance says besides its position."""
        self.hits += 1
        self.label = instance.label
        self.measurement = measurement
        self.source_key = instance.source_key
        self.score = instance.score
        self.last_seen_ns = stamp_ns
        self.lost_s = self.hidden_s = 0.0
        self.state = ObjectState.VISIBLE if measurement.known else ObjectState.UNMEASURED
        self.votes = {key: vote * CLASS_MEMORY for key, vote in self.votes.items() if vote > 1e-3}
        key = (instance.class_id, instance.class_name)
        self.votes[key] = self.votes.get(key, 0.0) + max(instance.score, 1e-3)

    def note_size(self, measurement: Measurement, rig: StereoRig) -> None:
        """The size as far as it was seen whole: the largest, slowly forgotten."""
        self.extent_m = float(np.fmax(extent_of(measurement, rig), SIZE_MEMORY * self.extent_m))
        self.full_m2 = float(np.fmax(area_of(measurement, rig), SIZE_MEMORY * self.full_m2))

    def note_box(self, box: OrientedBox, position_m: np.ndarray, rotation: np.ndarray) -> None:
        """Keep a measured box (camera frame) for the frames without one; `rotation` turns camera axes into the filter's."""
        self.last_box = (box, position_m, rotation)

    def predicted_box(self, position_m: np.ndarray, rotation: np.ndarray) -> OrientedBox | None:
        """The last box carried to the predicted position, camera frame; in the filter's frame it does not turn."""
        if self.last_box is None or not self.located:
            return None
        box, measured_at_m, rotation_then = self.last_box
        turn = rotation.T @ rotation_then
        return OrientedBox(
            center_m=position_m + turn @ (box.center_m - measured_at_m),
            size_m=box.size_m,
            orientation_xyzw=turned(box.orientation_xyzw, turn),
        )

    def predicted(self, mean: np.ndarray, covariance: np.ndarray) -> Track:
        """A copy for a frame without masks, with its filter at that frame's stamp."""
        state = ObjectState.PREDICTED if self.seen else self.state
        return replace(self, mean=mean, covariance=covariance, state=state, label=None, measurement=None)

    def scene_object(self, pose: np.ndarray | None) -> SceneObject:
        """What is published, camera frame. pose: camera -> filter's frame, None where they are the same."""
        rotation = np.eye(3) if pose is None else pose[:3, :3]
        translation = np.zeros(3) if pose is None else pose[:3, 3]
        mean, covariance = kalman.moved(self.mean[None], self.covariance[None], rotation.T, -(rotation.T @ translation))
        position = mean[0, :3]
        measured_box = self.measurement.box if self.measurement is not None else None
        class_id, class_name = self.class_of
        assert self.object_id is not None
        return SceneObject(
            object_id=self.object_id,
            state=self.state,
            class_id=class_id,
            class_name=class_name,
            score=self.score,
            label=self.label,
            measurement=self.measurement,
            position_m=position,
            position_covariance_m2=covariance[0, :3, :3],
            velocity_mps=mean[0, 3:],
            velocity_covariance=covariance[0, 3:, 3:],
            velocity_frame="camera" if pose is None else "world",
            first_seen_ns=self.first_seen_ns,
            last_seen_ns=self.last_seen_ns,
            box=measured_box if measured_box is not None else self.predicted_box(position, rotation),
        )


def area_of(measurement: Measurement, rig: StereoRig) -> float:
    """The mask's area at the object's depth, m^2."""
    return measurement.pixels * measurement.depth_m**2 / (rig.fx * rig.fy)


def extent_of(measurement: Measurement, rig: StereoRig) -> float:
    """The larger side of the object as seen in the image, m."""
    x_min, y_min, x_max, y_max = measurement.box_xyxy
    return max((x_max - x_min) / rig.fx, (y_max - y_min) / rig.fy) * measurement.depth_m


def turned(orientation_xyzw: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """The (4,) quaternion x, y, z, w of an attitude after a further turn by the (3, 3) `rotation`."""
    from scipy.spatial.transform import Rotation

    return (Rotation.from_matrix(rotation) * Rotation.from_quat(orientation_xyzw)).as_quat()
