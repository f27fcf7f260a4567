"""Judges a StreamHealth: what is wrong, in words, walking the way from the camera to the objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from semantic_stereo_ros.nodes.health.health_messages import OK, WARN, Diagnosis, diagnose
from semantic_stereo_ros.nodes.health.health_values import (
    Values,
    dropped_fraction,
    input_values,
    machine_values,
    output_values,
    pairing_values,
    processing_values,
    scene_values,
    summary_values,
)
from semantic_stereo_ros.nodes.health.stream_health import InputHealth, StreamHealth
from semantic_stereo_ros.nodes.health.windows import SPAN_S
from semantic_stereo_ros.nodes.runtime.node_options import DiagnosticsConfig

GRACE_S = 6.0


@dataclass(frozen=True)
class Status:
    """One DiagnosticStatus. name: of the part; level: 0..2; values: what the numbers are."""

    name: str
    level: int
    message: str
    values: Values


@dataclass(frozen=True)
class Verdict:
    """statuses[0] is the summary. diagnoses: what is so now, the most important first; empty when all is well."""

    statuses: tuple[Status, ...]
    diagnoses: tuple[Diagnosis, ...]

    @property
    def level(self) -> int:
        return self.statuses[0].level

    @property
    def message(self) -> str:
        return self.statuses[0].message


def judge(health: StreamHealth, config: DiagnosticsConfig, now_s: float) -> Verdict:
    """The summary is the first thing that keeps answers from coming, else the gravest one, else how fast it runs; each part's
    status says all that is wrong with it.

    Behind what blocks nothing can be judged: those parts say that they wait. What is only missing is no fault in the first seconds.
    """
    sections = [
        ("inputs", _inputs(health, config, now_s), input_values(health, now_s)),
        ("pairing", _pairing(health, config, now_s), pairing_values(health, now_s)),
        ("processing", _processing(health, config, now_s), processing_values(health, now_s)),
        ("scene", _scene(health, config, now_s), scene_values(health, now_s)),
        ("outputs", _outputs(health, config, now_s), output_values(health, now_s)),
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
    statuses.append(_status("machine", machine, "", machine_values(health), health, now_s))
    if health.halted is not None:
        found.insert(0, health.halted)
    found.sort(key=_importance)
    running = f"running at {health.output.rate(now_s):.1f} Hz"
    summary = _status("summary", found, running, summary_values(health, now_s), health, now_s)
    return Verdict((summary, *statuses), tuple(found))


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
    dropped = dropped_fraction(health, now_s)
    if dropped is not None and dropped > config.max_drop_fraction:
        yield diagnose("dropping", fraction=dropped, maximum=config.max_drop_fraction)


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


# Outputs ----------------------------------------------------------------------------------------------------------------------


def _outputs(health: StreamHealth, config: DiagnosticsConfig, now_s: float) -> Iterator[Diagnosis]:
    rate, age = health.output.rate(now_s), health.age_s.percentiles(now_s)
    if rate < config.min_output_rate_hz:
        yield diagnose("slow_output", rate=rate, minimum=config.min_output_rate_hz)
    if age is not None and age[1] > config.max_age_s:
        yield diagnose("old_output", age=age[1], maximum=config.max_age_s)


# The machine ------------------------------------------------------------------------------------------------------------------


def _machine(health: StreamHealth, config: DiagnosticsConfig) -> Iterator[Diagnosis]:
    own = health.usage
    if own.grown_mb is not None and own.grown_mb > config.max_memory_growth_mb:
        yield diagnose("memory_growth", grown=own.grown_mb, rss=own.rss_mb, maximum=config.max_memory_growth_mb)
    if own.gpu_free_mb is not None and own.gpu_free_mb < config.min_gpu_free_mb:
        yield diagnose("gpu_memory", free=own.gpu_free_mb, minimum=config.min_gpu_free_mb)
