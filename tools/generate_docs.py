"""Rewrite the generated parts of docs/ros.md: parameters, output topics, and the table of what /diagnostics says.

    .venv/bin/python tools/generate_docs.py            rewrites what is out of date
    .venv/bin/python tools/generate_docs.py --check    only says whether anything is; exit code 1 if so

Each part stands between its two markers; what is outside of them is written by hand. The topics come from code that imports rclpy:
without it they are left as they are.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from semantic_stereo_ros.nodes.health.health_messages import ERROR, MESSAGES, OK, WARN  # noqa: E402
from semantic_stereo_ros.nodes.runtime.node_options import known_keys  # noqa: E402
from semantic_stereo_ros.options import Option  # noqa: E402

PAGE = ROOT / "docs" / "ros.md"
LIFECYCLE_NODES = ("pipeline_node", "stereo_node", "segmentation_node", "fusion_node")

# First part of a parameter's name -> the nodes that have it. test/nodes/test_documented_graph.py compares with the nodes.
PARAMETER_NODES = {
    "autostart": LIFECYCLE_NODES,
    "input": LIFECYCLE_NODES,
    "output": LIFECYCLE_NODES,
    "diagnostics": LIFECYCLE_NODES,
    "stereo": ("pipeline_node", "stereo_node"),
    "segmentation": ("pipeline_node", "segmentation_node"),
    "fusion": ("pipeline_node", "fusion_node"),
    "tracking": ("pipeline_node", "fusion_node"),
    "join": ("segmentation_node", "fusion_node"),
    "camera": ("camera_node",),
    "player": ("player_node",),
}

TOPIC_NOTES = {
    "objects": "the answer: every object with distance and sigma; `NO_OBJECTS` where none could stand unseen; else `CANNOT_TELL` and why",
    "obstacles": "xyz, points above the ground, those of no instance included; empty = nothing there; withheld when that cannot be told",
    "clearing": "xyz, thinned, ground included: what has been seen and may be cleared; withheld while `CANNOT_TELL`",
    "masks": "label image (mono16) per level and one record per instance",
    "mask/class": "mono8, class ids of `config/labels.yaml`; every `output.stride`-th pixel",
    "disparity": "32FC1 in px, `d + doffs`, so that Z = f T / d; NaN = unknown",
    "disparity_sigma": "32FC1, standard deviation in px",
    "confidence": "32FC1, 0..1; every `output.stride`-th pixel",
    "depth/image_rect": "32FC1 in m with NaN = unknown, or 16UC1 in mm with 0 = unknown (`output.depth_encoding`)",
    "depth/camera_info": "of `depth/image_rect`",
    "points": "organised; x y z, rgb, label, instance, confidence; every `output.stride`-th pixel; NaN = unknown",
    "markers": "boxes and texts for RViz and Foxglove",
    "overlay": "rgb8: masks, names and distances drawn over the left image",
    "detections_3d": "the measured objects for readers of vision_msgs; only where it is installed",
    "label_info": "once, transient local: the names of the ids of `mask/class`; only where vision_msgs is installed",
    "stereo/left/camera_info": "split graph: the rig of the frame that stereo_node takes",
    "stereo/right/camera_info": "split graph: the same",
    "stereo/left/image_rect": "split graph: its left image, rectified and decoded",
    "stereo/confidence": "split graph: confidence of every pixel",
}
VISION_OUTPUTS = (("detections_3d", "vision_msgs/Detection3DArray", "fusion"), ("label_info", "vision_msgs/LabelInfo", "fusion"))
STAGE_NODES = {"announcement": "stereo_node", "stereo": "stereo_node", "segmentation": "segmentation_node", "fusion": "fusion_node"}

# What stands where a finding quotes another sentence.
QUOTED = {
    "load_failed": "*why*: a library, a file or a checkpoint is missing or broken",
    "stamps": "*what is wrong with them*: a stamp of 0, or left and right drifting apart",
    "frame_refused": "*why*: an encoding, an image size, truncated data, a calibration that cannot be (baseline, NaN, unrectified), TF",
    "pair": "*what the images show*: both the same, left and right exchanged, or rows far apart",
    "pair_doubt": "*what the images show*: rows somewhat apart, too few points to tell, disparities beyond the search range, "
    "or the blocks of hard JPEG compression; or a calibration whose fx and fy differ",
    "cannot_tell": "*why too little of the view could be measured*",
}
LEVELS = {OK: "OK", WARN: "WARN", ERROR: "ERROR"}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; what Markdown or HTML would take for their own inside of a cell is escaped."""
    head = list(head)
    lines = ["| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in row) + " |" for row in (head, *rows)]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)


def code(value: object) -> str:
    """A value as it is written on the command line."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else "empty"


def limits(option: Option) -> str:
    """The choices or the range of an option in words; '' where anything of its type will do."""
    if option.choices is not None:
        return " ".join(code(choice) for choice in option.choices)
    low, high = (None if bound is None else f"{bound:g}" for bound in (option.minimum, option.maximum))
    if low is None and high is None:
        return ""
    return f"{low or ''} .. {high or ''}".strip()


def parameters() -> str:
    """One table per first part of the parameters' names."""
    groups: dict[str, list[tuple[str, Option]]] = {}
    for key, option in known_keys().items():
        groups.setdefault(key.partition(".")[0], []).append((key, option))
    parts = []
    for name, nodes in PARAMETER_NODES.items():
        rows = (
            (code(key), option.type.__name__, code(option.default), option.unit, limits(option), "yes" if option.dynamic else "at start",
             option.description)
            for key, option in groups.pop(name)
        )  # fmt: skip
        head = ("parameter", "type", "default", "unit", "range, choices", "changes", "meaning")
        where = "the four lifecycle nodes" if nodes == LIFECYCLE_NODES else ", ".join(nodes)
        parts.append(f"**`{name}`**: {where}\n\n{table(head, rows)}")
    if groups:
        raise SystemExit(f"{Path(__file__).name}: say in PARAMETER_NODES which nodes have the parameters {', '.join(groups)}")
    return "\n\n".join(parts)


def outputs() -> str:
    """The published topics in order of publication. Raises ImportError without rclpy or the compiled messages."""
    from semantic_stereo_ros.nodes.outputs.publishers import HANDOVERS, OUTPUTS

    def described(output) -> tuple[str, str, str]:
        return output.topic, f"{output.kind.__module__.partition('.')[0]}/{output.kind.__name__}", output.stage

    found = [*map(described, OUTPUTS), *VISION_OUTPUTS, *map(described, HANDOVERS)]
    lacking = [topic for topic, _, _ in found if topic not in TOPIC_NOTES]
    if lacking:
        raise SystemExit(f"{Path(__file__).name}: say in TOPIC_NOTES what is on the topics {', '.join(lacking)}")
    rows = ((code(topic), kind, STAGE_NODES[stage], TOPIC_NOTES[topic]) for topic, kind, stage in found)
    return table(("topic", "type", "split graph: node", "content"), rows)


def messages() -> str:
    """The sentences of /diagnostics in the order in which they are looked for, values in italics."""
    rows = []
    for key, entry in MESSAGES.items():
        sentence = QUOTED.get(key) or readable(entry.sentence)
        rows.append((LEVELS[entry.level], "nothing" if entry.blocks else "", sentence, readable(entry.remedy)))
    return table(("level", "comes out", "what /diagnostics says", "what to do"), rows)


def readable(template: str) -> str:
    """'{rate:.1f} Hz' -> '*rate* Hz'."""
    return re.sub(r"\{(\w+)[^}]*\}", r"*\1*", template.replace("*", "\\*")).replace("**", "* *")


PARTS: dict[str, Callable[[], str]] = {"outputs": outputs, "parameters": parameters, "messages": messages}


def renewed(page: str, name: str, content: str) -> str:
    """The page with one part replaced. Raises SystemExit when its markers are missing."""
    begin, end = f"<!-- generated by tools/generate_docs.py: {name} -->", f"<!-- end of {name} -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise SystemExit(f"{PAGE} must hold the lines '{begin}' and '{end}' once each")
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n{content}\n\n{end}{rest.partition(end)[2]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a part is out of date")
    check = parser.parse_args().check
    page, stale = PAGE.read_text(encoding="utf-8"), []
    for name, make in PARTS.items():
        try:
            fresh = renewed(page, name, make())
        except ImportError as error:
            print(f"{name}: left as it is, {error}", file=sys.stderr)
            continue
        if fresh != page:
            stale.append(name)
            if check:
                print(*difflib.unified_diff(page.splitlines(), fresh.splitlines(), "docs/ros.md", "the code", lineterm="", n=0), sep="\n")
        page = fresh
    if stale and check:
        print(f"docs/ros.md is out of date ({', '.join(stale)}): run `.venv/bin/python tools/generate_docs.py` and commit the page")
        return 1
    if stale:
        PAGE.write_text(page, encoding="utf-8")
    print(f"docs/ros.md: {'rewrote ' + ', '.join(stale) if stale else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
