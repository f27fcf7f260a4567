"""Is the reported sigma true? Synthetic scenes through matcher, segmentation and measurement, errors against their sigmas.

    python -m semantic_stereo_ros.bench.sigma_calibration 3000 3030

prints one line per quantity and range bin for the seeds 3000..3029. Which seeds the constants were fitted to: docs/decisions/0003.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from semantic_stereo_ros.config import from_flat
from semantic_stereo_ros.fusion.measure import Config, measure
from semantic_stereo_ros.metrics import match_instances, sigma_coverage
from semantic_stereo_ros.stages import SegmentationStage, StereoStage
from semantic_stereo_ros.synthetic import random_sequence
from semantic_stereo_ros.types import Segmentation

QUANTITIES = ("depth", "distance", "nearest")
BINS = ("all", "near", "middle", "far")


def collect(seeds: Iterable[int], config: Config | None = None, *, true_masks: bool = False) -> dict[str, np.ndarray]:
    """(N, 3) arrays error, sigma and truth in m, columns as QUANTITIES, of all objects found with an IoU of 0.5 or more.

    One frame per seed through the sgbm and geometric backends with their defaults; true_masks: the scene's own masks instead.
    """
    chosen = from_flat({"stereo.backend": "sgbm", "segmentation.backend": "geometric"})
    rows: list[list[list[float]]] = []
    for seed in seeds:
        synthetic = random_sequence(seed)[0]
        disparity = StereoStage(chosen)(synthetic.frame)
        found = SegmentationStage(chosen)(synthetic.frame, disparity)
        segmentation = Segmentation.from_labels(synthetic.instance_ids) if true_masks or found is None else found
        measured = {m.label: m for m in measure(disparity, segmentation, config, boxes=False)}
        truth = {o.object_id: o for o in synthetic.visible_objects}
        for match in match_instances(segmentation.labels, synthetic.instance_ids):
            m, o = measured.get(match.label), truth[match.truth_id]
            if m is not None and m.known:
                estimate, true = ([getattr(x, f"{q}_m") for q in QUANTITIES] for x in (m, o))
                sigma = [getattr(m, f"{q}_sigma_m") for q in QUANTITIES]
                rows.append([[e - t for e, t in zip(estimate, true)], sigma, true])
    table = np.array(rows, np.float64).reshape(-1, 3, 3)
    return {"error": table[:, 0], "sigma": table[:, 1], "truth": table[:, 2]}


def run(seeds: Iterable[int], config: Config | None = None, *, true_masks: bool = False) -> list[dict[str, Any]]:
    """One row per quantity and range bin (terciles of the true value): count, share within 1 and 2 sigma, likelihoods in nats."""
    data = collect(seeds, config, true_masks=true_masks)
    table = []
    for k, quantity in enumerate(QUANTITIES):
        error, sigma, truth = (data[name][:, k] for name in ("error", "sigma", "truth"))
        edges = np.quantile(truth, (1 / 3, 2 / 3))
        which = np.digitize(truth, edges) + 1
        for b, name in enumerate(BINS):
            chosen = which == b if b else np.ones(len(truth), bool)
            c = sigma_coverage(error[chosen], sigma[chosen], truth[chosen])
            relative_error = np.abs(error[chosen] / truth[chosen])
            table.append(
                {
                    "quantity": quantity,
                    "bin": name,
                    "count": c.count,
                    "within_1": c.within_1,
                    "within_2": c.within_2,
                    "nll": c.nll,
                    "relative_nll": c.relative_nll,
                    "median_error": float(np.median(relative_error)),
                    "p90_error": float(np.percentile(relative_error, 90)),
                }
            )
    return table


def format_table(table: list[dict[str, Any]]) -> str:
    """The rows of `run` as text."""
    lines = [f"{'quantity':9} {'bin':7} {'n':>4} {'in 1s':>6} {'in 2s':>6} {'nll':>7} {'const':>7} {'err50':>7} {'err90':>7}"]
    for r in table:
        lines.append(
            f"{r['quantity']:9} {r['bin']:7} {r['count']:4d} {r['within_1']:6.1%} {r['within_2']:6.1%} {r['nll']:7.2f} "
            f"{r['relative_nll']:7.2f} {r['median_error']:7.2%} {r['p90_error']:7.2%}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    first, last = (int(a) for a in sys.argv[1:3]) if len(sys.argv) > 2 else (3000, 3030)
    sys.stdout.write(format_table(run(range(first, last), true_masks="--true-masks" in sys.argv)) + "\n")
