"""What stereo_node and segmentation_node tell the nodes after them: subscribed to while it is needed, joined by stamp."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from stereo_msgs.msg import DisparityImage

from semantic_stereo_ros.msg import InstanceMasks
from semantic_stereo_ros.nodes.health.qos_watch import misfits
from semantic_stereo_ros.nodes.health.stream_health import InputHealth
from semantic_stereo_ros.nodes.inputs.stamp_join import Joined, StampJoin
from semantic_stereo_ros.nodes.messages.conversions import image_to_array, infos_to_rig, stamp_to_ns
from semantic_stereo_ros.nodes.messages.scene_messages import message_to_disparity
from semantic_stereo_ros.nodes.runtime.node_options import JoinConfig
from semantic_stereo_ros.types import Disparity, StereoRig

LINGER_S = 2.0
"""An input is kept for so long after its last need: a subscriber that comes and goes makes no discovery traffic."""

QUEUE_DEPTH = 10


@dataclass(frozen=True)
class Part:
    """One part of a frame: topic (relative), message type, its noun in diagnostics, how much memory a message takes, and who sends it."""

    topic: str
    kind: type
    noun: str
    size_bytes: Callable[[Any], int]
    source: str = "stereo_node"


PARTS = {
    "left_info": Part("stereo/left/camera_info", CameraInfo, "camera_info", lambda message: 1000),
    "right_info": Part("stereo/right/camera_info", CameraInfo, "camera_info", lambda message: 1000),
    "left": Part("stereo/left/image_rect", Image, "image", lambda message: len(message.data)),
    "disparity": Part("disparity", DisparityImage, "disparity", lambda message: len(message.image.data)),
    "sigma": Part("disparity_sigma", Image, "sigma", lambda message: len(message.data)),
    "confidence": Part("stereo/confidence", Image, "confidence", lambda message: len(message.data)),
    "masks": Part(
        "masks", InstanceMasks, "mask", lambda message: sum(len(layer.labels.data) for layer in message.layers), "segmentation_node"
    ),
}
RIG = frozenset({"left_info", "right_info"})


class JoinedInputs:
    """The demanded parts of every frame. Called from the executor's thread, but for `close`, which ends it."""

    def __init__(self, node: Node, on_joined: Callable[[Joined], None], config: JoinConfig, reliability: str) -> None:
        """on_joined is called with each frame that is complete. reliability: 'best_effort', else the subscriptions are reliable."""
        self._node = node
        self._on_joined = on_joined
        policy = ReliabilityPolicy.BEST_EFFORT if reliability == "best_effort" else ReliabilityPolicy.RELIABLE
        self._qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=QUEUE_DEPTH, reliability=policy)
        self.join = StampJoin((), config.seconds, config.megabytes)
        self.health: dict[str, InputHealth] = {}
        self._subscriptions: dict[str, Any] = {}
        self._needed_s: dict[str, float] = {}

    def demand(self, required: Iterable[str], extras: Iterable[str] = ()) -> None:
        """From now on frames have these parts; what nobody has needed for LINGER_S is not received any more."""
        required, extras, now_s = frozenset(required), frozenset(extras), time.monotonic()
        for part in required | extras:
            self._needed_s[part] = now_s
            if part not in self._subscriptions:
                self._subscribe(part)
        for part in [part for part, needed_s in self._needed_s.items() if now_s - needed_s > LINGER_S]:
            self._unsubscribe(part)
        if required:
            self.join.require(required)
        elif not self._subscriptions:
            self.join.clear()
        self.join.want(extras)

    def review(self) -> None:
        """To be called about once a second: who publishes what is listened to, and whether it can be heard where nothing comes."""
        now_s = time.monotonic()
        for item in list(self.health.values()):
            item.publishers = self._node.count_publishers(item.topic)
            silent = item.publishers and not item.received.count(now_s)
            offers = self._node.get_publishers_info_by_topic(item.topic) if silent else ()
            item.unheard = misfits(offers, self._qos, publishing=False)

    def close(self) -> None:
        """Receive nothing any more."""
        for part in list(self._subscriptions):
            self._unsubscribe(part)
        self.join.clear()

    def _subscribe(self, part: str) -> None:
        entry = PARTS[part]
        self.health[part] = InputHealth(self._node.resolve_topic_name(entry.topic), entry.noun, source=entry.source)
        self._subscriptions[part] = self._node.create_subscription(entry.kind, entry.topic, partial(self._receive, part), self._qos)

    def _unsubscribe(self, part: str) -> None:
        self._node.destroy_subscription(self._subscriptions.pop(part))
        del self._needed_s[part], self.health[part]

    def _receive(self, part: str, message: Any) -> None:
        health = self.health.get(part)
        if health is None:
            return  # was on its way when the subscription ended
        stamp_ns = stamp_to_ns(message.header.stamp)
        health.arrived(time.monotonic(), stamp_ns)
        joined = self.join.add(part, stamp_ns, message, PARTS[part].size_bytes(message))
        if joined is not None:
            self._on_joined(joined)


def rig_of(joined: Joined) -> StereoRig:
    """The rig of a joined frame. Raises CalibrationError."""
    return infos_to_rig(joined.items["left_info"], joined.items["right_info"])


def left_of(joined: Joined) -> np.ndarray | None:
    """The rectified left image, None where it did not come along. Raises ImageError."""
    return image_to_array(joined.items["left"]) if "left" in joined.items else None


def disparity_of(joined: Joined, rig: StereoRig) -> Disparity | None:
    """The disparity of a joined frame, None where it did not come along. Raises CalibrationError or ImageError."""
    items = joined.items
    if "disparity" not in items or "sigma" not in items:
        return None
    return message_to_disparity(items["disparity"], items["sigma"], items.get("confidence"), rig)
