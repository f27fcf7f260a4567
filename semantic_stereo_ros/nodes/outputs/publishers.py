"""The table of what is published, by the stage that makes it. A topic nobody subscribes to is not computed.

pipeline_node publishes OUTPUTS; stereo_node, segmentation_node and fusion_node those of their stage, and stereo_node the HANDOVERS too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from stereo_msgs.msg import DisparityImage
from visualization_msgs.msg import MarkerArray

from semantic_stereo_ros.fusion.assemble import class_image, clearing_points, labeled_cloud, obstacle_points
from semantic_stereo_ros.geometry.depth import disparity_to_depth
from semantic_stereo_ros.io.overlay import draw_scene
from semantic_stereo_ros.msg import InstanceMasks, ObjectDistanceArray
from semantic_stereo_ros.nodes.health.qos_watch import SubscriberWatch
from semantic_stereo_ros.nodes.messages.conversions import (
    array_to_image,
    cloud_to_message,
    depth_to_image,
    disparity_to_message,
    make_header,
    rig_to_infos,
    xyz_to_cloud,
)
from semantic_stereo_ros.nodes.messages.object_messages import marker_array, masks_message, objects_message
from semantic_stereo_ros.nodes.outputs import vision_outputs
from semantic_stereo_ros.nodes.outputs.target_frame import Placement, TargetFrame
from semantic_stereo_ros.nodes.runtime.node_options import OutputConfig
from semantic_stereo_ros.nodes.runtime.qos import PUBLISHER_OVERRIDES, own
from semantic_stereo_ros.nodes.runtime.transforms import FrameTransforms
from semantic_stereo_ros.types import Disparity, LabeledCloud, Scene, SceneStatus, Segmentation, StereoFrame

RELIABLE_NEWEST = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)


@dataclass(frozen=True, eq=False)
class PartialScene:
    """What a node that runs one stage has of a Scene; the topics of its stage read no more."""

    frame: StereoFrame
    disparity: Disparity | None = None
    segmentation: Segmentation | None = None


class View:
    """One scene on its way out; what several topics need is computed once."""

    def __init__(self, scene: Scene | PartialScene, header: Header, config: OutputConfig, target_frame: TargetFrame | None = None) -> None:
        self.scene: Any = scene
        self.header = header
        self.config = config
        self._target_frame = target_frame

    @cached_property
    def placement(self) -> Placement:
        """Where objects and clouds go: output.target_frame, or the camera's frame where nobody knows transforms. Raises TransformError."""
        if self._target_frame is None:
            return Placement(self.header)
        return self._target_frame.place(self.config.target_frame, self.header)

    @cached_property
    def objects(self) -> ObjectDistanceArray:
        return self.placement.objects(objects_message(self.scene, self.header))

    @cached_property
    def depth_m(self) -> np.ndarray:
        return disparity_to_depth(self.scene.disparity.disparity_px, self.scene.disparity.rig)

    @cached_property
    def cloud(self) -> LabeledCloud:
        scene, stride = self.scene, self.config.stride
        return labeled_cloud(scene.frame, scene.disparity, scene.segmentation, scene.objects, stride=stride, z_far_m=self.z_far_m)

    @property
    def class_image(self) -> np.ndarray:
        """The classes of `points`, for the same pixels, whether or not anybody asked for the cloud."""
        return class_image(self.scene.disparity, self.scene.segmentation, self.scene.objects, stride=self.config.stride)

    @property
    def z_far_m(self) -> float | None:
        return self.config.z_far_m or None

    def strided(self, array: np.ndarray) -> np.ndarray:
        return array[:: self.config.stride, :: self.config.stride]


def _obstacles(view: View) -> PointCloud2 | None:
    """Empty when nothing is there, withheld when that cannot be told: an empty cloud would say 'free'."""
    points = obstacle_points(
        view.scene.disparity,
        view.scene.segmentation,
        view.config,
        z_far_m=view.z_far_m,
        hidden=view.scene.hidden,
    )
    return None if points is None else xyz_to_cloud(view.placement.points(points), view.placement.header)


def _clearing(view: View) -> PointCloud2 | None:
    """Withheld when nothing can be told: what is seen then may be what stands behind."""
    if view.scene.status == SceneStatus.CANNOT_TELL:
        return None
    points = clearing_points(view.scene.disparity, z_far_m=view.z_far_m)
    return None if points is None else xyz_to_cloud(view.placement.points(points), view.placement.header)


def _points(view: View) -> PointCloud2:
    return cloud_to_message(replace(view.cloud, xyz=view.placement.points(view.cloud.xyz)), view.placement.header)


@dataclass(frozen=True)
class Output:
    """topic (relative), message type, and what makes the message of a View; None = nothing to say now.

    stage: whose result it shows. needs: parts (see joined_inputs.PARTS) that it reads beside the disparity and the masks.
    """

    topic: str
    kind: type
    make: Callable[[View], Any]
    stage: str = "fusion"
    needs: frozenset[str] = frozenset()


# In order of publication: the answer first, what is large or for people last.
OUTPUTS = (
    Output("objects", ObjectDistanceArray, lambda v: v.objects),
    Output("obstacles", PointCloud2, _obstacles),
    Output("clearing", PointCloud2, _clearing),
    Output("masks", InstanceMasks, lambda v: masks_message(v.scene.segmentation, v.header), "segmentation"),
    Output("mask/class", Image, lambda v: array_to_image(v.class_image, v.header)),
    Output("disparity", DisparityImage, lambda v: disparity_to_message(v.scene.disparity, v.header), "stereo"),
    Output("disparity_sigma", Image, lambda v: array_to_image(v.scene.disparity.sigma_px, v.header), "stereo"),
    Output("confidence", Image, lambda v: array_to_image(v.strided(v.scene.disparity.confidence), v.header), "stereo"),
    Output("depth/image_rect", Image, lambda v: depth_to_image(v.depth_m, v.header, v.config.depth_encoding), "stereo"),
    Output("depth/camera_info", CameraInfo, lambda v: rig_to_infos(v.scene.frame.rig, v.header)[0], "stereo"),
    Output("points", PointCloud2, _points, needs=frozenset({"left", "confidence"})),
    Output("markers", MarkerArray, lambda v: marker_array(v.scene, v.header)),
    Output("overlay", Image, lambda v: array_to_image(draw_scene(v.scene), v.header), needs=frozenset({"left"})),
)


# Of message types that need not be installed.
OPTIONAL_OUTPUTS = ()
if (vision := vision_outputs.vision) is not None:
    OPTIONAL_OUTPUTS = (Output("detections_3d", vision.Detection3DArray, lambda v: vision_outputs.detections_message(v.scene, v.objects)),)

# What stereo_node hands to the nodes after it, besides its OUTPUTS. The frames it takes are announced before they are matched, so that
# every node works on the same ones, rectified and decoded once; the confidence is whole where `confidence` has output.stride.
HANDOVERS = (
    Output("stereo/left/camera_info", CameraInfo, lambda v: rig_to_infos(v.scene.frame.rig, v.header)[0], "announcement"),
    Output("stereo/right/camera_info", CameraInfo, lambda v: rig_to_infos(v.scene.frame.rig, v.header)[1], "announcement"),
    Output("stereo/left/image_rect", Image, lambda v: array_to_image(v.scene.frame.left, v.header), "announcement"),
    Output("stereo/confidence", Image, lambda v: array_to_image(v.scene.disparity.confidence, v.header), "stereo"),
)


def outputs_of(stage: str) -> tuple[Output, ...]:
    """The outputs and handovers that one stage makes."""
    return tuple(output for output in (*HANDOVERS, *OUTPUTS, *OPTIONAL_OUTPUTS) if output.stage == stage)


class OutputPublishers:
    """One publisher per output, reliable with depth 1 unless qos_overrides.* parameters say otherwise."""

    def __init__(self, node: Node, outputs: Iterable[Output] | None = None) -> None:
        """outputs: OUTPUTS and OPTIONAL_OUTPUTS unless others are given."""
        self._publishers: list[tuple[Output, Publisher]] = []
        self._watches: list[SubscriberWatch] = []
        for output in (*OUTPUTS, *OPTIONAL_OUTPUTS) if outputs is None else outputs:
            watch = SubscriberWatch(node, output.topic)
            publisher = node.create_publisher(
                output.kind, output.topic, own(RELIABLE_NEWEST), qos_overriding_options=PUBLISHER_OVERRIDES, event_callbacks=watch.events
            )
            self._publishers.append((output, publisher))
            self._watches.append(watch)
        self._target_frame = TargetFrame(FrameTransforms(node))
        classes = any(output.topic == "mask/class" for output, _ in self._publishers)
        self._label_info = vision_outputs.publish_label_info(node) if classes else None

    def wanted(self) -> bool:
        """True when anybody subscribes to any output."""
        return any(publisher.get_subscription_count() for _, publisher in self._publishers)

    def unserved(self) -> dict[str, str]:
        """By topic, the subscribers whose quality of service does not fit. To be asked about once a second."""
        told = {watch.topic: watch.review(publisher.qos_profile) for watch, (_, publisher) in zip(self._watches, self._publishers)}
        return {topic: who for topic, who in told.items() if who}

    def needs(self) -> frozenset[str]:
        """The parts that the outputs which somebody subscribes to need."""
        return frozenset().union(*(output.needs for output, publisher in self._publishers if publisher.get_subscription_count()))

    def publish(
        self, scene: Scene | PartialScene, frame_id: str, config: OutputConfig, lacking: frozenset[str] = frozenset()
    ) -> tuple[str, ...]:
        """Publish what somebody subscribes to, stamped with the left image's stamp; returns the topics published.

        lacking: parts that this scene was made without; outputs that need one of them are withheld.

        An output that fails does not keep the others back: the first error is raised when all have had their turn.
        """
        view = View(scene, make_header(scene.frame.stamp_ns, frame_id), config, self._target_frame)
        done, failed = [], None
        for output, publisher in self._publishers:
            if output.needs & lacking or not publisher.get_subscription_count():
                continue
            try:
                message = output.make(view)
            except Exception as error:
                failed = failed or error
                continue
            if message is not None:
                publisher.publish(message)
                done.append(output.topic)
        if failed is not None:
            raise failed
        return tuple(done)
