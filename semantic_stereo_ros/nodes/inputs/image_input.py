"""A subscription to one topic of images (raw, compressed, of disparity), as reliable as all of its publishers offer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from semantic_stereo_ros.nodes.health.qos_watch import misfits
from semantic_stereo_ros.nodes.runtime.qos import IMAGE_OVERRIDES


class ImageInput:
    """Best effort first: it hears every publisher. Reliable while every publisher offers it (`review`), or as a parameter forces.

    A subscription with BEST_AVAILABLE, made before a best-effort publisher exists, never hears it; hence this. On a change the new
    subscription is made before the old one goes, so that no image falls between them.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        callback: Callable[[Any], None],
        reliability: str = "auto",
        depth: int = 5,
        kind: type = Image,
    ) -> None:
        """kind: the message's type, with a header."""
        self._node = node
        self._kind = kind
        self._callback = callback
        self._depth = depth
        self._automatic = reliability == "auto"
        self._relative = topic
        self.topic = node.resolve_topic_name(topic)
        self.mismatch = ""
        self.reliable = reliability == "reliable"
        self._recent: deque[tuple[int, int]] = deque(maxlen=4 * depth)
        self._retiring = None
        self._subscription = self._subscribe()

    def review(self) -> int:
        """To be called about once a second: look at the publishers and change the reliability if it should be another.

        Returns how many publishers there are.
        """
        if self._retiring is not None:
            self._node.destroy_subscription(self._retiring)
            self._retiring = None
        offers = self._node.get_publishers_info_by_topic(self.topic)
        all_reliable = bool(offers) and all(offer.qos_profile.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
        if self._automatic and offers and all_reliable != self.reliable:
            self.reliable, self._retiring = all_reliable, self._subscription
            self._subscription = self._subscribe()
        self.mismatch = "" if all_reliable or not self.reliable else misfits(offers, self._qos(), publishing=False)
        return len(offers)

    def close(self) -> None:
        """Receive nothing any more."""
        for subscription in (self._subscription, self._retiring):
            if subscription is not None:
                self._node.destroy_subscription(subscription)

    def _subscribe(self):
        return self._node.create_subscription(
            self._kind, self._relative, self._receive, self._qos(), qos_overriding_options=IMAGE_OVERRIDES
        )

    def _qos(self) -> QoSProfile:
        reliability = ReliabilityPolicy.RELIABLE if self.reliable else ReliabilityPolicy.BEST_EFFORT
        return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=self._depth, reliability=reliability)

    def _receive(self, message: Any) -> None:
        """While two subscriptions exist, each image comes twice."""
        stamp = (message.header.stamp.sec, message.header.stamp.nanosec)
        if self._retiring is None or stamp not in self._recent:
            self._recent.append(stamp)
            self._callback(message)
