"""Automatic masks here and by the reference algorithm, side by side: what bench_sam2 measures."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semantic_stereo_ros.bench.random_weights import random_weights
from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.sam2 import decoder as sam2_decoder
from semantic_stereo_ros.models.sam2 import loading as sam2_loading
from semantic_stereo_ros.models.sam2.image import Sam2Image
from semantic_stereo_ros.segmentation.automask.generate import Options, as_masks, batch_for, find_masks, point_grid
from semantic_stereo_ros.segmentation.automask.nms import kept_by_nms

MODEL = "sam2.1_hiera_tiny"
FULL_GRID = 1024  # points, the default of the reference and of the backend
SURVIVING = 0.3  # share of the candidates whose predicted IoU is to pass


def measure(repeats: int) -> dict[str, Any]:
    """See bench_sam2.run. Raises MissingDependencyError without the package."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    small, large = (240, 320), (480, 640)
    # image size, points per side, rounds, shapes
    races = [(1024, 32, repeats, (small, large))]
    if not gpu:
        races = [(256, 8, max(2, repeats // 10), (small, large)), (1024, 8, max(1, repeats // 30), (large,))]
    result: dict[str, Any] = {"name": "sam2", "model": MODEL, "device": str(device)}
    for size, per_side, rounds, shapes in races:
        state = random_weights(sam2_loading.build(MODEL, size).state_dict())
        run = Sam2Image(sam2_loading.assemble(state, MODEL, size).to(device))
        raced = {f"{w}x{h}": _race(run, _blocks(h, w), per_side, rounds) for h, w in shapes}
        result[f"image_size {size}"] = {"rounds": rounds, "points": per_side**2, **raced}
    return result


def _blocks(height: int, width: int) -> np.ndarray:
    blocks = np.random.default_rng(5).integers(0, 255, (height // 40, width // 40, 3), np.uint8)
    return np.kron(blocks, np.ones((40, 40, 1), np.uint8))


def _race(run: Sam2Image, image: np.ndarray, per_side: int, rounds: int) -> dict[str, Any]:
    embedding = run.encode(image)
    points = torch.from_numpy(point_grid(per_side)[:, None] * np.array(image.shape[1::-1])).float().to(run.device)
    _, scores = run.decode(embedding, points[::4], torch.ones(len(points[::4]), 1, device=run.device))
    options = Options(per_side, 64, float(scores.quantile(1 - SURVIVING)), 0.0)
    own = replace(options, points_per_batch=batch_for(options.points_per_batch, run.on_cpu))
    candidates = {
        "encoder": lambda: run.encode(image),
        "here": lambda: as_masks(find_masks(run, image, own, embedding), image.shape[:2]),
        "reference": lambda: _reference(run, image, options, embedding),
        "transformer": lambda: _attend(run, embedding, points, own.points_per_batch),
        "decoder": lambda: _decode(run, embedding, points, own.points_per_batch),
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
    encoder = medians.pop("encoder")
    per_point = {name: value / len(points) for name, value in medians.items()}
    peaks = {name: hardware.peak_bytes(candidates[name]) / 1e6 for name in ("encoder", "here", "reference")}
    return {
        "encoder_ms": encoder,
        "ms_per_point": per_point,
        f"{FULL_GRID} points": _whole(encoder, {name: FULL_GRID * value for name, value in per_point.items()}),
        "peak_mb": peaks,
        "peak_here_to_reference": peaks["here"] / peaks["reference"],
    }


def _whole(encoder: float, ms: dict[str, float]) -> dict[str, Any]:
    """What an image costs with so many points, and where the time goes. ms: of all points, without the encoder."""
    here = encoder + ms["here"]
    shares = {
        "encoder": encoder,
        "transformer": ms["transformer"],
        "upscaling": ms["decoder"] - ms["transformer"],
        "filters and masks": ms["here"] - ms["decoder"],
    }
    return {
        "reference_to_here": (encoder + ms["reference"]) / here,
        "reference_to_floor": (encoder + ms["reference"]) / (encoder + ms["transformer"]),
        "share_of_here": {name: value / here for name, value in shares.items()},
    }


def _decode(run: Sam2Image, embedding: Any, points: Tensor, batch: int) -> None:
    for part in points.split(batch):
        run.decode(embedding, part, torch.ones(len(part), 1, dtype=torch.int32, device=run.device))


@torch.inference_mode()
def _attend(run: Sam2Image, embedding: Any, points: Tensor, batch: int) -> None:
    """Only the decoder's transformer, in the batches of `_decode`."""
    prompts = run.model.sam_prompt_encoder
    for part in points.split(batch):
        labels = torch.ones(len(part), 1, dtype=torch.int32, device=run.device)
        sparse, dense = prompts(points=(part, labels), boxes=None, masks=None)
        sam2_decoder.attend(run.model.sam_mask_decoder, embedding.image, prompts.get_dense_pe(), sparse, dense[:1])


@torch.inference_mode()
def _reference(run: Sam2Image, image: np.ndarray, options: Options, embedding: Any) -> list[Any]:
    """The order of work of the package's SAM2AutomaticMaskGenerator with the package's functions, without what needs torchvision: batches
    of the whole decoder, all masks to full size, filters, run lengths, suppression, masks from run lengths."""
    from sam2.utils.amg import batched_mask_to_box, calculate_stability_score, mask_to_rle_pytorch, rle_to_mask

    model, shape = run.model, image.shape[:2]
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
