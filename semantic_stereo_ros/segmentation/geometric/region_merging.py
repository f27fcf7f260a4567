"""From pixels to surfaces: safe pieces first, cut wherever the depth is not smooth, then joined where their common border says so.

A few wrong pixels or a ramp that the matcher drew across a step are enough to leak from one object into the next when pixels are
joined one by one. So a piece grows only through pixels whose whole neighbourhood is smooth, and two pieces become one only if the
depths of their insides agree along most of the border they share.
"""

from __future__ import annotations

import heapq

import cv2
import numpy as np

from semantic_stereo_ros.segmentation import edges

_SMALLEST_INSIDE_PIXELS = 10
_REACH_PIXELS = 4.0
_AGREEING_SHARE = 0.5
_KERNEL = np.ones((3, 3), np.uint8)


def cut_into_pieces(core: np.ndarray, d: np.ndarray, allowed: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """(count, (h, w) int32 labels of the pixels of `core`, (h, w) float32 d of the inside nearest to each pixel).

    d: d + doffs, px, known everywhere; allowed: largest step within one surface, px. Thin things without an inside (a pole two pixels
    wide) become pieces of their own.
    """
    smooth = core & (cv2.dilate(d, _KERNEL) - cv2.erode(d, _KERNEL) < allowed)
    right, down = edges.links(d, allowed)
    count, inside = edges.linked_components(smooth, right, down)
    large = np.bincount(inside.ravel(), minlength=count + 1) >= _SMALLEST_INSIDE_PIXELS
    large[0] = False
    inside = (np.cumsum(large) * large).astype(np.int32)[inside]
    count = int(np.count_nonzero(large))
    if not count:
        count, labels = edges.linked_components(core, right, down)
        return count, labels, d
    distance, (label_there, d_there) = edges.fill_from_nearest(inside > 0, inside, d)
    joins = core & (distance <= _REACH_PIXELS) & (np.abs(d - d_there) < allowed)
    labels = np.where(joins, label_there, 0)
    rest = core & ~joins
    thin, thin_labels = edges.linked_components(rest, right, down)
    labels = np.where(rest, thin_labels + count, labels).astype(np.int32)
    return count + thin, labels, np.where(joins, d_there, d)


def join_pieces(labels: np.ndarray, count: int, d_inside: np.ndarray, allowed: np.ndarray) -> tuple[int, np.ndarray]:
    """(count, labels) after joining the pieces whose insides agree along most of their common border: agglomerative clustering on the
    region adjacency graph, strongest bond first."""
    agreeing, total = _borders(labels, count, d_inside, allowed)
    return _relabel(edges.lowest_joined(count, _agglomerate(agreeing, total)), labels)


def bridge_pieces(labels: np.ndarray, count: int, d: np.ndarray, allowed: np.ndarray, widest_px: np.ndarray) -> tuple[int, np.ndarray]:
    """(count, labels) after joining pieces of one surface that something nearer, or an unknown strip, runs across."""
    votes: dict[tuple[int, int], int] = {}
    for images in ((labels, d, allowed, widest_px), (labels.T, d.T, allowed.T, widest_px.T)):
        for pair, number in _votes_across(*(np.ascontiguousarray(image) for image in images)):
            votes[pair] = max(votes.get(pair, 0), number)
    if not votes:
        return count, labels
    extent = {}
    for label in {label for pair in votes for label in pair}:
        mask = labels == label
        extent[label] = min(np.count_nonzero(mask.any(axis=0)), np.count_nonzero(mask.any(axis=1)))
    return join(labels, count, [(a, b) for (a, b), number in votes.items() if number >= max(3, 0.4 * min(extent[a], extent[b]))])


def join(labels: np.ndarray, count: int, bonds: list[tuple[int, int]]) -> tuple[int, np.ndarray]:
    """(count, labels) with the connected components of the bonds made one label each, in the order of their highest one."""
    lowest = edges.lowest_joined(count, bonds)
    highest = np.zeros(count + 1, np.intp)
    np.maximum.at(highest, lowest, np.arange(count + 1))
    return _relabel(highest[lowest], labels)


def join_unless(refused: np.ndarray, labels: np.ndarray, joined: np.ndarray) -> tuple[int, np.ndarray]:
    """(count, labels) of `joined`, except that what `refused` ((n,) bool by label of `joined`) names stays as it is in `labels`."""
    mixed = np.where(refused[joined] & (labels > 0), labels + len(refused), joined)
    present = np.bincount(mixed.ravel()) > 0
    present[0] = False
    return int(np.count_nonzero(present)), (np.cumsum(present) * present).astype(np.int32)[mixed]


def join_tops(labels: np.ndarray, count: int, d: np.ndarray, allowed: np.ndarray, flat: np.ndarray) -> tuple[int, np.ndarray]:
    """(count, labels) after joining the `flat` ((count + 1,) bool) regions to what carries them: seen from a little above, the top of a box
    recedes so fast that it parts from the front."""
    lower, upper = labels[1:], labels[:-1]
    v, u = np.divmod(np.flatnonzero((lower != upper) & (lower > 0) & flat[upper]), labels.shape[1])
    under, over = lower[v, u], upper[v, u]
    step = d[v + 1, u] - d[v, u]
    near = (step > -allowed[v, u]) & (step < 3 * allowed[v, u])
    roots = np.arange(count + 1)
    codes, votes = np.unique(over[near].astype(np.int64) * (count + 1) + under[near], return_counts=True)
    for code, number in zip(codes.tolist(), votes.tolist()):
        top, carrier = divmod(code, count + 1)
        if not flat[carrier] and number > 0.5 * np.count_nonzero((labels == top).any(axis=0)):
            roots[top] = carrier
    return _relabel(roots, labels)


def _borders(labels: np.ndarray, count: int, d: np.ndarray, allowed: np.ndarray) -> tuple[dict, dict]:
    """Per pair of touching pieces: the number of neighbouring pixels across their border that agree, and of all."""
    codes, agrees = [], []
    for a, b in (((slice(None), slice(1, None)), (slice(None), slice(None, -1))), ((slice(1, None),), (slice(None, -1),))):
        places = np.flatnonzero((labels[a] != labels[b]) & (labels[a] > 0) & (labels[b] > 0))
        first, second = labels[a].ravel()[places].astype(np.int64), labels[b].ravel()[places].astype(np.int64)
        codes.append(np.minimum(first, second) * (count + 1) + np.maximum(first, second))
        limit = np.minimum(allowed[a].ravel()[places], allowed[b].ravel()[places])
        agrees.append(np.abs(d[a].ravel()[places] - d[b].ravel()[places]) < limit)
    code, agree = np.concatenate(codes), np.concatenate(agrees)
    pairs, inverse = np.unique(code, return_inverse=True)
    numbers = np.bincount(inverse, minlength=len(pairs))
    good = np.bincount(inverse, weights=agree, minlength=len(pairs))
    keys = [(int(p) // (count + 1), int(p) % (count + 1)) for p in pairs]
    return dict(zip(keys, good)), dict(zip(keys, numbers.astype(float)))


def _agglomerate(agreeing: dict, total: dict) -> list[tuple[int, int]]:
    """Bonds that hold. A joined piece inherits the borders of both, so that one leak cannot chain many pieces."""
    bonds = []
    neighbours: dict[int, dict[int, list[float]]] = {}
    for (a, b), number in total.items():
        bond = [agreeing[a, b], number]
        neighbours.setdefault(a, {})[b] = bond
        neighbours.setdefault(b, {})[a] = bond
    waiting = [(-agreeing[pair] / number, *pair) for pair, number in total.items() if agreeing[pair] >= _AGREEING_SHARE * number]
    heapq.heapify(waiting)
    while waiting:
        share, a, b = heapq.heappop(waiting)
        bond = neighbours.get(a, {}).get(b)
        if bond is None or bond[0] / bond[1] < -share - 1e-9:  # gone, or weaker since: its new strength waits as well
            continue
        bonds.append((a, b))
        for other, its in neighbours.pop(b).items():
            del neighbours[other][b]
            if other == a:
                continue
            merged = neighbours[a].get(other, [0.0, 0.0])
            merged = [merged[0] + its[0], merged[1] + its[1]]
            neighbours[a][other] = neighbours[other][a] = merged
            if merged[0] >= _AGREEING_SHARE * merged[1]:
                heapq.heappush(waiting, (-merged[0] / merged[1], min(a, other), max(a, other)))
    return bonds


def _relabel(roots: np.ndarray, labels: np.ndarray) -> tuple[int, np.ndarray]:
    kept, renumbered = np.unique(roots, return_inverse=True)
    return len(kept) - 1, renumbered.astype(np.int32)[labels]


def runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last flat index of each run of one label in a row."""
    height, width = labels.shape
    change = np.flatnonzero(np.diff(labels.ravel())) + 1
    change = np.union1d(change, np.arange(width, height * width, width))
    return np.concatenate([[0], change]), np.concatenate([change, [height * width]]) - 1


def _votes_across(labels: np.ndarray, d: np.ndarray, allowed: np.ndarray, widest_px: np.ndarray) -> list[tuple[tuple[int, int], int]]:
    """Per pair of pieces: in how many rows a run of the one is followed by the other at its depth, something nearer between."""
    height, width = labels.shape
    flat = labels.ravel()
    starts, ends = runs(labels)
    n = len(starts)
    if n < 3:
        return []
    d, allowed, widest_px = d.ravel(), allowed.ravel(), widest_px.ravel()
    d_middle = d[(starts + ends) // 2]
    codes = []
    base = int(flat.max()) + 1
    for between in range(1, min(4, n - 1)):
        left, right = np.arange(n - 1 - between), np.arange(1 + between, n)
        fits = (starts[left] // width == starts[right] // width) & (flat[starts[left]] > 0) & (flat[starts[right]] > 0)
        fits &= flat[starts[left]] != flat[starts[right]]
        left, right = left[fits], right[fits]
        gap = starts[right] - ends[left] - 1
        beside = np.maximum(ends[left] - starts[left], ends[right] - starts[right]) + 1
        d_left, d_right = d[np.maximum(ends[left] - 1, starts[left])], d[np.minimum(starts[right] + 1, ends[right])]
        nearest = np.max([d_middle[left + i] for i in range(1, between + 1)], axis=0)
        limit = allowed[ends[left]]
        fits = (gap <= np.minimum(widest_px[ends[left]], 2 * beside)) & (np.abs(d_left - d_right) < limit)
        fits &= nearest > np.maximum(d_left, d_right) + limit
        first, second = flat[starts[left[fits]]].astype(np.int64), flat[starts[right[fits]]].astype(np.int64)
        rows = starts[left[fits]] // width
        codes.append((np.minimum(first, second) * base + np.maximum(first, second)) * height + rows)
    codes, numbers = np.unique(np.unique(np.concatenate(codes)) // height, return_counts=True)
    return [((int(c) // base, int(c) % base), int(k)) for c, k in zip(codes, numbers)]
