"""Errors of the package and the checks that raise them: what was expected, what came, what to do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np


class SemanticStereoError(ValueError):
    """Base of every error that a user can cause and mend. Its text is one sentence."""


class CalibrationError(SemanticStereoError):
    """A camera calibration that cannot be used."""


class ImageError(SemanticStereoError):
    """An image that cannot be used: shape, dtype, encoding or content."""


class ConfigError(SemanticStereoError):
    """A parameter that is unknown, of the wrong type or out of range."""


class MissingDependencyError(SemanticStereoError):
    """An optional library that a chosen backend needs is not installed."""


class InputFileError(SemanticStereoError):
    """A file that is missing, unreadable or not what it should be."""


def missing_dependency(module: str, extra: str, purpose: str) -> MissingDependencyError:
    """The error for an optional library that is not installed, naming the extra that brings it."""
    return MissingDependencyError(
        f"{purpose} needs the Python module '{module}', which is not installed: pip install 'semantic_stereo_ros[{extra}]'"
    )


def check_array(
    name: str,
    array: np.ndarray,
    *,
    shape: Sequence[int | None] | None = None,
    dtypes: Iterable[type | np.dtype | str] | None = None,
    error: type[SemanticStereoError] = ImageError,
) -> None:
    """Raise `error` unless `array` is an ndarray with the given shape (None = any length) and one of the given dtypes."""
    if not isinstance(array, np.ndarray):
        raise error(f"{name} must be a NumPy array, got {type(array).__name__}")
    if shape is not None:
        expected = tuple(shape)
        matches = array.ndim == len(expected) and all(e is None or e == n for e, n in zip(expected, array.shape))
        if not matches:
            wanted = "(" + ", ".join("any" if e is None else str(e) for e in expected) + ")"
            raise error(f"{name} must have shape {wanted}, got {array.shape}")
    if dtypes is not None:
        allowed = [np.dtype(d) for d in dtypes]
        if array.dtype not in allowed:
            raise error(f"{name} must be {' or '.join(d.name for d in allowed)}, got {array.dtype.name}")


def check_finite(name: str, value: float, *, error: type[SemanticStereoError] = CalibrationError) -> float:
    """Return `value` as float; raise `error` if it is NaN or infinite."""
    value = float(value)
    if not math.isfinite(value):
        raise error(f"{name} must be a finite number, got {value}")
    return value


def check_positive(name: str, value: float, *, error: type[SemanticStereoError] = CalibrationError) -> float:
    """Return `value` as float; raise `error` unless it is finite and above zero."""
    value = check_finite(name, value, error=error)
    if value <= 0:
        raise error(f"{name} must be above zero, got {value:g}")
    return value
