"""The generator finds what the package's own one finds, in less memory; its suppression and windows are checked against plain forms."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import torch
import torch.nn.functional as F

from semantic_stereo_ros.models.hardware import peak_bytes
from semantic_stereo_ros.models.sam2.image import Sam2Image
from semantic_stereo_ros.segmentation.automask.enlarge import measure, paint
from semantic_stereo_ros.segmentation.automask.generate import Options, as_masks, find_masks
from semantic_stereo_ros.segmentation.automask.nms import kept_by_nms

OPTIONS = Options(
    points_per_side=oracle.GENERATOR["points_per_side"],
    points_per_batch=16,
    min_iou=oracle.GENERATOR["pred_iou_thresh"],
    min_stability=oracle.GENERATOR["stability_score_thresh"],
    box_nms=oracle.GENERATOR["box_nms_thresh"],
)


def best_overlaps(of, among) -> np.ndarray:
    a, b = (np.asarray(masks).reshape(len(masks), -1).astype(np.float32) for masks in (of, among))
    common = a @ b.T
    return (common / (a.sum(axis=1)[:, None] + b.sum(axis=1)[None] - common)).max(axis=1)


def test_the_masks_are_those_of_the_reference_generator(model, reference_masks):
    image = oracle.textured_image()
    found = find_masks(Sam2Image(model), image, OPTIONS)
    masks = as_masks(found, image.shape[:2]).numpy()
    theirs = [record["segmentation"] for record in reference_masks]
    assert (best_overlaps(theirs, masks) >= 0.98).mean() >= 0.98
    assert (best_overlaps(masks, theirs) >= 0.98).mean() >= 0.98
    assert len(masks) == len(theirs)
    expected = sorted(record["predicted_iou"] for record in reference_masks)
    np.testing.assert_allclose(sorted(found.predicted_iou.tolist()), expected, atol=1e-4)


def test_crops_give_the_references_masks_too(model, torchvision_names):
    image, options = oracle.textured_image(120, 160), {"points_per_side": 4, "crop_n_layers": 1, "crop_n_points_downscale_factor": 2}
    theirs = [record["segmentation"] for record in oracle.reference_generator(model, **options).generate(image)]
    ours = Options(**{**OPTIONS.__dict__, "points_per_side": 4, "crop_layers": 1, "crop_point_divisor": 2})
    found = find_masks(Sam2Image(model), image, ours)
    assert len(found.crop_xyxy.unique(dim=0)) > 1
    assert (best_overlaps(theirs, as_masks(found, image.shape[:2]).numpy()) >= 0.98).mean() >= 0.98


def test_peak_memory_is_at_most_half_of_the_references(model, torchvision_names, record_property):
    image = np.repeat(np.repeat(oracle.textured_image(), 2, axis=0), 2, axis=1)
    options = {"points_per_side": 8}
    theirs = peak_bytes(lambda: oracle.reference_generator(model, **options).generate(image))
    few = Options(**{**OPTIONS.__dict__, **options})
    ours = peak_bytes(lambda: as_masks(find_masks(Sam2Image(model), image, few), image.shape[:2]))
    record_property("measured", f"automatic masks, 640x480: peak of tensors {ours / 1e6:.0f} MB, the reference's {theirs / 1e6:.0f} MB")
    assert ours <= 0.5 * theirs


@pytest.mark.parametrize("shape_hw", [(37, 61), (64, 48), (20, 15)])
def test_windows_are_the_whole_images_part(shape_hw):
    generator = torch.Generator().manual_seed(1)
    logits = F.interpolate(torch.randn(1, 9, 5, 6, generator=generator), (40, 30), mode="bicubic")[0] * 3 - 4
    logits[0] = -5
    full = F.interpolate(logits[None], shape_hw, mode="bilinear", align_corners=False)[0]
    painted = torch.ones(9, *shape_hw, dtype=torch.bool)
    paint(logits, painted)
    assert torch.equal(painted, full > 0)
    stability, boxes = measure(logits, shape_hw, 1.0)
    inner, outer = ((full > value).sum(dim=(1, 2)) for value in (1.0, -1.0))
    torch.testing.assert_close(stability, inner / outer, equal_nan=True)
    for mask, box in zip(full > 0, boxes):
        y, x = torch.nonzero(mask, as_tuple=True)
        assert box.tolist() == ([x.min(), y.min(), x.max(), y.max()] if len(y) else [0, 0, 0, 0])


def test_suppression_is_the_greedy_one():
    generator = torch.Generator().manual_seed(2)
    for count in (0, 1, 300):
        corner = torch.rand(count, 2, generator=generator) * 40
        boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 30 + 1], dim=1)
        scores = (torch.rand(count, generator=generator) * 20).round()  # with equals
        for threshold in (0.3, 0.7):
            expected = oracle.batched_nms(boxes, scores, torch.zeros(count), threshold)
            assert kept_by_nms(boxes, scores, threshold).tolist() == expected.tolist()


def test_one_mask_boxes_and_masks_as_prompts_are_the_reference_predictors(model, torchvision_names):
    image, ours = oracle.textured_image(), Sam2Image(model)
    predictor = oracle.reference_generator(model).predictor
    predictor.set_image(image)
    embedding = ours.encode(image)
    point, box = np.array([[150.0, 100.0]]), np.array([100.0, 60.0, 220.0, 190.0])
    _, scores, logits = predictor.predict(point, np.array([1]), box, multimask_output=False)
    found = ours.decode(embedding, torch.tensor(point[None]).float(), torch.ones(1, 1), torch.tensor(box[None]).float(), multimask=False)
    np.testing.assert_allclose(found[0][0].clamp(-32, 32).numpy(), logits, atol=2e-3)
    np.testing.assert_allclose(found[1][0].numpy(), scores, atol=1e-4)
    _, scores, again = predictor.predict(point, np.array([1]), mask_input=logits, multimask_output=False)
    found = ours.decode(embedding, torch.tensor(point[None]).float(), torch.ones(1, 1), None, torch.tensor(logits[None]), multimask=False)
    np.testing.assert_allclose(found[0][0].clamp(-32, 32).numpy(), again, atol=2e-3)
