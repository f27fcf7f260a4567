"""A backend's name is its file's name: nothing is registered by hand, and only the chosen file is imported.

`stereo/backends/foo.py` with a frozen dataclass `Config` and a class `Backend` makes `stereo.backend: foo` work in
YAML, on the command line and in the nodes.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from semantic_stereo_ros.checks import ConfigError

STAGES_WITH_BACKENDS = ("stereo", "segmentation")


def backend_names(stage: str) -> tuple[str, ...]:
    """Names of the backends of a stage ('stereo' or 'segmentation'), sorted; no backend is imported."""
    package = importlib.import_module(f"semantic_stereo_ros.{stage}.backends")
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")))


def backend_module(stage: str, name: str) -> ModuleType:
    """The module of one backend. Raises ConfigError with the known names if there is no such file."""
    names = backend_names(stage)
    if name not in names:
        raise ConfigError(f"unknown {stage} backend {name!r}; known: {', '.join(names)}")
    return importlib.import_module(f"semantic_stereo_ros.{stage}.backends.{name}")
