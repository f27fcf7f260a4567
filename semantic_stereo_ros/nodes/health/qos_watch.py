"""Who does not hear whom, and why: DDS says that a quality of service does not fit, this says which node and which policy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks  # pyright: ignore[reportMissingImports]

_INFINITE_NS = 2**62
_UNKNOWN_NAME = "_NODE_NAME_UNKNOWN_"  # rmw_dds_common's


def misfits(endpoints: Iterable[Any], own: QoSProfile, *, publishing: bool) -> str:
    """The endpoints (get_*_info_by_topic) that do not fit a publisher (`publishing`) or subscription of `own`, in words; '' = all fit."""
    found = []
    for endpoint in endpoints:
        pair = (own, endpoint.qos_profile) if publishing else (endpoint.qos_profile, own)
        fits, why = qos_check_compatible(*map(_comparable, pair))
        if fits == QoSCompatibility.ERROR:
            found.append(f"{_node_of(endpoint)} ({' '.join(why.replace('ERROR: ', '').rstrip('; ').split())})")
    return "; ".join(sorted(set(found)))


def _node_of(endpoint: Any) -> str:
    """DDS may report an endpoint before the name of its node has come; that of a plain DDS program never comes."""
    if endpoint.node_name == _UNKNOWN_NAME:
        return "a node whose name is not known (yet)"
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def _comparable(profile: QoSProfile) -> QoSProfile:
    """The policies that a subscription can ask for. Discovery reports 'no deadline' as infinite, a profile of our own as zero."""
    result = QoSProfile(depth=1, reliability=profile.reliability, durability=profile.durability, liveliness=profile.liveliness)
    for name in ("deadline", "liveliness_lease_duration"):
        if 0 < getattr(profile, name).nanoseconds < _INFINITE_NS:
            setattr(result, name, getattr(profile, name))
    return result


class SubscriberWatch:
    """One publisher's subscribers that ask for more than it offers. Looks only after DDS reported one, and until there is none."""

    def __init__(self, node: Node, topic: str) -> None:
        self._node = node
        self.topic = node.resolve_topic_name(topic)
        self._alarmed = False
        self.events = PublisherEventCallbacks(incompatible_qos=self._incompatible)

    def _incompatible(self, _event: Any) -> None:
        self._alarmed = True

    def review(self, own: QoSProfile) -> str:
        """To be called about once a second: who does not fit `own`, the publisher's profile; '' = everybody does."""
        if not self._alarmed:
            return ""
        who = misfits(self._node.get_subscriptions_info_by_topic(self.topic), own, publishing=True)
        self._alarmed = bool(who)
        return who
