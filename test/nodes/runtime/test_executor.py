"""How nodes are spun: endpoints that come and go on other threads do not end it."""

import threading

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: no DDS to test with")

import rclpy
from std_msgs.msg import Header

from semantic_stereo_ros.nodes.runtime.executor import SideThreadExecutor

pytestmark = pytest.mark.xdist_group("dds")


@pytest.fixture
def node(new_graph):
    context = new_graph().context
    node = rclpy.create_node("spun", context=context)
    yield node
    node.destroy_node()


def test_an_endpoint_that_is_destroyed_before_the_wait_is_left_out(node):
    """As bondpy does it, and as a thread may in the moment before the executor waits: the handle is gone, the node still lists it."""
    executor, heard = SideThreadExecutor(context=node.context), threading.Event()
    executor.add_node(node)
    publisher = node.create_publisher(Header, "gone", 1)
    publisher.destroy()
    for _ in range(3):
        executor.spin_once(timeout_sec=0.1)
    node.destroy_publisher(publisher)
    timer = node.create_timer(0.001, heard.set)
    for _ in range(100):
        executor.spin_once(timeout_sec=0.1)
    assert heard.is_set()
    node.destroy_timer(timer)
    executor.shutdown()
