"""Judges a StreamHealth: what is wrong, in words, walking the way from the camera to the objects; and all numbers beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from semantic_stereo_ros.nodes.health.health_messages import OK, WARN, Diagnosis, diagnose
from semantic_stereo_ros.nodes.health.stream_health import InputHealth, StreamHealth
from semantic_stereo_ros.nodes.health.windows import SPAN_S, Window
from semantic_stereo_ros.nodes.runtime.node_options import DiagnosticsConfig

GRACE_S = 6.0
Values = dict[str, str]


@dataclass(frozen=True)
class Status:
    """One DiagnosticStatus. name: of the part; level: 0..2; values: what the numbers are."""

    name: str
    level: int
    message: str
    values: Values


@dataclass(frozen=True)
class Assessment:
    """statuses[0] is the summary. findings: what is so now, the most important first; empty when all is well."""

    statuses: tuple[Status, ...]
    findings: tuple[Diagnosis, ...]

    @property
    def level(self) -> int:
        return self.statuses[0].level

    @property
    def message(self) -> str:
        return self.statuses[0].message


def assess(health: StreamHealth, config: DiagnosticsConfig, now_s: float) -> Assessment:
    """The summary is the first thing that keeps answers from coming, else the gravest finding, else how fast it runs; each part's
    status says all that is wrong with it.

    Behind what blocks nothing can be judged: those parts say that they wait. What is only missing is no fault in the first seconds.
    """
    sections = [
        ("inputs", _inputs(health, config, now_s), _input_values(health, now_s)),
        ("pairing", _pairing(health, config, now_s), _pairing_values(health, now_s)),
        ("processing", _processing(health, config, now_s), _processing_values(health, now_s)),
        ("scene", _scene(health, config, now_s), _scene_values(health, now_s)),
        ("outputs", _outputs(health, config, now_s), _output_values(health, now_s)),
    ]
    everywhere = [diagnose("output_qos", topic=topic, who=who) for topic, who in health.unserved.items()]
    machine = list(_machine(health, config))
    found: list[Diagnosis] = []
    statuses: list[Status] = []
    stop = health.halted
    for name, judged, values in sections:
        own = list(judged) if stop is None else []
        if stop is not None:
            message = f"waits: {stop.text}"
        else:
            blocking = next((d for d in own if d.blocks), None)
            own = own[: own.index(blocking) + 1] if blocking is not None else own
            stop, message = blocking, ""
        own += everywhere if name == "outputs" else []
        found += own
        if values:
            statuses.append(_status(name, own, message, values, health, now_s))
    found += machine
    statuses.append(_status("machine", machine, "", _machine_values(health), health, now_s))
    if health.halted is not None:
        found.insert(0, health.halted)
    found.sort(key=_importance)
    running = f"running at {health.output.rate(now_s):.1f} Hz"
    summary = _status("summary", found, running, _summary_values(health, now_s), health, now_s)
    return Assessment((summary, *statuses), tuple(found))


def _importance(item: Diagnosis) -> tuple[bool, int, bool]:
    return (not (item.blocks and item.level > OK), -item.level, not item.blocks)


def _status(name: str, found: list[Diagnosis], otherwise: str, values: Values, health: StreamHealth, now_s: float) -> Status:
    if not found:
        return Status(name, OK, otherwise or "OK", values)
    worst = min(found, key=_importance)
    level, text = worst.level, worst.text
    if level == WARN and worst.blocks and now_s - health.started_s < GRACE_S and not health.output.count(now_s):
        level, text = OK, f"starting: {text}"
    others = [d.text for d in found if d is not worst and d.level > OK]
    if name == "summary":
        text += f" (and {len(others)} more)" if others else ""
    else:
        text = "; also: ".join([text, *others])
    return Status(name, level, text, values)


# Inputs -----------------------------------------------------------------------------------------------------------------------


def _inputs(health: StreamHealth, config: DiagnosticsConfig, now_s: float) -> Iterator[Diagnosis]:
    streams = [i for i in health.inputs.values() if not i.once]
    silent = [i for i in streams if not i.received.count(now_s)]
    for item in silent:
        if item.unheard:
            yield diagnose("input_qos", topic=item.topic, who=item.unheard)
    absent = [i for i in silent if not i.publishers]
    if absent:
        topics, sources = (" and ".join(dict.fromkeys(texts)) for texts in ([i.topic for i in absent], [i.source for i in absent]))
        yield diagnose("no_publisher", topics=topics, source=sources)
    if silent:
        yield diagnose("silent", kind=silent[0].kind, topics=" and ".join(i.topic for i in silent), seconds=SPAN_S)
    infos = [i.topic for i in health.inputs.values() if i.once and i.newest_stamp_ns is None]
    if infos:
        yield diagnose("no_info", topics=" and ".join(infos))
    for item in health.inputs.values():
        if (changes := item.changes.count(now_s)) > 1:
            yield diagnose("unsteady_info", topic=item.topic, times=changes, seconds=SPAN_S)
    for item in streams:
        rate = item.received.rate(now_s)
        if rate < config.min_input_rate_hz:
            yield diagnose("slow_input", topic=item.topic, rate=rate, minimum=config.min_input_rate_hz)
        if item.unheard:
            yield diagnose("some_input_qos", topic=item.topic, who=item.unheard)


def _input_values(health: StreamHealth, now_s: float) -> Values:
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


# Pairing ----------------------------------------------------------------------------------------------------------------------


def _pairing(health: StreamHealth, config: DiagnosticsConfig, now_s: float) -> Iterator[Diagnosis]:
    join = health.join
    if join is None:
        return
    fraction, skew = join.fraction(now_s), join.skew_s.percentiles(now_s)
    why = f"; {join.why}" if join.why else ""
    if not join.joined.count(now_s):
        if join.tolerance_ms is None:
            yield diagnose("no_joins", why=join.why or "no two stamps are equal")
        else:
            yield diagnose("no_pairs", tolerance=join.tolerance_ms, apart=_apart(list(health.inputs.values())) + why)
    if join.jumps.recent(now_s):
        yield diagnose("jumped", times=join.jumps.recent(now_s), seconds=SPAN_S)
    if fraction is not None and fraction < config.min_pair_fraction:
        yield diagnose("few_pairs", fraction=fraction, minimum=config.min_pair_fraction, why=why)
    elif join.why and join.tolerance_ms is not None:
        yield diagnose("stamps", why=join.why)
    if skew is not None and skew[1] * 1e3 > config.max_skew_ms:
        yield diagnose("skew", skew=skew[1] * 1e3, maximum=config.max_skew_ms)


def _apart(inputs: list[InputHealth]) -> str:
    stamps = [i.newest_stamp_ns for i in inputs if not i.once and i.newest_stamp_ns is not None]
    return f"; the newest stamps are {(max(stamps) - min(stamps)) / 1e6:.1f} ms apart" if len(stamps) > 1 else ""


def _pairing_values(health: StreamHealth, now_s: float) -> Values:
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


# Processing -------------------------------------------------------------------------------------------------------------------


def _processing(health: StreamHealth, config: DiagnosticsConfig, now_s: float) -> Iterator[Diagnosis]:
    if not health.wanted:
        yield diagnose("idle")
    if health.last_error:
        yield diagnose("frame_refused", error=health.last_error)
    at_work_s = 0.0 if health.busy_since_s is None else now_s - health.busy_since_s
    if at_work_s >= SPAN_S and not health.output.count(now_s):
        yield diagnose("unfinished", seconds=SPAN_S)
    if health.switching:
        yield diagnose("switching", what=health.switching)
    if health.switch_refused:
        yield diagnose("switch_refused", error=health.switch_refused)
    if health.prompts_refused:
        yield diagnose("no_prompts", error=health.prompts_refused)
    for text in health.notes:
        yield diagnose("backend_note", text=text)
    dropped = _dropped_fraction(health, now_s)
    if dropped is not None and dropped > config.max_drop_fraction:
        yield diagnose("dropping", fraction=dropped, maximum=config.max_drop_fraction)


def _dropped_fraction(health: StreamHealth, now_s: float) -> float | None:
    dropped = health.drops.recent(now_s)
    handled = health.output.count(now_s)
    return dropped / (dropped + handled) if dropped + handled else None


def _processing_values(health: StreamHealth, now_s: float) -> Values:
    dropped = _dropped_fraction(health, now_s)
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


# The scene and the pair of cameras --------------------------------------------------------------------------------------------


def _scene(health: StreamHealth, config: DiagnosticsConfig, now_s: float) -> Iterator[Diagnosis]:
    rows = health.row_error
    measured = rows is not None and rows.known
    for found in health.pair_findings:
        # The watch measures rows more often than the full check and forgets sooner.
        if not (measured and found.kind in ("row_error", "unrectified")):
            yield diagnose("pair" if found.fatal else "pair_doubt", text=found.message)
    if rows is not None and measured:
        if rows.median_abs_px > config.max_row_error_px:
            yield diagnose("rows_off", error=rows.median_abs_px, points=rows.points, maximum=config.max_row_error_px)
        elif rows.median_abs_px > config.good_row_error_px:
            yield diagnose("rows", error=rows.median_abs_px, points=rows.points, maximum=config.good_row_error_px)
    valid = health.valid_fraction.percentiles(now_s)
    if health.scene_reason:
        yield diagnose("cannot_tell", reason=health.scene_reason)
    elif valid is not None and valid[0] < config.min_valid_fraction:
        yield diagnose("few_valid", fraction=valid[0], minimum=config.min_valid_fraction)


def _scene_values(health: StreamHealth, now_s: float) -> Values:
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


# Outputs ----------------------------------------------------------------------------------------------------------------------


def _outputs(health: StreamHealth, config: DiagnosticsConfig, now_s: float) -> Iterator[Diagnosis]:
    rate, age = health.output.rate(now_s), health.age_s.percentiles(now_s)
    if rate < config.min_output_rate_hz:
        yield diagnose("slow_output", rate=rate, minimum=config.min_output_rate_hz)
    if age is not None and age[1] > config.max_age_s:
        yield diagnose("old_output", age=age[1], maximum=config.max_age_s)


def _output_values(health: StreamHealth, now_s: float) -> Values:
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


# The machine ------------------------------------------------------------------------------------------------------------------


def _machine(health: StreamHealth, config: DiagnosticsConfig) -> Iterator[Diagnosis]:
    own = health.resources
    if own.grown_mb is not None and own.grown_mb > config.max_memory_growth_mb:
        yield diagnose("memory_growth", grown=own.grown_mb, rss=own.rss_mb, maximum=config.max_memory_growth_mb)
    if own.gpu_free_mb is not None and own.gpu_free_mb < config.min_gpu_free_mb:
        yield diagnose("gpu_memory", free=own.gpu_free_mb, minimum=config.min_gpu_free_mb)


def _machine_values(health: StreamHealth) -> Values:
    own = health.resources
    values = {
        "memory (MB)": f"{own.rss_mb:.1f}",
        "grown since warm (MB)": "not warm yet" if own.grown_mb is None else f"{own.grown_mb:.1f}",
    }
    if own.cpu_fraction is not None:
        values["CPU (cores)"] = f"{own.cpu_fraction:.2f}"
    if own.gpu_used_mb is not None:
        values["GPU memory used / free / all (MB)"] = f"{own.gpu_used_mb:.0f} / {own.gpu_free_mb:.0f} / {own.gpu_total_mb:.0f}"
    return values


def _summary_values(health: StreamHealth, now_s: float) -> Values:
    return {"output rate (Hz)": f"{health.output.rate(now_s):.2f}", "age p50 / p95 (ms)": _milliseconds(health.age_s, now_s)}


def _milliseconds(window: Window, now_s: float, digits: int = 1) -> str:
    percentiles = window.percentiles(now_s)
    return "none" if percentiles is None else " / ".join(f"{value * 1e3:.{digits}f}" for value in percentiles)
