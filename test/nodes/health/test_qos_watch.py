"""Who does not fit whom, in words, from what discovery reports."""

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from semantic_stereo_ros.nodes.health.qos_watch import misfits

RELIABLE, BEST_EFFORT = (QoSProfile(depth=1, reliability=policy) for policy in (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT))


def publisher(name, namespace="/", qos=BEST_EFFORT):
    return TopicEndpointInfo(node_name=name, node_namespace=namespace, qos_profile=qos)


def test_only_misfits_are_named_each_once():
    said = misfits([publisher("b", "/front"), publisher("a"), publisher("a"), publisher("c", qos=RELIABLE)], RELIABLE, publishing=False)
    assert [part.split(" (")[0] for part in said.split("; ")] == ["/a", "/front/b"] and "Best effort publisher" in said
    assert misfits([publisher("a")], BEST_EFFORT, publishing=False) == ""


def test_reliable_subscriptions_do_not_fit_a_best_effort_publisher():
    assert misfits([publisher("reader", qos=RELIABLE)], BEST_EFFORT, publishing=True).startswith("/reader (")
    assert misfits([publisher("reader")], RELIABLE, publishing=True) == ""


def test_a_name_that_discovery_has_not_brought_yet_is_not_made_up():
    said = misfits([publisher("_NODE_NAME_UNKNOWN_", "_NODE_NAMESPACE_UNKNOWN_")], RELIABLE, publishing=False)
    assert said.startswith("a node whose name is not known (yet) (") and "UNKNOWN" not in said
