"""Automatic masks here and by the reference algorithm, side by side: what bench_sam2 measures."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from semantic_stereo_ros.models import hardware, sam2_loading
from semantic_stereo_ros.models.random_weights import random_weights
from semantic_stereo_ros.models.sam2_image import Sam2Image
from semantic_stereo_ros.segmentation.automask.generate import Options, as_masks, find_masks, point_grid, with_batch_for
from semantic_stereo_ros.segmentation.automask.suppression import kept_by_nms

MODEL = "sam2.1_hiera_tiny"
SHAPES = ((240, 320), (480, 640))
SURVIVING = 0.3  # share of the candidates whose predicted IoU is to pass


def measure(repeats: int) -> dict[str, Any]:
    """See bench_sam2.run. Raises MissingDependencyError without the package."""
    gpu = torch.cuda.is_available()
    size, per_side, rounds = (1024, 32, repeats) if gpu else (256, 8, max(2, repeats // 10))
    device = torch.device("cuda" if gpu else "cpu")
    state = random_weights(sam2_loading.build(MODEL, size).state_dict())
    model: Any = sam2_loading.assemble(state, MODEL, size).to(device)
    result: dict[str, Any] = {
        "name": "sam2",
        "model": MODEL,
        "image_size": size,
        "points": per_side**2,
        "device": str(device),
        "rounds": rounds,
    }
    for shape in SHAPES:
        blocks = np.random.default_rng(5).integers(0, 255, (shape[0] // 40, shape[1] // 40, 3), np.uint8)
        image = np.kron(blocks, np.ones((40, 40, 1), np.uint8))
        result[f"{shape[1]}x{shape[0]}"] = _race(Sam2Image(model), image, per_side, rounds)
    return result


def _race(run: Sam2Image, image: np.ndarray, per_side: int, rounds: int) -> dict[str, Any]:
    embedding = run.encode(image)
    few = torch.from_numpy(point_grid(4)[:, None] * np.array(image.shape[1::-1])).float().to(run.device)
    _, scores = run.decode(embedding, few, torch.ones(len(few), 1, device=run.device))
    options = Options(per_side, 64, float(scores.quantile(1 - SURVIVING)), 0.0)
    candidates = {
        "here": lambda: as_masks(find_masks(run, image, with_batch_for(options, run.device)), image.shape[:2]),
        "reference": lambda: _reference(run, image, options),
        "encoder": lambda: run.encode(image),
    }
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(rounds + 1):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate()
            if run.device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:  # the first round allocates
                times[name].append(1e3 * (time.perf_counter() - start))
    medians = {name: float(np.median(values)) for name, values in times.items()}
    peaks = {name: hardware.peak_bytes(candidates[name]) / 1e6 for name in ("here", "reference")}
    return {
        "median_ms": medians,
        "reference_to_here": medians["reference"] / medians["here"],
        "peak_mb": peaks,
        "peak_here_to_reference": peaks["here"] / peaks["reference"],
    }


@torch.inference_mode()
def _reference(run: Sam2Image, image: np.ndarray, options: Options) -> list[Any]:
    """The order of work of the package's SAM2AutomaticMaskGenerator with the package's functions, without what needs torchvision: batches
    of the whole decoder, all masks to full size, filters, run lengths, suppression, masks from run lengths."""
    from sam2.utils.amg import batched_mask_to_box, calculate_stability_score, mask_to_rle_pytorch, rle_to_mask

    model, shape = run.model, image.shape[:2]
    embedding = run.encode(image)
    points = torch.from_numpy(point_grid(options.points_per_side)).float().to(run.device) * model.image_size
    boxes, scores, codes = [], [], []
    for batch in points.split(options.points_per_batch):
        labels = torch.ones(len(batch), 1, dtype=torch.int32, device=run.device)
        sparse, dense = model.sam_prompt_encoder(points=(batch[:, None], labels), boxes=None, masks=None)
        place = model.sam_prompt_encoder.get_dense_pe()
        low, iou, _, _ = model.sam_mask_decoder(embedding.image, place, sparse, dense, True, True, embedding.high_res)
        masks, iou = F.interpolate(low, shape, mode="bilinear", align_corners=False).flatten(0, 1), iou.flatten()
        masks, iou = masks[iou > options.min_iou], iou[iou > options.min_iou]
        stable = calculate_stability_score(masks, 0.0, options.stability_offset) >= options.min_stability
        masks = masks[stable] > 0
        boxes.append(batched_mask_to_box(masks))
        scores.append(iou[stable])
        codes += mask_to_rle_pytorch(masks)
    kept = kept_by_nms(torch.cat(boxes).float(), torch.cat(scores), options.box_nms)
    return [rle_to_mask(codes[k]) for k in kept.tolist()]
