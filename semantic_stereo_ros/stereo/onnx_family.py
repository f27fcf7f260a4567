"""What a family of stereo networks expects and answers, read from a small YAML file: those of config/onnx, or a user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from semantic_stereo_ros.checks import ConfigError, InputFileError
from semantic_stereo_ros.resources import share_file

SHOWN = {"left": 0, "right": 1}
CHANNELS = {"rgb": 3, "bgr": 3, "grey": 1}


@dataclass(frozen=True)
class Input:
    """One input of the network. shows: ('left',), ('right',), both (one after the other along the channels), or ('zeros',).

    name: None takes the input at this place in the graph. scale: of the images that it is shown, 0.5 = half the size.
    """

    shows: tuple[str, ...]
    name: str | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Output:
    """Where the disparity is. name: None takes the graph's first output. channel: of several. sign: -1 where it is x_right - x_left.

    unit: 'px' of the input images, 'output_px' of the output map, which may be smaller, or 'width', the fraction of the image's width.
    """

    name: str | None = None
    layout: str = "nchw"
    channel: int = 0
    sign: int = 1
    unit: str = "px"


@dataclass(frozen=True)
class Family:
    """value = (pixel * scale - mean) / std per channel, pixel 0..255. multiple_of: of sizes that the network leaves open.

    fit: how images of another size are brought to the network's, 'pad' or 'stretch' (stereo.fit). max_disparity_px: the largest that it
    can find, None where there is no limit.
    """

    name: str
    description: str
    inputs: tuple[Input, ...]
    colour: str = "rgb"
    layout: str = "nchw"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    multiple_of: int = 32
    fit: str = "pad"
    max_disparity_px: float | None = None
    output: Output = field(default_factory=Output)

    @property
    def channels(self) -> int:
        """Of one image."""
        return CHANNELS[self.colour]


def family_names() -> tuple[str, ...]:
    """Names of the shipped families, sorted."""
    return tuple(sorted(path.stem for path in share_file("config/onnx/semantic_stereo.yaml").parent.glob("*.yaml")))


def find_family(name_or_path: str) -> Family:
    """A shipped family by name, or that of a YAML file. Raises ConfigError, InputFileError."""
    if name_or_path.endswith((".yaml", ".yml")):
        return read_family(Path(name_or_path))
    if name_or_path not in family_names():
        raise ConfigError(
            f"unknown family of ONNX models {name_or_path!r}; known: {', '.join(family_names())}; or give the path of a .yaml file"
        )
    return read_family(share_file(f"config/onnx/{name_or_path}.yaml"))


def read_family(path: Path) -> Family:
    """Raises InputFileError when the file cannot be read, ConfigError naming the key that is wrong."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputFileError(f"the family file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputFileError(f"the family file {path} is not valid YAML: {' '.join(str(error).split())}") from error
    return parse_family(content, path.stem, str(path))


def parse_family(content: Any, name: str, where: str) -> Family:
    """The family that a YAML document describes, checked. `where` names it in errors. Raises ConfigError."""
    keys = _Keys(content, where)
    inputs = keys.take("inputs", list)
    if not inputs:
        raise ConfigError(f"{where}: inputs must list the network's inputs, got none")
    output = _Keys(keys.take("output", dict, {}), f"{where}: output")
    family = Family(
        name=name,
        description=keys.take("description", str),
        inputs=tuple(_input(item, f"{where}: inputs[{index}]") for index, item in enumerate(inputs)),
        colour=keys.take("colour", str, "rgb", tuple(CHANNELS)),
        layout=keys.take("layout", str, "nchw", ("nchw", "nhwc")),
        scale=keys.above_zero("scale", 1.0),
        mean=keys.numbers("mean", (0.0,)),
        std=keys.numbers("std", (1.0,)),
        multiple_of=keys.take("multiple_of", int, 32),
        fit=keys.take("fit", str, "pad", ("pad", "stretch")),
        max_disparity_px=keys.above_zero("max_disparity_px", None),
        output=Output(
            name=output.take("name", str, None),
            layout=output.take("layout", str, "nchw", ("nchw", "nhwc")),
            channel=output.take("channel", int, 0),
            sign=output.take("sign", int, 1, (1, -1)),
            unit=output.take("unit", str, "px", ("px", "output_px", "width")),
        ),
    )
    keys.end()
    output.end()
    _check(family, where)
    return family


def _check(family: Family, where: str) -> None:
    for key in ("mean", "std"):
        if len(getattr(family, key)) not in (1, family.channels):
            count = len(getattr(family, key))
            raise ConfigError(f"{where}: {key} must hold 1 number or one per channel ({family.channels} for {family.colour}), got {count}")
    if min(family.std) <= 0:
        raise ConfigError(f"{where}: std must be above 0, got {min(family.std):g}")
    if family.multiple_of < 1:
        raise ConfigError(f"{where}: multiple_of must be 1 or more, got {family.multiple_of}")
    if family.output.channel < 0:
        raise ConfigError(f"{where}: output.channel must be 0 or more, got {family.output.channel}")
    shown = {what for item in family.inputs if item.scale == 1 for what in item.shows}
    if not {"left", "right"} <= shown:
        raise ConfigError(f"{where}: no inputs show the left and the right image at scale 1, only: {', '.join(sorted(shown)) or 'none'}")
    named = [item.name is not None for item in family.inputs]
    if any(named) and not all(named):
        raise ConfigError(f"{where}: either all inputs must have a name or none (then their order counts)")


def _input(content: Any, where: str) -> Input:
    keys = _Keys(content, where)
    shows = keys.take("shows", list)
    known = [["left"], ["right"], ["left", "right"], ["right", "left"], ["zeros"]]
    if shows not in known:
        raise ConfigError(f"{where}: shows must be [left], [right], [left, right], [right, left] or [zeros], got {shows!r}")
    result = Input(tuple(shows), keys.take("name", str, None), keys.above_zero("scale", 1.0))
    keys.end()
    return result


_REQUIRED = object()


class _Keys:
    """A mapping whose keys are taken one by one; what is left in the end is unknown."""

    def __init__(self, content: Any, where: str) -> None:
        if not isinstance(content, Mapping):
            raise ConfigError(f"{where} must be a mapping, got {type(content).__name__}")
        self._left = dict(content)
        self._known: list[str] = []
        self._where = where

    def take(self, key: str, kind: type, default: Any = _REQUIRED, choices: tuple[Any, ...] | None = None) -> Any:
        self._known.append(key)
        if key not in self._left:
            if default is _REQUIRED:
                raise ConfigError(f"{self._where}: {key} is missing")
            return default
        value = self._left.pop(key)
        if type(value) is not kind:
            raise ConfigError(f"{self._where}: {key} must be {kind.__name__}, got {value!r} ({type(value).__name__})")
        if choices is not None and value not in choices:
            raise ConfigError(f"{self._where}: {key} must be one of {', '.join(map(str, choices))}, got {value!r}")
        return value

    def numbers(self, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """One number or a list of them."""
        value = self._left.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self._left[key] = [value]
        values = self.take(key, list, list(default))
        if not values or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
            raise ConfigError(f"{self._where}: {key} must be a number or a list of numbers, got {values!r}")
        return tuple(float(v) for v in values)

    def above_zero(self, key: str, default: float | None) -> Any:
        if key not in self._left:
            return self.take(key, float, default)
        (value,) = self.numbers(key, (0.0,)) if not isinstance(self._left[key], list) else (0.0,)
        if not value > 0:
            raise ConfigError(f"{self._where}: {key} must be one number above 0")
        return value

    def end(self) -> None:
        if self._left:
            unknown = ", ".join(map(str, self._left))
            raise ConfigError(f"{self._where}: unknown key {unknown}; known here: {', '.join(self._known)}")
