"""Composes the stages' and backends' Configs into one flat schema: `<stage>.<key>` and `<stage>.<backend>.<key>`.

The command line, YAML files and ROS parameters are all made from `schema()`. No default is written here: each lives
beside the code that uses it. Importing a backend's module imports no heavy library, so the schema is cheap.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from semantic_stereo_ros import options
from semantic_stereo_ros.checks import ConfigError, InputFileError
from semantic_stereo_ros.fusion import measure
from semantic_stereo_ros.options import Option
from semantic_stereo_ros.registry import STAGES_WITH_BACKENDS, backend_module, backend_names
from semantic_stereo_ros.segmentation import base as segmentation_base
from semantic_stereo_ros.stereo import base as stereo_base
from semantic_stereo_ros.tracking import tracker

_STAGE_CONFIGS: dict[str, type] = {
    "stereo": stereo_base.Config,
    "segmentation": segmentation_base.Config,
    "fusion": measure.Config,
    "tracking": tracker.Config,
}

NODE_SECTIONS = ("autostart", "input", "output", "diagnostics", "join", "player", "camera", "qos_overrides")


@dataclasses.dataclass(frozen=True)
class Choice:
    """The backend of a stage. options: its own Config, of the type that its module defines. switch: see the stage's Config."""

    backend: str
    options: Any
    switch: str


@dataclasses.dataclass(frozen=True)
class PipelineConfig:
    """Everything that decides what the pipeline does. The `*_backend` fields hold the chosen backend's own Config."""

    stereo: stereo_base.Config
    stereo_backend: Any
    segmentation: segmentation_base.Config
    segmentation_backend: Any
    fusion: measure.Config
    tracking: tracker.Config

    def choice(self, stage: str) -> Choice:
        """What is chosen for one of the stages that have backends ('stereo', 'segmentation')."""
        common, options = {
            "stereo": (self.stereo, self.stereo_backend),
            "segmentation": (self.segmentation, self.segmentation_backend),
        }[stage]
        return Choice(common.backend, options, common.switch)

    def to_flat(self) -> dict[str, Any]:
        """The values in use, by flat key; `from_flat` of it gives an equal config."""
        configs: dict[str, Any] = {
            "stereo": self.stereo,
            f"stereo.{self.stereo.backend}": self.stereo_backend,
            "segmentation": self.segmentation,
            f"segmentation.{self.segmentation.backend}": self.segmentation_backend,
            "fusion": self.fusion,
            "tracking": self.tracking,
        }
        return {f"{prefix}.{name}": value for prefix, config in configs.items() for name, value in dataclasses.asdict(config).items()}


@lru_cache(maxsize=1)
def schema() -> dict[str, Option]:
    """Every parameter of every stage and of every backend, chosen or not, by flat key."""
    result: dict[str, Option] = {}
    for stage, config_class in _STAGE_CONFIGS.items():
        for name, option in options.options_of(config_class).items():
            if stage in STAGES_WITH_BACKENDS and name == "backend":
                option = dataclasses.replace(option, choices=backend_names(stage))
            result[f"{stage}.{name}"] = option
        for backend in backend_names(stage) if stage in STAGES_WITH_BACKENDS else ():
            known = options.options_of(backend_module(stage, backend).Config)
            result.update({f"{stage}.{backend}.{name}": option for name, option in known.items()})
    return result


def from_flat(values: Mapping[str, Any] | None = None) -> PipelineConfig:
    """A config from flat keys; what is not given keeps its default.

    Values of backends that are not chosen are checked too, then left aside. Raises ConfigError for an unknown key,
    a wrong type, a value out of range or an unknown backend.
    """
    known = schema()
    parsed: dict[str, Any] = {}
    for key, value in (values or {}).items():
        if key not in known:
            raise ConfigError(f"unknown parameter {key!r}{_suggestion(key, known)}")
        parsed[key] = known[key].parse(value, key)
    stages: dict[str, Any] = {}
    for stage, config_class in _STAGE_CONFIGS.items():
        stages[stage] = _build(config_class, parsed, f"{stage}.")
        if stage in STAGES_WITH_BACKENDS:
            backend = stages[stage].backend
            stages[f"{stage}_backend"] = _build(backend_module(stage, backend).Config, parsed, f"{stage}.{backend}.")
    config = PipelineConfig(**stages)
    _check_together(config)
    return config


def _check_together(config: PipelineConfig) -> None:
    """Raise ConfigError for options of different stages that defeat each other."""
    rate_hz, gap_s = config.segmentation.max_rate_hz, config.tracking.max_gap_s
    if rate_hz > 0 and rate_hz * gap_s < 1:
        raise ConfigError(
            f"segmentation.max_rate_hz = {rate_hz:g} Hz leaves {1 / rate_hz:g} s between masks, but tracking.max_gap_s = {gap_s:g} s "
            "begins anew after that: raise one of them"
        )


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Flat parameters of a YAML file: nested or flat keys, or a ROS parameter file (`/**: ros__parameters: ...`).

    Raises InputFileError when the file is missing or no mapping. Keys are not checked here.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise InputFileError(f"configuration file {path} {'is a folder' if path.is_dir() else 'does not exist'}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputFileError(f"configuration file {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputFileError(f"configuration file {path} must hold a mapping of parameters, got {type(content).__name__}")
    flat: dict[str, Any] = {}
    for key, value in content.items():
        nodes_parameters = isinstance(value, dict) and "ros__parameters" in value
        _flatten("" if nodes_parameters else str(key), value["ros__parameters"] if nodes_parameters else value, flat)
    return flat


def stage_parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of a YAML file that serves the nodes too, the part that the pipeline reads.

    Dropped are `use_sim_time` and the sections of the nodes (`NODE_SECTIONS`); any other key is kept, so that `from_flat` refuses
    it when it is unknown.
    """
    return {k: v for k, v in values.items() if k != "use_sim_time" and k.partition(".")[0] not in NODE_SECTIONS}


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`key=value` words of the command line as flat text values. Raises ConfigError for a word without '='."""
    flat: dict[str, Any] = {}
    for word in assignments:
        key, separator, value = word.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set takes key=value, got {word!r}; see 'semantic-stereo backends --options' for the keys")
        flat[key.strip()] = value.strip()
    return flat


def _build(config_class: type, parsed: Mapping[str, Any], prefix: str) -> Any:
    names = options.options_of(config_class)
    given = {name: parsed[prefix + name] for name in names if prefix + name in parsed}
    return options.build(config_class, given, prefix)


def _flatten(prefix: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{prefix}.{key}" if prefix else str(key), inner, into)
    else:
        into[prefix] = value


def _suggestion(key: str, known: Mapping[str, Option]) -> str:
    import difflib

    close = difflib.get_close_matches(key, known, n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else "; 'semantic-stereo backends --options' lists all keys"
