"""A verdict as a /diagnostics message (REP-107): one status per part of a node, the summary first."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from semantic_stereo_ros.nodes.health.health_rules import Status, Verdict, judge
from semantic_stereo_ros.nodes.health.process_usage import UsageMonitor
from semantic_stereo_ros.nodes.health.stream_health import StreamHealth
from semantic_stereo_ros.nodes.runtime.node_options import DiagnosticsConfig

_LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)


class Diagnostics:
    """Publishes what a node's health means. An ordinary publisher: it speaks in every state of the lifecycle."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._name = node.get_fully_qualified_name().strip("/")
        self.usage = UsageMonitor()

    def tell(self, health: StreamHealth, config: DiagnosticsConfig, now_s: float) -> Verdict:
        """Measure the process, judge, publish; to be called once a second."""
        working = health.halted is None and health.last_output_s is not None
        if working != self.usage.begun:
            self.usage.begin(now_s if working else None)
        health.usage = self.usage.measure(now_s)
        verdict = judge(health, config, now_s)
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [
            _message(f"{self._name}: {status.name}", status, platform.node() if status.name == "machine" else health.camera)
            for status in verdict.statuses
        ]
        self._publisher.publish(message)
        return verdict


def diagnostic_array(name: str, stamp: Time, verdict: tuple[int, str], values: Mapping[str, str], hardware_id: str = "") -> DiagnosticArray:
    """One status alone. verdict: level 0..2 and its sentence."""
    message = DiagnosticArray(status=[_message(name, Status(name, *verdict, dict(values)), hardware_id)])
    message.header.stamp = stamp
    return message


def _message(name: str, status: Status, hardware_id: str) -> DiagnosticStatus:
    result = DiagnosticStatus(level=_LEVELS[status.level], name=name, message=status.message, hardware_id=hardware_id)
    result.values = [KeyValue(key=key, value=value) for key, value in status.values.items()]
    return result
