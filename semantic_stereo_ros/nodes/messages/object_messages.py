"""A Scene as the package's own messages and as markers for RViz."""

from __future__ import annotations

import math

import numpy as np
from geometry_msgs.msg import Point, Pose, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from semantic_stereo_ros.fusion.label_statistics import label_runs
from semantic_stereo_ros.io.overlay import id_color, label_lines
from semantic_stereo_ros.msg import InstanceMasks, InstanceRecord, MaskLayer, ObjectDistance, ObjectDistanceArray
from semantic_stereo_ros.nodes.messages.conversions import array_to_image, ns_to_stamp
from semantic_stereo_ros.types import LabelLayer, ObjectState, Scene, SceneObject, Segmentation

NAN = float("nan")
TEXT_HEIGHT_M = 0.18
_EVERY_LABEL = np.arange(1, 1 << 16)


def objects_message(scene: Scene, header: Header) -> ObjectDistanceArray:
    """The answer for one frame."""
    message = ObjectDistanceArray(header=header, status=int(scene.status), reason=scene.reason)
    message.objects = [_object(item) for item in scene.objects]
    return message


def _object(item: SceneObject) -> ObjectDistance:
    measurement = item.measurement
    message = ObjectDistance(object_id=item.object_id, state=int(item.state), class_id=item.class_id, class_name=item.class_name)
    message.score = float(item.score)
    message.label = item.label or 0
    if measurement is not None:
        message.reason = measurement.reason
        message.box_xyxy = np.asarray(measurement.box_xyxy, np.int32)
        message.pixels = int(measurement.pixels)
        message.valid_fraction = float(measurement.valid_fraction)
    for name in ("depth_m", "depth_sigma_m", "distance_m", "distance_sigma_m", "nearest_m", "nearest_sigma_m"):
        setattr(message, name, float(getattr(item, name)))
    message.position = _point(item.position_m)
    message.position_covariance = np.asarray(item.position_covariance_m2, np.float64).reshape(9)
    message.box_pose, message.box_size = _box(item)
    message.velocity = _vector(item.velocity_mps)
    message.velocity_covariance = np.asarray(item.velocity_covariance, np.float64).reshape(9)
    message.velocity_frame = item.velocity_frame
    message.first_seen = ns_to_stamp(item.first_seen_ns)
    message.last_seen = ns_to_stamp(item.last_seen_ns)
    return message


def _box(item: SceneObject) -> tuple[Pose, Vector3]:
    pose = Pose()
    if item.box is None:
        pose.position = _point((NAN, NAN, NAN))
        orientation = (NAN, NAN, NAN, NAN)
        size = _vector((NAN, NAN, NAN))
    else:
        pose.position = _point(item.box.center_m)
        orientation = item.box.orientation_xyzw
        size = _vector(item.box.size_m)
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = (float(v) for v in orientation)
    return pose, size


def _point(xyz) -> Point:
    return Point(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def _vector(xyz) -> Vector3:
    return Vector3(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def masks_message(segmentation: Segmentation, header: Header) -> InstanceMasks:
    """Label images of every layer (mono16) with one record per instance; boxes are of the masks, maxima exclusive.

    The ground plane comes along, NaN where there is none. scene_messages.message_to_segmentation is the way back.
    """
    message = InstanceMasks(header=header)
    ground = segmentation.ground
    message.ground_plane = np.full(4, NAN) if ground is None else np.append(np.asarray(ground.normal, np.float64), ground.offset_m)
    message.ground_sigma_m = NAN if ground is None else float(ground.sigma_m)
    message.layers = [MaskLayer(level=layer.level, labels=array_to_image(layer.labels, header)) for layer in segmentation.layers]
    boxes = [_boxes(layer) for layer in segmentation.layers]
    for item in segmentation.instances:
        record = InstanceRecord(label=item.label, layer=item.layer, parent=item.parent or 0, class_id=item.class_id)
        record.source_key = item.source_key or ""
        record.class_name = item.class_name
        record.score = float(item.score)
        record.box_xyxy = np.asarray(boxes[item.layer].get(item.label, (0, 0, 0, 0)), np.int32)
        message.instances.append(record)
    return message


def _boxes(layer: LabelLayer) -> dict[int, np.ndarray]:
    """label -> box_xyxy of every label, in one pass over the pixels."""
    runs = label_runs(np.ascontiguousarray(layer.labels), _EVERY_LABEL)
    return dict(zip(runs.label.tolist(), runs.box_xyxy))


def marker_array(scene: Scene, header: Header) -> MarkerArray:
    """Boxes, labels and velocities; the first marker deletes those of the frame before. Predicted objects are faint."""
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for item in scene.objects:
        if not np.isfinite(item.position_m).all():
            continue
        red, green, blue = (channel / 255.0 for channel in id_color(item.object_id))
        faint = item.state in (ObjectState.OCCLUDED, ObjectState.LOST, ObjectState.PREDICTED)
        color = ColorRGBA(r=red, g=green, b=blue, a=0.15 if faint else 0.4)
        if item.box is not None:
            box = _marker(header, "boxes", item.object_id, Marker.CUBE, color)
            box.pose, box.scale = _box(item)
            box.scale = _vector([max(v, 0.01) for v in (box.scale.x, box.scale.y, box.scale.z)])
            markers.append(box)
        text = _marker(header, "labels", item.object_id, Marker.TEXT_VIEW_FACING, ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0))
        text.pose.position = _point(item.position_m)
        text.scale.z = TEXT_HEIGHT_M
        text.text = "\n".join(label_lines(item))
        markers.append(text)
        speed = float(np.linalg.norm(item.velocity_mps))
        if math.isfinite(speed) and speed > 2.0 * math.sqrt(max(float(np.trace(item.velocity_covariance)) / 3.0, 0.0)):
            arrow = _marker(header, "velocities", item.object_id, Marker.ARROW, ColorRGBA(r=red, g=green, b=blue, a=1.0))
            arrow.points = [_point(item.position_m), _point(np.asarray(item.position_m) + item.velocity_mps)]
            arrow.scale = Vector3(x=0.03, y=0.06, z=0.08)
            markers.append(arrow)
    return MarkerArray(markers=markers)


def _marker(header: Header, namespace: str, number: int, kind: int, color: ColorRGBA) -> Marker:
    marker = Marker(header=header, ns=namespace, id=number, type=kind, action=Marker.ADD, color=color)
    marker.pose.orientation.w = 1.0
    return marker
