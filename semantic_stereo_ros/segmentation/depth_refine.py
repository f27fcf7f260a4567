"""Depth makes masks better: cut where the depth steps inside a mask, joined where two unsure masks are one surface.

Both work on the disparity d + doffs, which is 1/Z: a plane is linear in it, so a slanted surface has no steps. Other layers stay as they
are, but for links to what is not there any more.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from semantic_stereo_ros.segmentation import edges
from semantic_stereo_ros.types import Disparity, Instance, Segmentation

MIN_PIECE_PX, MIN_PIECE_SHARE = 100, 0.05
UNSURE_SCORE = 0.9
JOINT_SHARE = 0.8  # of the common border that must be without a step
MIN_BORDER_PX = 12


def split(masks: Segmentation, disparity: Disparity) -> Segmentation:
    """Objects that are two surfaces become two: pieces between which every path crosses a step, each large enough to be meant.

    The largest piece keeps label and key; smaller than MIN_PIECE_PX or MIN_PIECE_SHARE is no piece. Unknown pixels go to the nearest.
    """
    index = masks.object_layer
    from scipy import ndimage

    labels = masks.labels.copy()
    edge = edges.beside_breaks(disparity) | ~disparity.valid
    records, pieces_of = list(masks.object_instances), int(labels.max())
    windows = ndimage.find_objects(masks.labels)
    for record in masks.object_instances:
        window = windows[record.label - 1] if record.label <= len(windows) else None
        if window is None:
            continue
        rows, columns = window
        mask = labels[rows, columns] == record.label
        pieces = _pieces(mask, edge[rows, columns])
        for piece in pieces[1:]:
            if pieces_of == np.iinfo(np.uint16).max:
                break
            pieces_of += 1
            labels[rows, columns][piece] = pieces_of
            records.append(replace(record, label=pieces_of, source_key=None))
    return _with_objects(masks, index, labels, records)


def merge(masks: Segmentation, disparity: Disparity) -> Segmentation:
    """Neighbouring objects become one where both score below UNSURE_SCORE, neither is prompted, and nearly all of their common border
    is without a step; the better score names it."""
    index = masks.object_layer
    labels = masks.labels
    count = int(labels.max())
    unsure = np.zeros(count + 1, bool)
    for record in masks.object_instances:
        unsure[record.label] = record.score < UNSURE_SCORE and record.source_key is None
    into = edges.lowest_joined(count, _joined(labels, disparity, unsure))
    best: dict[int, Instance] = {}
    for record in masks.object_instances:
        root = int(into[record.label])
        if root not in best or record.score > best[root].score:
            best[root] = replace(record, label=root)
    return _with_objects(masks, index, into[labels].astype(np.uint16), list(best.values()))


def _pieces(mask: np.ndarray, edge: np.ndarray) -> list[np.ndarray]:
    """Connected components of a mask without its edges, the largest first, each grown to the nearest pixels of the mask; together they
    are the mask. One when it is whole."""
    count, regions, stats, _ = cv2.connectedComponentsWithStats((mask & ~edge).astype(np.uint8), connectivity=4)
    sizes = stats[:, cv2.CC_STAT_AREA]
    smallest = max(MIN_PIECE_PX, MIN_PIECE_SHARE * np.count_nonzero(mask))
    large = [k for k in range(1, count) if sizes[k] >= smallest]
    if len(large) < 2:
        return [mask]
    large.sort(key=lambda k: -sizes[k])
    nearest = np.argmin([cv2.distanceTransform((regions != k).astype(np.uint8), cv2.DIST_L2, 3) for k in large], axis=0)
    return [mask & (nearest == place) for place in range(len(large))]


def _joined(labels: np.ndarray, disparity: Disparity, unsure: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of unsure labels whose common border is long enough and nearly without a step where it is known."""
    n = len(unsure)
    right, down = edges.breaks(disparity)
    known = disparity.valid
    border, whole = np.zeros(n * n, int), np.zeros(n * n, int)
    for axis, broken in ((0, down), (1, right)):
        a, b = edges.neighbours(labels.astype(np.int64), axis)
        known_a, known_b = edges.neighbours(known, axis)
        meet = (a != b) & unsure[a] & unsure[b] & known_a & known_b
        pair = np.minimum(a, b)[meet] * n + np.maximum(a, b)[meet]
        border += np.bincount(pair, minlength=n * n)
        whole += np.bincount(pair, weights=~broken[meet], minlength=n * n).astype(int)
    found = np.flatnonzero((border >= MIN_BORDER_PX) & (whole >= JOINT_SHARE * border))
    return [(int(pair // n), int(pair % n)) for pair in found]


def _with_objects(masks: Segmentation, index: int, labels: np.ndarray, records: list[Instance]) -> Segmentation:
    """The segmentation with another object layer, numbered 1..N again; parts whose object is gone lose the link."""
    present = np.unique(labels[labels > 0])
    table = np.zeros(int(labels.max()) + 1, np.uint16)
    table[present] = np.arange(1, len(present) + 1)
    renumbered = [replace(r, label=int(table[r.label])) for r in records if r.label < len(table) and table[r.label]]
    others = []
    for record in masks.instances:
        if record.layer == index:
            continue
        if record.layer == index + 1 and record.parent is not None:
            parent = int(table[record.parent]) if record.parent < len(table) else 0
            record = replace(record, parent=parent or None)
        others.append(record)
    layers = list(masks.layers)
    layers[index] = replace(layers[index], labels=table[labels])
    return Segmentation(tuple(layers), (*sorted(renumbered, key=lambda r: r.label), *others), masks.ground)
