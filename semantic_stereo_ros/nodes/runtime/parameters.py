"""ROS parameters made from options: declared with description and range, checked with a reason, applied at run time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from semantic_stereo_ros.checks import SemanticStereoError
from semantic_stereo_ros.nodes.runtime.node_options import RCLPY_OWN, check_known
from semantic_stereo_ros.options import Option

_INT64_MAX = 2**63 - 1
# Given parameters can be checked before they are declared; unknown ones reach the callback, which can say what is wrong with them.
NODE_FLAGS = {"automatically_declare_parameters_from_overrides": True, "allow_undeclared_parameters": True}


def descriptor(option: Option) -> ParameterDescriptor:
    """What `ros2 param describe` shows. Choices stand in additional_constraints."""
    unit = f" [{option.unit}]" if option.unit else ""
    result = ParameterDescriptor(name=option.name, description=option.description + unit, read_only=not option.dynamic)
    if option.choices is not None:
        result.additional_constraints = "one of: " + ", ".join(map(str, option.choices))
    if option.minimum is None and option.maximum is None:
        return result
    if option.type is float:
        low = -sys.float_info.max if option.minimum is None else float(option.minimum)
        high = sys.float_info.max if option.maximum is None else float(option.maximum)
        result.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    elif option.type is int:
        low = -_INT64_MAX if option.minimum is None else int(option.minimum)
        high = _INT64_MAX if option.maximum is None else int(option.maximum)
        result.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    return result


class NodeParameters:
    """The parameters of one node. The node must have been made with both of NODE_FLAGS.

    Raises ConfigError at construction for a given parameter that is unknown to the package, of the wrong type or out of range.
    `apply(values)` is called with all flat values after each accepted change and may refuse it by raising a SemanticStereoError.
    """

    def __init__(self, node: Node, options: Mapping[str, Option], apply: Callable[[dict[str, Any]], None]) -> None:
        self._options = dict(options)
        self._apply = apply
        found: dict[str, Any] = node.get_parameters_by_prefix("")  # rclpy's own annotation says values and gives Parameters
        given = {name: parameter.value for name, parameter in found.items()}
        check_known(given)
        self.values = {name: option.parse(given[name], name) if name in given else option.default for name, option in self._options.items()}
        for name in given:
            if name not in RCLPY_OWN:
                node.undeclare_parameter(name)
        for name, option in self._options.items():
            node.declare_parameter(name, self.values[name], descriptor(option), ignore_override=True)
        apply(dict(self.values))
        node.add_on_set_parameters_callback(self._on_set)

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        changed = dict(self.values)
        try:
            check_known({parameter.name: parameter.value for parameter in parameters})
            for parameter in parameters:
                option = self._options.get(parameter.name)
                if option is not None:
                    changed[parameter.name] = option.parse(parameter.value, parameter.name)
            if changed != self.values:
                self._apply(dict(changed))
        except SemanticStereoError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.values = changed
        return SetParametersResult(successful=True)
