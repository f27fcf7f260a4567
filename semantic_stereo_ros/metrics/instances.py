"""Instance masks against true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from semantic_stereo_ros.checks import ImageError, check_array


@dataclass(frozen=True)
class InstanceMatch:
    """One true instance and the estimated one that overlaps it best. label: 0 when none matches; iou in 0..1."""

    truth_id: int
    label: int
    iou: float


def match_instances(labels: np.ndarray, truth_ids: np.ndarray, minimum_iou: float = 0.5) -> tuple[InstanceMatch, ...]:
    """Match two (H, W) integer id images (0 = background) one to one, greedily by falling IoU, in one pass over the pixels.

    One record per true id in rising order; label 0 (with iou 0) where no free label reaches minimum_iou.
    Raises ImageError when the shapes differ or ids are negative.
    """
    check_array("truth_ids", truth_ids, shape=(None, None))
    check_array("labels", labels, shape=truth_ids.shape)
    for name, ids in (("labels", labels), ("truth_ids", truth_ids)):
        if not np.issubdtype(ids.dtype, np.integer) or ids.size and ids.min() < 0:
            raise ImageError(f"{name} must hold integers of 0 and above, got {ids.dtype} with minimum {ids.min()}")
    if not labels.size:
        return ()
    known, known_index = np.unique(truth_ids, return_inverse=True)
    found, found_index = np.unique(labels, return_inverse=True)
    pairs = known_index.ravel() * found.size + found_index.ravel()
    overlap = np.bincount(pairs, minlength=known.size * found.size).reshape(known.size, found.size)
    iou = overlap / (overlap.sum(axis=1)[:, None] + overlap.sum(axis=0)[None, :] - overlap)
    iou[known == 0] = 0
    iou[:, found == 0] = 0
    best = {int(truth_id): (0, 0.0) for truth_id in known if truth_id != 0}
    rows, columns = np.nonzero((iou >= minimum_iou) & (iou > 0))
    for i in np.argsort(-iou[rows, columns], kind="stable"):
        row, column = rows[i], columns[i]
        if iou[row, column] > 0:
            best[int(known[row])] = (int(found[column]), float(iou[row, column]))
            iou[row] = iou[:, column] = 0  # both are taken
    return tuple(InstanceMatch(truth_id, *match) for truth_id, match in best.items())
