"""Health as a /diagnostics message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from semantic_stereo_ros.nodes.health import Health, Window

_LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)


def diagnostic_array(name: str, stamp: Time, verdict: tuple[int, str], values: Mapping[str, str]) -> DiagnosticArray:
    """One status. verdict: level 0..2 and its sentence."""
    status = DiagnosticStatus(level=_LEVELS[verdict[0]], name=name, message=verdict[1], hardware_id="")
    status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message


def health_values(
    health: Health, counts: Mapping[str, Any], backends: Mapping[str, str], reliable: Mapping[str, bool], now_s: float
) -> dict[str, str]:
    """The lines of a status. counts: totals since the start."""
    values: dict[str, str] = {
        "left rate (Hz)": f"{health.left.received.rate(now_s):.2f}",
        "right rate (Hz)": f"{health.right.received.rate(now_s):.2f}",
        "output rate (Hz)": f"{health.output.rate(now_s):.2f}",
        "left publishers": str(health.left.publishers),
        "right publishers": str(health.right.publishers),
        "age p50 / p95 (ms)": _milliseconds(health.age_s, now_s),
        "processing p50 / p95 (ms)": _milliseconds(health.processing_s, now_s),
        "skew p50 / p95 (ms)": _milliseconds(health.skew_s, now_s),
        "largest skew (ms)": f"{counts['largest_skew_ns'] / 1e6:.3f}",
        "pairs": str(counts["pairs"]),
        "exact pairs": str(counts["exact"]),
        "unpaired left": str(counts["unpaired_left"]),
        "unpaired right": str(counts["unpaired_right"]),
        "dropped": str(counts["dropped"]),
        "stamp jumps": str(counts["jumps"]),
        "last error": health.last_error,
    }
    values.update({f"{stage} backend": backend for stage, backend in backends.items()})
    values.update({f"{side} reliability": "reliable" if is_so else "best effort" for side, is_so in reliable.items()})
    return values


def _milliseconds(window: Window, now_s: float) -> str:
    percentiles = window.percentiles(now_s)
    return "none" if percentiles is None else f"{percentiles[0] * 1e3:.1f} / {percentiles[1] * 1e3:.1f}"
