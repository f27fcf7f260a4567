"""Pictures for people: instances with their distances, and disparity in colour."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np

from semantic_stereo_ros.geometry.points import project
from semantic_stereo_ros.types import ObjectState, OrientedBox, Scene, SceneObject, Segmentation, as_rgb8

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PREDICTED = (ObjectState.OCCLUDED, ObjectState.LOST, ObjectState.PREDICTED)
_UNTRACKED = (170, 170, 170)
Rect = tuple[int, int, int, int]


def id_color(object_id: int) -> tuple[int, int, int]:
    """RGB of an object id: the same in every frame, and far apart for neighbouring ids (golden-ratio hues)."""
    hue = (object_id * 0.6180339887498949) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85 if object_id % 2 else 0.6, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_disparity(disparity_px: np.ndarray, min_px: float | None = None, max_px: float | None = None) -> np.ndarray:
    """(H, W) float px, NaN unknown -> (H, W, 3) uint8 RGB: near is red, far is blue (turbo), unknown is black.

    The range is the 1st to the 99th percentile of what is known when it is not given.
    """
    known = np.isfinite(disparity_px)
    if not known.any():
        return np.zeros((*disparity_px.shape, 3), np.uint8)
    low, high = np.percentile(disparity_px[known], (1, 99)) if min_px is None or max_px is None else (min_px, max_px)
    low, high = (low if min_px is None else min_px), (high if max_px is None else max_px)
    scaled = np.clip((np.where(known, disparity_px, low) - low) * (255.0 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    colored = cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    colored[~known] = 0
    return colored


def draw_segmentation(image: np.ndarray, segmentation: Segmentation, ids: dict[int, int] | None = None) -> np.ndarray:
    """(H, W) or (H, W, 3) image -> (H, W, 3) uint8 RGB with the object layer's masks and contours.

    ids: label -> object id for colours that are stable over frames, grey for a label without one; the label itself by default.
    """
    labels = segmentation.labels
    palette = np.zeros((int(labels.max(initial=0)) + 1, 3), np.uint8)
    for label in range(1, len(palette)):
        object_id = label if ids is None else ids.get(label)
        palette[label] = _UNTRACKED if object_id is None else id_color(object_id)
    canvas = as_rgb8(image).copy()
    inside = labels > 0
    colors = palette[labels]
    canvas[inside] = (0.6 * canvas[inside] + 0.4 * colors[inside]).astype(np.uint8)
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    edge = cv2.dilate(edge.astype(np.uint8), np.ones((2, 2), np.uint8)).astype(bool)
    canvas[edge & inside] = colors[edge & inside]
    return canvas


def draw_scene(scene: Scene, background: np.ndarray | None = None) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the left image with every object's mask, id, class, distance and sigma.

    A predicted object (OCCLUDED, LOST) is a dashed box; 'UNMEASURED' says that the distance is unknown. Labels lie inside the
    image and do not cover each other while there is room; nearer objects choose their place first.
    """
    ids = {item.label: item.object_id for item in scene.objects if item.label is not None}
    canvas = draw_segmentation(scene.frame.left if background is None else background, scene.segmentation, ids)
    height, width = canvas.shape[:2]
    boxes = {item.object_id: object_rect(item, scene) for item in scene.objects}
    for item in scene.objects:
        rect = boxes[item.object_id]
        if rect is not None and item.state in _PREDICTED:
            _dashed_rect(canvas, rect, id_color(item.object_id), 1 + (height > 700))
        elif rect is not None and item.state == ObjectState.UNMEASURED:
            cv2.rectangle(canvas, rect[:2], (rect[2] - 1, rect[3] - 1), id_color(item.object_id), 1)
    shown = [item for item in scene.objects if boxes[item.object_id] is not None]
    shown.sort(key=lambda item: item.distance_m if math.isfinite(item.distance_m) else math.inf)
    texts, scale = _texts_and_scale(shown, (width, height))
    plates: list[Rect] = []
    for item, lines in zip(shown, texts):
        box = _target(item, scene, boxes[item.object_id], _plate_size(lines, scale))
        plates.append(place_label(_plate_size(lines, scale), box, plates, (width, height)))
        _draw_leader(canvas, plates[-1], box, id_color(item.object_id))
    for item, lines, plate in zip(shown, texts, plates):
        _draw_plate(canvas, lines, plate, id_color(item.object_id), scale)
    if not scene.objects:
        text = scene.status.name.replace("_", " ").lower() + (f": {scene.reason}" if scene.reason else "")
        plate = place_label(_plate_size([text], scale), (0, 0, width, height), [], (width, height))
        _draw_plate(canvas, [text], plate, (255, 255, 255), scale)
    return canvas


def _target(item: SceneObject, scene: Scene, box: Rect | None, plate_wh: tuple[int, int]) -> Rect:
    """What a label points at: the box of a small object, which the label must not hide; the mask's innermost pixel of a large one."""
    assert box is not None
    if item.label is None or (box[2] - box[0]) * (box[3] - box[1]) < 6 * plate_wh[0] * plate_wh[1]:
        return box
    mask = (scene.segmentation.labels[box[1] : box[3], box[0] : box[2]] == item.label).astype(np.uint8)
    if not mask.any():
        return box
    inward = cv2.distanceTransform(cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(inward.argmax()), inward.shape)
    x, y = box[0] + int(column) - 1, box[1] + int(row) - 1
    return (x, y, x + 1, y + 1)


def _texts_and_scale(items: Sequence[SceneObject], image_wh: tuple[int, int]) -> tuple[list[list[str]], float]:
    """Full labels as large as the image bears; where they would fill a quarter of it, one-line labels, and smaller ones."""
    scale = min(max(min(image_wh[0] / 1600.0, image_wh[1] / 900.0), 0.4), 1.2)
    full = [label_lines(item) for item in items]
    short = [[short_label(item)] for item in items]
    for texts, factor in ((full, 1.0), (full, 0.85), (short, 1.0), (short, 0.85)):
        chosen = max(scale * factor, 0.36)
        sizes = [_plate_size(lines, chosen) for lines in texts]
        if sum(width * height for width, height in sizes) < 0.22 * image_wh[0] * image_wh[1]:
            return texts, chosen
    return short, max(scale * 0.7, 0.33)


def label_lines(item: SceneObject) -> list[str]:
    """'#3 car', then '12.40 +/-0.31 m' and the state where it is not VISIBLE."""
    lines = [f"#{item.object_id} {item.class_name}"]
    if math.isfinite(item.distance_m):
        digits = _decimals(item.distance_sigma_m, 2 if item.distance_m < 100 else 1)
        text = f"{item.distance_m:.{digits}f}"
        if math.isfinite(item.distance_sigma_m):
            text += f" +/-{item.distance_sigma_m:.{digits}f}"
        lines.append(f"{text} m")
    else:
        lines.append("distance unknown")
    if item.state in _PREDICTED:
        lines.append(f"{item.state.name.lower()} (predicted)")
    return lines


def short_label(item: SceneObject) -> str:
    """One line for crowded pictures: '3 car 12.4 +/-0.3 m'; the plain class 'object' is left out, a predicted object has a '?'."""
    name = "" if item.class_name == "object" else f" {item.class_name}"
    mark = "?" if item.state in _PREDICTED else ""
    if not math.isfinite(item.distance_m):
        return f"{item.object_id}{mark}{name} unknown"
    digits = _decimals(item.distance_sigma_m, 1)
    sigma = f" +/-{item.distance_sigma_m:.{digits}f}" if math.isfinite(item.distance_sigma_m) else ""
    return f"{item.object_id}{mark}{name} {item.distance_m:.{digits}f}{sigma} m"


def _decimals(sigma_m: float, usual: int) -> int:
    """As many decimals as usual, or as many as keep a small sigma from being shown as 0."""
    return next((digits for digits in range(usual, 4) if not abs(sigma_m) < 0.5 * 10.0**-digits), 4)


def object_rect(item: SceneObject, scene: Scene) -> Rect | None:
    """The object's box in the image, clipped: of its mask, else its predicted 3D box projected; None outside the view."""
    height, width = scene.frame.shape
    if item.measurement is not None:
        return _clipped(item.measurement.box_xyxy, width, height)
    if item.box is not None:
        corners = project(box_corners(item.box), scene.frame.rig)
        if np.isfinite(corners).all():
            low, high = corners.min(axis=0), corners.max(axis=0)
            return _clipped((int(low[0]), int(low[1]), int(high[0]) + 1, int(high[1]) + 1), width, height)
    pixel = project(np.asarray(item.position_m, np.float64)[None], scene.frame.rig)[0]
    if not np.isfinite(pixel).all():
        return None
    half = max(6, round(0.25 * scene.frame.rig.fx / float(item.position_m[2])))
    u, v = int(np.clip(pixel[0], -1e6, 1e6)), int(np.clip(pixel[1], -1e6, 1e6))
    return _clipped((u - half, v - half, u + half, v + half), width, height)


def box_corners(box: OrientedBox) -> np.ndarray:
    """(8, 3) corners of an oriented box, camera frame, m."""
    from scipy.spatial.transform import Rotation

    signs = np.array([[i, j, k] for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)])
    return box.center_m + Rotation.from_quat(box.orientation_xyzw).apply(signs * box.size_m)


def _clipped(box: Sequence[int], width: int, height: int) -> Rect | None:
    x0, y0, x1, y1 = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
    return (int(x0), int(y0), int(x1), int(y1)) if x1 > x0 and y1 > y0 else None


def _dashed_rect(canvas: np.ndarray, rect: Rect, color: tuple[int, int, int], thickness: int, dash: int = 6) -> None:
    x0, y0, x1, y1 = rect[0], rect[1], rect[2] - 1, rect[3] - 1
    for x in range(x0, x1 + 1, 2 * dash):
        end = min(x + dash, x1)
        cv2.line(canvas, (x, y0), (end, y0), color, thickness)
        cv2.line(canvas, (x, y1), (end, y1), color, thickness)
    for y in range(y0, y1 + 1, 2 * dash):
        end = min(y + dash, y1)
        cv2.line(canvas, (x0, y), (x0, end), color, thickness)
        cv2.line(canvas, (x1, y), (x1, end), color, thickness)


def _draw_leader(canvas: np.ndarray, plate: Rect, box: Rect, color: tuple[int, int, int]) -> None:
    """A line from a plate to the middle of a box that it does not touch."""
    if plate[0] > box[2] or plate[2] < box[0] or plate[1] > box[3] or plate[3] < box[1]:
        x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
        cv2.line(canvas, (min(max(x, plate[0]), plate[2] - 1), min(max(y, plate[1]), plate[3] - 1)), (x, y), color, 1, cv2.LINE_AA)


def _draw_plate(canvas: np.ndarray, lines: list[str], rect: Rect, color: tuple[int, int, int], scale: float) -> None:
    """Text on a dark plate with a stripe of the object's colour."""
    plate = canvas[rect[1] : rect[3], rect[0] : rect[2]]
    plate[:] = (plate * 0.2).astype(np.uint8)
    pad = _padding(scale)
    cv2.rectangle(canvas, (rect[0], rect[1]), (rect[0] + max(1, pad // 2), rect[3] - 1), color, -1)
    line_height = (rect[3] - rect[1]) // len(lines)
    for i, line in enumerate(lines):
        _put_text(canvas, line, rect[0] + 2 * pad, rect[1] + line_height * (i + 1) - 2 * pad, scale)


def _put_text(canvas: np.ndarray, line: str, x: int, y: int, scale: float) -> None:
    """White text from (x, y), the baseline; '+/-' becomes one sign, which the font lacks: a plus with a line below."""
    thickness = _thickness(scale)
    for i, part in enumerate(line.split("+/-")):
        if i:
            (width, height), _ = cv2.getTextSize("+", _FONT, scale, thickness)
            cv2.putText(canvas, "+", (x, y - max(1, height // 6)), _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
            cv2.line(canvas, (x + width // 5, y + 1), (x + width - width // 5, y + 1), (255, 255, 255), thickness)
            x += width
        cv2.putText(canvas, part, (x, y), _FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA)
        x += cv2.getTextSize(part, _FONT, scale, thickness)[0][0]


def _plate_size(lines: Sequence[str], scale: float) -> tuple[int, int]:
    sizes = [cv2.getTextSize(line.replace("+/-", "+"), _FONT, scale, _thickness(scale))[0] for line in lines]
    pad = _padding(scale)
    return max(width for width, _ in sizes) + 4 * pad, (max(height for _, height in sizes) + 3 * pad) * len(lines)


def _padding(scale: float) -> int:
    return max(2, round(4 * scale))


def _thickness(scale: float) -> int:
    return 2 if scale > 0.75 else 1


def place_label(size_wh: tuple[int, int], box: Rect, taken: Sequence[Rect], image_wh: tuple[int, int]) -> Rect:
    """Where a plate goes: above, inside the top, the middle, below, right or left of the box, then the nearest free place on a grid.

    Always inside the image (when it fits it at all); the least covered place when none is free.
    """
    width, height = min(size_wh[0], image_wh[0]), min(size_wh[1], image_wh[1])
    x0, y0, x1, y1 = box
    anchors = [(x0, y0 - height), (x0, y0), ((x0 + x1 - width) // 2, (y0 + y1 - height) // 2), (x0, y1), (x1, y0), (x0 - width, y0)]
    places = [_shifted(anchor, width, height, image_wh) for anchor in anchors]
    best = min(places, key=lambda place: _covered(place, taken))
    if _covered(best, taken) == 0:
        return best
    x, y = np.meshgrid(
        np.arange(0, image_wh[0] - width + 1, max(width // 4, 4)), np.arange(0, image_wh[1] - height + 1, max(height // 2, 4))
    )
    corners = np.column_stack([x.ravel(), y.ravel()])
    others = np.array(taken)
    low = np.maximum(corners[:, None], others[None, :, :2])
    high = np.minimum(corners[:, None] + (width, height), others[None, :, 2:])
    overlaps = np.logical_and.reduce(high > low, axis=2)
    free = corners[~np.logical_or.reduce(overlaps, axis=1)]
    if len(free) == 0:
        return best
    away = free + (width / 2, height / 2) - ((x0 + x1) / 2, (y0 + y1) / 2)
    x_best, y_best = free[np.hypot(away[:, 0], away[:, 1]).argmin()].tolist()
    return (x_best, y_best, x_best + width, y_best + height)


def _shifted(corner: tuple[int, int], width: int, height: int, image_wh: tuple[int, int]) -> Rect:
    x = min(max(corner[0], 0), image_wh[0] - width)
    y = min(max(corner[1], 0), image_wh[1] - height)
    return (x, y, x + width, y + height)


def _covered(rect: Rect, others: Sequence[Rect]) -> int:
    total = 0
    for other in others:
        total += max(0, min(rect[2], other[2]) - max(rect[0], other[0])) * max(0, min(rect[3], other[3]) - max(rect[1], other[1]))
    return total
