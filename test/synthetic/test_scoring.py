"""Scoring joins estimates to true objects by their boxes and keeps what each frame said."""

import numpy as np
import pytest

from semantic_stereo_ros.synthetic.scoring import Estimate, box_iou, score
from semantic_stereo_ros.synthetic.truth import TrueObject


def truth(object_id, box, distance, pixels=500):
    zero = np.zeros(3)
    return TrueObject(object_id, f"thing{object_id}", pixels, False, zero, zero, zero, zero, zero, box, distance_m=distance)


def test_iou_of_known_boxes():
    assert box_iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)
    assert box_iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0


def test_each_truth_gets_the_estimate_on_it_and_keeps_errors_and_id_changes():
    near, far = truth(1, (0, 0, 10, 10), 2.0), truth(2, (20, 0, 30, 10), 4.0)
    frames = [
        ([near, far], [Estimate(7, "VISIBLE", (21, 0, 31, 10), 4.2, 0.1), Estimate(5, "VISIBLE", (0, 0, 10, 9), 1.9, 0.2)]),
        ([near, far], [Estimate(6, "VISIBLE", (0, 0, 10, 10), 2.1, 0.2), Estimate(7, "OCCLUDED", None, 4.0, 0.1)]),
    ]
    result = score(frames)
    assert result[1].errors_m == pytest.approx([-0.1, 0.1])
    assert result[1].within_sigma == 1.0
    assert result[1].id_switches == 1
    assert (result[2].frames_visible, result[2].frames_measured) == (2, 1)
    assert result[2].within_sigma == 0.0


def test_hidden_objects_unknown_distances_and_boxes_elsewhere_do_not_count():
    hidden, seen = truth(1, (0, 0, 10, 10), 2.0, pixels=20), truth(2, (20, 0, 30, 10), 4.0)
    estimates = [Estimate(1, "UNMEASURED", (20, 0, 30, 10), float("nan"), float("nan")), Estimate(2, "VISIBLE", (40, 0, 50, 10), 4.0, 0.1)]
    result = score([([hidden, seen], estimates)])
    assert list(result) == [2]
    assert result[2].frames_measured == 0
    assert np.isnan(result[2].within_sigma)
