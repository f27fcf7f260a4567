"""What a user may change of a subscription's or publisher's quality of service with the parameters `qos_overrides.*`."""

from __future__ import annotations

import copy

from rclpy.qos import QoSPolicyKind, QoSProfile, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions

PUBLISHER_OVERRIDES = QoSOverridingOptions.with_default_policies()
IMAGE_OVERRIDES = QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH))
"""The reliability of images follows their publishers, or input.reliability."""
SUBSCRIPTION_OVERRIDES = QoSOverridingOptions(
    (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
)


def own(profile: QoSProfile = qos_profile_sensor_data) -> QoSProfile:
    """A copy for one endpoint: rclpy writes the overrides of a topic into the profile that it is given."""
    return copy.copy(profile)
