"""One field of a frozen Config: default, unit, bounds, description, dynamic or not.

Each stage and each backend keeps its Config beside its code; the command line, YAML files and ROS parameters are
made from these fields and from nothing else.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from semantic_stereo_ros.checks import ConfigError


@dataclasses.dataclass(frozen=True)
class Option:
    """What a user may know of one parameter. `dynamic`: it can change while a node runs. words: text that stands for a value, such as
    ("auto", 0); a ROS parameter, which has one type, takes the value only."""

    name: str
    type: type
    default: Any
    description: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] | None = None
    dynamic: bool = True
    words: tuple[tuple[str, Any], ...] = ()

    def parse(self, value: Any, key: str) -> Any:
        """`value` (of YAML, a ROS parameter, or text of the command line) as this option's type, checked.

        Raises ConfigError naming `key`, what was expected and what came. Text is converted; a float is never
        silently rounded to an int, nor a number taken for a bool.
        """
        if isinstance(value, str) and self.type is not str:
            value = self._from_text(value, key)
        if self.type is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not self.type:
            raise ConfigError(f"{key} must be {self.type.__name__}, got {value!r} ({type(value).__name__})")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{key} must be a finite number, got {value}")
        if self.choices is not None and value not in self.choices:
            raise ConfigError(f"{key} must be one of {', '.join(map(str, self.choices))}, got {value!r}")
        if isinstance(value, (int, float)) and not self._in_bounds(value):
            low = "-inf" if self.minimum is None else f"{self.minimum:g}"
            high = "inf" if self.maximum is None else f"{self.maximum:g}"
            raise ConfigError(f"{key} must lie in [{low}, {high}]{' ' + self.unit if self.unit else ''}, got {value!r}")
        return value

    def _in_bounds(self, value: float) -> bool:
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)

    def _from_text(self, text: str, key: str) -> Any:
        if text.strip().lower() in dict(self.words):
            return dict(self.words)[text.strip().lower()]
        if self.type is bool:
            words = {
                "true": True,
                "on": True,
                "yes": True,
                "1": True,
                "false": False,
                "off": False,
                "no": False,
                "0": False,
            }
            if text.strip().lower() in words:
                return words[text.strip().lower()]
            raise ConfigError(f"{key} must be true or false, got {text!r}")
        try:
            return self.type(text)
        except ValueError:
            word = "".join(f" or {word}" for word, _ in self.words)
            raise ConfigError(f"{key} must be {self.type.__name__}{word}, got {text!r}") from None


def option(
    default: Any,
    description: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[Any, ...] | None = None,
    dynamic: bool = True,
    words: tuple[tuple[str, Any], ...] = (),
) -> Any:
    """A dataclass field that carries everything the outside may know of a parameter."""
    metadata = dict(description=description, unit=unit, minimum=minimum, maximum=maximum, choices=choices, dynamic=dynamic, words=words)
    return dataclasses.field(default=default, metadata=metadata)


def options_of(config_class: type) -> dict[str, Option]:
    """The options of a frozen Config class, in order of declaration."""
    hints = typing.get_type_hints(config_class)
    result = {}
    for field in dataclasses.fields(config_class):
        kind = hints[field.name]
        if isinstance(kind, types.UnionType) or kind not in (bool, int, float, str):
            raise TypeError(f"{config_class.__qualname__}.{field.name} must be bool, int, float or str, is {kind}")
        result[field.name] = Option(name=field.name, type=kind, default=field.default, **field.metadata)
    return result


def build(config_class: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """`config_class` with the given values checked; an unknown key raises ConfigError with the known ones."""
    known = options_of(config_class)
    parsed = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in known:
            raise ConfigError(f"unknown parameter {key}; known here: {', '.join(prefix + n for n in known) or 'none'}")
        parsed[name] = known[name].parse(value, key)
    return config_class(**parsed)
