"""The comparison with the reference says something only if the reference finds something."""

from __future__ import annotations

import cv2
import numpy as np
import oracle


def test_the_reference_keeps_many_masks_of_spread_sizes(reference_masks):
    assert len(reference_masks) >= oracle.FEWEST_MASKS
    areas = np.array([record["area"] for record in reference_masks])
    low, high = np.percentile(areas, (10, 90))
    assert high > 4 * low
    centres = np.array([np.argwhere(record["segmentation"]).mean(axis=0) for record in reference_masks])
    assert (np.ptp(centres, axis=0) > 0.5 * np.array(reference_masks[0]["segmentation"].shape)).all()
    assert len({round(record["predicted_iou"], 4) for record in reference_masks}) > 20


def test_the_reference_keeps_objects_present_over_a_clip(filled_state, torchvision_names, tmp_path):
    predictor = oracle.reference_video_predictor(filled_state)
    for frame in range(6):
        cv2.imwrite(str(tmp_path / f"{frame:05d}.jpg"), oracle.moving_image(frame)[..., ::-1])
    state = predictor.init_state(str(tmp_path), offload_video_to_cpu=True)
    for object_id, point_xy in oracle.CLIP_POINTS.items():
        predictor.add_new_points_or_box(state, 0, object_id, points=np.array([point_xy], np.float32), labels=np.array([1], np.int32))
    areas = np.array([[int((mask > 0).sum()) for mask in masks] for _, _, masks in predictor.propagate_in_video(state)])
    assert areas.shape == (6, len(oracle.CLIP_POINTS))
    assert (areas > 300).all() and (areas < 0.4 * 240 * 320).all()
