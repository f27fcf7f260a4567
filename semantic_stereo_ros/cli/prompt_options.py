"""The options of `semantic-stereo run` that say where objects are: --prompt-box, --prompt-point, --prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import typer

from semantic_stereo_ros.checks import ConfigError
from semantic_stereo_ros.config import PipelineConfig
from semantic_stereo_ros.io.prompt_files import Draft, GivenPrompts, gather, read_prompts
from semantic_stereo_ros.prompts import BoxPrompt, PointPrompt, PromptError, check_takes_prompts

BOX, POINT = "x0,y0,x1,y1[,class=NAME][,id=N]", "x,y[,+|-][,class=NAME][,id=N]"
_PANEL = "Prompts (for segmentation backends that take them: --segmentation sam2)"

Boxes = typer.Option(
    [],
    "--prompt-box",
    metavar=BOX,
    rich_help_panel=_PANEL,
    help="A box around an object, px of the (rectified) left image, x1 and y1 just beyond it: 20,150,90,220,class=cup. Repeatable.",
)
Points = typer.Option(
    [],
    "--prompt-point",
    metavar=POINT,
    rich_help_panel=_PANEL,
    help="A pixel of an object, or with - one beside it: 160,120,id=7 and 170,130,-,id=7. Prompts of one id are one object. Repeatable.",
)
File = typer.Option(
    None,
    "--prompts",
    metavar="FILE",
    rich_help_panel=_PANEL,
    help="YAML or JSON with a list `objects`: id, class, points, negative_points, boxes, masks (image files) and boxes_3d (center_m, "
    "size_m, orientation_xyzw, frame: left or world), see docs/sam2.md.",
)


def given_prompts(
    boxes: Sequence[str], points: Sequence[str], file: Optional[Path], config: PipelineConfig, masks: Optional[Path]
) -> Optional[GivenPrompts]:
    """What the options say together; None for nothing. Raises ConfigError, InputFileError, and PromptError, also when nobody takes prompts.

    masks: of --masks, which leaves nothing to be prompted.
    """
    drafts = [_box(text) for text in boxes] + [_point(text) for text in points]
    if file is not None:
        drafts += read_prompts(file)
    if not drafts:
        return None
    if masks is not None:
        raise ConfigError("--masks says which pixels are objects, so that no prompt is asked: leave the one or the other out")
    check_takes_prompts(config.segmentation.backend)
    return gather(drafts)


def _box(text: str) -> Draft:
    numbers, name, object_id = _words(text, "--prompt-box", BOX)
    try:
        x0, y0, x1, y1 = map(float, numbers)
    except ValueError:
        raise ConfigError(f"--prompt-box takes {BOX}, got {text!r}") from None
    return _drafted(lambda: BoxPrompt(1, (x0, y0, x1, y1), class_name=name), object_id, "--prompt-box", text)


def _point(text: str) -> Draft:
    words, name, object_id = _words(text, "--prompt-point", POINT)
    sign = words.pop() if len(words) == 3 else "+"
    try:
        x, y = map(float, words)
    except ValueError:
        raise ConfigError(f"--prompt-point takes {POINT}, got {text!r}") from None
    if sign not in ("+", "-"):
        raise ConfigError(f"--prompt-point takes + or - after x,y, got {sign!r} in {text!r}")
    return _drafted(lambda: PointPrompt(1, (x, y), sign == "+", class_name=name), object_id, "--prompt-point", text)


def _drafted(make, object_id: Optional[int], option: str, text: str) -> Draft:
    try:
        return Draft(make(), object_id)
    except PromptError as error:
        raise PromptError(f"{option} {text}: {error}") from error


def _words(text: str, option: str, form: str) -> tuple[list[str], str, Optional[int]]:
    """Plain words, the class ('' if none) and the id."""
    words: list[str] = []
    named = {"class": "", "id": ""}
    for word in (part.strip() for part in text.split(",")):
        key, separator, value = word.partition("=")
        if not separator:
            words.append(word)
        elif key in named and value:
            named[key] = value
        else:
            raise ConfigError(f"{option} takes {form}, got {word!r} in {text!r}")
    if named["id"] and not named["id"].isdecimal():
        raise ConfigError(f"{option}: an id is a number above zero, got {named['id']!r} in {text!r}")
    return words, named["class"], int(named["id"]) if named["id"] else None
