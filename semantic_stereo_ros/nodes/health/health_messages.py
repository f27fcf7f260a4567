"""Every sentence that /diagnostics can say, with its level and its remedy. docs/ros.md's troubleshooting table is made from them."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, ERROR = 0, 1, 2


@dataclass(frozen=True)
class Entry:
    """sentence, remedy: templates of one sentence. blocks: nothing comes out while it lasts.

    quotes: the sentence quotes a text that names its own remedy, so `remedy` stands in the table only.
    """

    level: int
    sentence: str
    remedy: str
    blocks: bool = False
    quotes: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """One thing that is so now. text: sentence and remedy, filled in."""

    key: str
    level: int
    text: str
    blocks: bool = False


# In the order of the way from the camera to the objects.
MESSAGES: dict[str, Entry] = {
    # the node itself
    "not_active": Entry(
        OK, "{state}: no frame is processed", "configure and activate the node (`ros2 lifecycle set`), or start it with autostart", True
    ),
    "loading": Entry(OK, "loading {what}", "wait; loading weights takes from seconds to a minute", True),
    "load_failed": Entry(ERROR, "loading failed: {error}", "mend what the sentence names and configure the node again", True, quotes=True),
    "disabled": Entry(OK, "switched off by the service `enable`", "call it with data: true", True),
    # inputs
    "input_qos": Entry(
        ERROR,
        "{topic}: a publisher's quality of service does not fit: {who}",
        "set input.reliability to best_effort, or let the publisher offer what is asked",
        True,
    ),
    "some_input_qos": Entry(
        WARN,
        "{topic}: one publisher is not heard, its quality of service does not fit: {who}",
        "stop that publisher, or set input.reliability to best_effort",
    ),
    "no_publisher": Entry(
        WARN, "nobody publishes {topics}", "start {source}, or remap the node's inputs (`ros2 topic list` shows what there is)", True
    ),
    "silent": Entry(
        WARN,
        "no {kind} has come on {topics} for {seconds:g} s though somebody publishes there",
        "look at the driver, its cable and `ros2 topic hz`; over a network, at lost best-effort messages",
        True,
    ),
    "no_info": Entry(
        WARN, "no camera_info has come on {topics}", "let the driver publish its calibration, or remap the camera_info topics", True
    ),
    "unsteady_info": Entry(
        WARN,
        "{topic} changed {times} times in the last {seconds:g} s, and tracking began anew each time",
        "let one source publish each camera_info (`ros2 topic info -v` names them)",
    ),
    "slow_input": Entry(
        WARN,
        "{topic} comes at {rate:.1f} Hz, less than diagnostics.min_input_rate_hz = {minimum:g}",
        "look at the driver's frame rate, exposure and bus, and at lost messages",
    ),
    # pairing
    "no_pairs": Entry(
        WARN,
        "left and right images come, but no two stamps lie within input.sync_tolerance_ms = {tolerance:g}{apart}",
        "synchronise the cameras' clocks or raise the tolerance",
        True,
    ),
    "no_joins": Entry(
        WARN, "what belongs together does not meet: {why}", "see that all nodes get the same images, and enlarge the ring", True
    ),
    "few_pairs": Entry(
        WARN,
        "only {fraction:.0%} of what comes is paired, less than diagnostics.min_pair_fraction = {minimum:.0%}{why}",
        "one side loses messages: look at the rates per topic, shared memory (docs/ros.md) and the tolerance",
    ),
    "jumped": Entry(
        WARN,
        "the stamps jumped back {times} times in the last {seconds:g} s, and everything began anew",
        "fine for a bag that loops or a simulator that was reset; else let one source publish a topic, and set no clock while it runs",
    ),
    "stamps": Entry(WARN, "{why}", "synchronise the drivers' clocks and let them stamp what they send", quotes=True),
    "skew": Entry(
        WARN,
        "left and right are taken {skew:.1f} ms apart (95 %), more than diagnostics.max_skew_ms = {maximum:g}",
        "trigger the cameras together: what moves is measured wrongly",
    ),
    # processing
    "frame_refused": Entry(
        ERROR, "{error}", "mend what the sentence names; the next good pair is processed without a restart", True, quotes=True
    ),
    "idle": Entry(
        OK, "idle: nobody subscribes to any output", "subscribe to one, or set output.process_idle to process all the same", True
    ),
    "unfinished": Entry(
        WARN,
        "pairs come, but none has been finished for {seconds:g} s: the processing is slower than that",
        "choose a faster backend, a smaller image or a smaller search range",
        True,
    ),
    "switching": Entry(OK, "{what} is being loaded while the old one goes on", "wait; the answer comes from the old one until then"),
    "switch_refused": Entry(
        WARN,
        "a change was not taken and the old setting goes on: {error}",
        "mend what the sentence names and set the parameter again",
        quotes=True,
    ),
    "backend_note": Entry(
        WARN,
        "{text}",
        "the backend works otherwise than asked: free memory, or mend what the sentence names",
        quotes=True,
    ),
    "dropping": Entry(
        WARN,
        "{fraction:.0%} of the pairs are dropped unprocessed, more than diagnostics.max_drop_fraction = {maximum:.0%}",
        "the processing is slower than the camera: choose a faster backend, a smaller image, or a lower camera rate",
    ),
    "slow_output": Entry(
        WARN,
        "answers come at {rate:.1f} Hz, less than diagnostics.min_output_rate_hz = {minimum:g}",
        "choose a faster backend or a smaller image; the latencies per stage say where the time goes",
    ),
    "old_output": Entry(
        WARN,
        "answers are {age:.2f} s old when they are published (95 %), more than diagnostics.max_age_s = {maximum:g}",
        "the latencies per stage say where the time goes; without load, look at the camera's clock and driver",
    ),
    "no_prompts": Entry(WARN, "prompts were not taken: {error}", "mend what the sentence names and send them again", quotes=True),
    # the pair and the scene
    "pair": Entry(ERROR, "{text}", "exchange, rectify or calibrate the cameras as the sentence says", quotes=True),
    "pair_doubt": Entry(WARN, "{text}", "mend the cameras, their calibration or their compression as the sentence says", quotes=True),
    "rows": Entry(
        WARN,
        "the rows of the pair are {error:.1f} px apart (median of {points} points), more than diagnostics.good_row_error_px = {maximum:g}",
        "calibrate the pair again for accurate distances",
    ),
    "rows_off": Entry(
        ERROR,
        "the pair is not rectified: rows are {error:.1f} px apart (median of {points} points), more than "
        "diagnostics.max_row_error_px = {maximum:g}",
        "give rectified images (input.rectify for raw ones), or calibrate the pair again: a camera has moved",
    ),
    "cannot_tell": Entry(
        WARN, "{reason}", "give the cameras light, focus and texture; check rectification and the disparity range", quotes=True
    ),
    "few_valid": Entry(
        WARN,
        "only {fraction:.0%} of the pixels have a known disparity, less than diagnostics.min_valid_fraction = {minimum:.0%}",
        "give the cameras light, focus and texture; check rectification and the disparity range",
    ),
    # outputs
    "output_qos": Entry(
        WARN,
        "a subscriber does not get {topic}, its quality of service does not fit: {who}",
        "let the subscriber ask for less, or set qos_overrides.{topic}.publisher.* of this node",
    ),
    # the machine
    "memory_growth": Entry(
        WARN,
        "the process has grown by {grown:.0f} MB to {rss:.0f} MB since it was warm, more than "
        "diagnostics.max_memory_growth_mb = {maximum:g}",
        "restart the node and report this",
    ),
    "gpu_memory": Entry(
        WARN,
        "{free:.0f} MB of GPU memory are free, less than diagnostics.min_gpu_free_mb = {minimum:g}",
        "choose a smaller model or image, or end other processes on this GPU",
    ),
}


def diagnose(key: str, **values: object) -> Diagnosis:
    """What MESSAGES says under `key`, filled in."""
    entry = MESSAGES[key]
    text = entry.sentence.format(**values)
    if not entry.quotes:
        text = f"{text}: {entry.remedy.format(**values)}"
    return Diagnosis(key, entry.level, text, entry.blocks)
