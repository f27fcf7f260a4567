"""What is published for readers of vision_msgs, where that package is installed: detections, and the names of mask/class's ids."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import yaml
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from semantic_stereo_ros.msg import ObjectDistanceArray
from semantic_stereo_ros.resources import share_file
from semantic_stereo_ros.types import Scene


def _vision_msgs() -> Any:
    try:
        return importlib.import_module("vision_msgs.msg")
    except ImportError:
        return None


vision = _vision_msgs()
"""The package's messages, or None."""
LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
UNKNOWN_ROTATION_RAD2 = math.pi**2
"""Variance of an angle of which nothing is known."""


def detections_message(scene: Scene, objects: ObjectDistanceArray) -> Any:
    """vision_msgs/Detection3DArray: the objects measured in this frame; predicted and unmeasured ones are in `objects` only.

    objects: the message of the same scene, whose frame the detections are in.

    id: the object's id. The hypothesis is the class's name, at the object's filtered position with its covariance (m^2); of the
    rotation only the box knows, so its variance is that of an unknown angle. An object without a box has one of size zero.
    """
    message = vision.Detection3DArray(header=objects.header)
    for item, told in zip(scene.objects, objects.objects):
        if not item.measured:
            continue
        detection = vision.Detection3D(header=objects.header, id=str(item.object_id))
        result = vision.ObjectHypothesisWithPose()
        result.hypothesis.class_id, result.hypothesis.score = item.class_name, float(item.score)
        result.pose.pose.position = told.position
        covariance = np.diag([0.0] * 3 + [UNKNOWN_ROTATION_RAD2] * 3)
        covariance[:3, :3] = np.reshape(told.position_covariance, (3, 3))
        result.pose.covariance = covariance.ravel()
        if item.box is not None:
            detection.bbox.center, detection.bbox.size = told.box_pose, told.box_size
            result.pose.pose.orientation = told.box_pose.orientation
        else:
            detection.bbox.center.position = told.position
        detection.results = [result]
        message.detections.append(detection)
    return message


def publish_label_info(node: Node) -> Publisher | None:
    """Say once, for everybody who comes, which class each value of mask/class is; None, with a log line, without vision_msgs."""
    if vision is None:
        node.get_logger().info("vision_msgs is not installed: detections_3d and label_info are not published")
        return None
    publisher = node.create_publisher(vision.LabelInfo, "label_info", LATCHED)
    labels = yaml.safe_load(share_file("config/labels.yaml").read_text(encoding="utf-8"))["labels"]
    message = vision.LabelInfo(class_map=[vision.VisionClass(class_id=label["id"], class_name=label["name"]) for label in labels])
    message.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(message)
    return publisher
