"""The numbers that /diagnostics shows beside its sentences: one table of texts per part of a node."""

from __future__ import annotations

from semantic_stereo_ros.nodes.health.stream_health import StreamHealth
from semantic_stereo_ros.nodes.health.windows import Window

Values = dict[str, str]
"""By name, with the unit in it, each number as a text."""


def input_values(health: StreamHealth, now_s: float) -> Values:
    values: Values = {}
    for name, item in health.inputs.items():
        values[f"{name} topic"] = item.topic
        if item.once:
            values[f"{name} received"] = "yes" if item.newest_stamp_ns is not None else "no"
        else:
            values[f"{name} rate (Hz)"] = f"{item.received.rate(now_s):.2f}"
        values[f"{name} publishers"] = str(item.publishers)
        if item.reliable is not None:
            values[f"{name} reliability"] = "reliable" if item.reliable else "best effort"
        if item.unheard:
            values[f"{name} unheard"] = item.unheard
    return values


def pairing_values(health: StreamHealth, now_s: float) -> Values:
    join = health.join
    if join is None:
        return {}
    fraction = join.fraction(now_s)
    values = {
        "rate (Hz)": f"{join.joined.rate(now_s):.2f}",
        "paired (%)": "none" if fraction is None else f"{100 * fraction:.0f}",
        "skew p50 / p95 (ms)": _milliseconds(join.skew_s, now_s, 3),
    }
    if join.why:
        values["why not"] = join.why
    return {**values, **{key: str(value) for key, value in join.totals.items()}}


def dropped_fraction(health: StreamHealth, now_s: float) -> float | None:
    """Dropped / (dropped + answered), or None when neither came."""
    dropped = health.drops.recent(now_s)
    handled = health.output.count(now_s)
    return dropped / (dropped + handled) if dropped + handled else None


def processing_values(health: StreamHealth, now_s: float) -> Values:
    dropped = dropped_fraction(health, now_s)
    values = {f"{stage} backend": backend for stage, backend in health.backends.items()}
    values.update({f"{stage} p50 / p95 (ms)": _milliseconds(window, now_s) for stage, window in health.stages_s.items()})
    values["dropped (%)"] = "none" if dropped is None else f"{100 * dropped:.0f}"
    values["dropped"] = str(health.drops.value)
    values["last error"] = health.last_error
    told = (("switching to", health.switching), ("change refused", health.switch_refused), ("prompts", health.prompts))
    for key, text in (*told, ("notes", "; ".join(health.notes))):
        if text:
            values[key] = text
    return values


def scene_values(health: StreamHealth, now_s: float) -> Values:
    values: Values = {}
    valid, rows = health.valid_fraction.percentiles(now_s), health.row_error
    if valid is not None:
        values["pixels with disparity (%)"] = f"{100 * valid[0]:.1f}"
    if rows is not None:
        values["row error, median (px)"] = f"{rows.median_abs_px:.2f}" if rows.known else "unknown"
        values["row offset, signed (px)"] = f"{rows.median_px:+.2f}" if rows.known else "unknown"
        values["row error points"] = str(rows.points)
    if health.objects:
        values["objects"] = health.objects
    if health.pair_findings:
        values["pair"] = " ".join(found.message for found in health.pair_findings)
    return values


def output_values(health: StreamHealth, now_s: float) -> Values:
    offset = health.clock_offset_s
    values = {
        "rate (Hz)": f"{health.output.rate(now_s):.2f}",
        "age p50 / p95 (ms)": _milliseconds(health.age_s, now_s),
        "since the newest (s)": "none" if health.last_output_s is None else f"{now_s - health.last_output_s:.2f}",
    }
    if offset is not None:
        values["clock"] = f"the stamps lie {abs(offset):.0f} s {'behind' if offset > 0 else 'before'} this node's clock"
    values.update({f"{topic} subscribers": str(count) for topic, count in health.subscribers.items()})
    values.update({f"{topic} unserved": who for topic, who in health.unserved.items()})
    return values


def machine_values(health: StreamHealth) -> Values:
    own = health.usage
    values = {
        "memory (MB)": f"{own.rss_mb:.1f}",
        "grown since warm (MB)": "not warm yet" if own.grown_mb is None else f"{own.grown_mb:.1f}",
    }
    if own.cpu_fraction is not None:
        values["CPU (cores)"] = f"{own.cpu_fraction:.2f}"
    if own.gpu_used_mb is not None:
        values["GPU memory used / free / all (MB)"] = f"{own.gpu_used_mb:.0f} / {own.gpu_free_mb:.0f} / {own.gpu_total_mb:.0f}"
    return values


def summary_values(health: StreamHealth, now_s: float) -> Values:
    return {"output rate (Hz)": f"{health.output.rate(now_s):.2f}", "age p50 / p95 (ms)": _milliseconds(health.age_s, now_s)}


def _milliseconds(window: Window, now_s: float, digits: int = 1) -> str:
    percentiles = window.percentiles(now_s)
    return "none" if percentiles is None else " / ".join(f"{value * 1e3:.{digits}f}" for value in percentiles)
