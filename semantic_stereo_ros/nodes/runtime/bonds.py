"""The bond by which a lifecycle manager notices that a node has died. Formed only where bondpy is installed."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

try:
    from bondpy.bondpy import Bond  # pyright: ignore[reportMissingImports]
except ImportError:
    Bond = None

TOPIC = "bond"
HEARTBEAT_PERIOD_S, HEARTBEAT_TIMEOUT_S = 0.1, 4.0
"""Those of nav2_lifecycle_manager and of Nav2's own nodes."""


def form_bond(node: Node) -> Any:
    """Start a bond named as the node, as nav2_lifecycle_manager with bond_timeout > 0 expects; None without bondpy."""
    if Bond is None:
        return None
    bond = Bond(node=node, topic=TOPIC, bond_id=node.get_name())
    bond.heartbeat_period = HEARTBEAT_PERIOD_S
    bond.heartbeat_timeout = HEARTBEAT_TIMEOUT_S
    bond.start()
    return bond


def break_bond(node: Node, bond: Any) -> None:
    """Tell the manager that this end is intended."""
    if bond is not None:
        bond.shutdown()
        # It destroys its endpoints, but leaves them in the node, whose executor could not wait for them.
        node.destroy_subscription(bond.sub)
        node.destroy_publisher(bond.pub)
