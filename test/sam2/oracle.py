"""What SAM 2's own tools answer, for tests: weights that make its masks worth comparing, and the torchvision names its tools import.

With plain random weights almost no mask survives the thresholds. `fill` gives a model that segments: an image token near a point is marked
by it (channel 0 of the embedding), the three masks are the marked region cut at three heights and frayed by the image's own features, and
memory attention carries the mark from frame to frame. Everything else is random and small enough not to drown it. The same name gives
the same values.
"""

from __future__ import annotations

import sys
import types
import zlib
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MODEL = "sam2.1_hiera_tiny"
IMAGE_SIZE = 256
# The reference generator keeps 50 masks or more of `textured_image` with these.
GENERATOR = {"points_per_side": 16, "points_per_batch": 64, "pred_iou_thresh": 0.8, "stability_score_thresh": 0.7, "box_nms_thresh": 0.7}
FEWEST_MASKS = 50
# Objects that the reference video predictor sees in every frame of `moving_image` when prompted by these points (x, y) in frame 0.
CLIP_POINTS = {1: (160, 120), 2: (80, 60), 3: (250, 180)}

_MARK, _CONSTANT, _PROMPTED = 0, 1, 255  # channels: of image features, of the upscaled ones, of the prompt tokens
_PLACE = 63  # channel of memories
_HEADS, _HEAD_WIDTH = 8, 16
_SLOPE = 12.0


def fill(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values for each entry of a SAM 2.1 state_dict (on the meta device, too)."""
    filled = {name: _random(name, tuple(value.shape)) for name, value in state.items()}
    _mark_by_points(filled)
    _read_marks(filled)
    _carry_marks(filled)
    return filled


def _random(name: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    x = torch.randn(shape, generator=generator)
    if name.endswith("positional_encoding_gaussian_matrix"):
        return x
    if name.endswith((".bias", "gamma")):
        return 0.02 * x
    if len(shape) == 1 and name.endswith(".weight"):  # of a normalisation
        return 1 + 0.1 * x
    if name.endswith(("token.weight", "tokens.weight")) or "embed" in name and "patch_embed" not in name or len(shape) == 1:
        return 0.5 * x
    fan_in = int(np.prod(shape[1:]))
    return x / fan_in**0.5


def _mark_by_points(w: dict[str, Tensor]) -> None:
    """Image tokens near a point attend to it and take its mark; positive points mark up, negative ones down."""
    for name in ("neck.convs.0.conv", "neck.convs.1.conv"):
        w[f"image_encoder.{name}.weight"] *= 0.1
        for part in ("weight", "bias"):
            w[f"image_encoder.{name}.{part}"][_MARK] = 0
    w["no_mem_embed"][..., _MARK] = 0
    prompts = "sam_prompt_encoder."
    w[prompts + "no_mask_embed.weight"][:, _MARK] = 0
    for label, value in enumerate((-6.0, 6.0, 4.0, 4.0)):
        w[f"{prompts}point_embeddings.{label}.weight"][:, _PROMPTED] = value
    w[prompts + "not_a_point_embed.weight"][:, _PROMPTED] = 0
    decoder = "sam_mask_decoder."
    for name in ("obj_score_token", "iou_token", "mask_tokens"):
        w[f"{decoder}{name}.weight"][:, _PROMPTED] = 0
    first = decoder + "transformer.layers.0."
    for part in ("q", "k", "v", "out"):  # every token attends to itself
        w[f"{first}self_attn.{part}_proj.weight"] = torch.eye(256) * (1.3 if part in "qk" else 1.0)
    w[first + "norm3.weight"] *= 0.3
    for layer in ("layers.0.", "layers.1."):
        attention = f"{decoder}transformer.{layer}cross_attn_token_to_image."
        w[attention + "q_proj.weight"], w[attention + "k_proj.weight"] = 1.2 * _positions(), 1.2 * _positions()
    marking = first + "cross_attn_image_to_token."
    w[marking + "q_proj.weight"], w[marking + "k_proj.weight"] = 1.5 * _positions(), 1.5 * _positions()
    w[marking + "v_proj.weight"][::_HEAD_WIDTH] = 0
    w[marking + "v_proj.weight"][::_HEAD_WIDTH, _PROMPTED] = 10
    w[marking + "out_proj.weight"] *= 0.2
    w[marking + "out_proj.weight"][_MARK] = 0
    w[marking + "out_proj.weight"][_MARK, ::_HEAD_WIDTH] = 1 / _HEADS
    w[marking + "out_proj.bias"][_MARK] = -4.5  # what side lobes amount to
    later = decoder + "transformer.layers.1.cross_attn_image_to_token.out_proj."
    w[later + "weight"] *= 0.3
    w[later + "weight"][_MARK] = 0


def _positions() -> Tensor:
    """(128, 256): each head takes eight frequencies of the position, their sines and their cosines."""
    rows = torch.zeros(_HEADS * _HEAD_WIDTH, 256)
    for head in range(_HEADS):
        for k in range(8):
            rows[head * _HEAD_WIDTH + 2 * k, head * 8 + k] = 1
            rows[head * _HEAD_WIDTH + 2 * k + 1, 128 + head * 8 + k] = 1
    return rows


def _read_marks(w: dict[str, Tensor]) -> None:
    """A mask is where the mark is above its height; image features fray its outline."""
    decoder = "sam_mask_decoder."
    for name, source in (("output_upscaling.0", "conv_s1"), ("output_upscaling.3", "conv_s0")):
        w[f"{decoder}{name}.weight"][:, _MARK] = 0
        w[f"{decoder}{name}.weight"][_MARK, _MARK] = 1
        for part in ("weight", "bias"):
            w[f"{decoder}{source}.{part}"][_MARK] = 0
    w[decoder + "output_upscaling.3.weight"][:, _CONSTANT] = 0
    w[decoder + "output_upscaling.3.bias"][_CONSTANT] = 4
    for part in ("weight", "bias"):
        w[f"{decoder}conv_s0.{part}"][_CONSTANT] = 0
    for mask, height in enumerate((0.7, 1.4, 0.7, 0.3)):
        head = f"{decoder}output_hypernetworks_mlps.{mask}.layers.2."
        w[head + "weight"] *= 0.6
        w[head + "weight"][_MARK] = 0
        w[head + "bias"][_MARK] = _SLOPE
        w[head + "bias"][_CONSTANT] = -_SLOPE * height / 4
    w[decoder + "iou_prediction_head.layers.2.bias"] += 1.9
    w[decoder + "pred_obj_score_head.layers.2.bias"] += 6


def _carry_marks(w: dict[str, Tensor]) -> None:
    """Memory is read at the place where it was written, and what was inside the mask then is marked now.

    Of a mask -10 or +10 everywhere, the random mask encoder makes two patterns: what reads the difference is found by encoding both.
    """
    layer = "memory_attention.layers.3."
    for other in range(4):
        w[f"memory_attention.layers.{other}.cross_attn_image.out_proj.weight"] *= 0.1
        w[f"memory_attention.layers.{other}.linear2.weight"] *= 0.3
    for part in ("weight", "bias"):
        w[f"memory_attention.norm.{part}"] *= 0.6
    w["memory_attention.norm.weight"][_MARK] = 1.5
    _only_places_have_keys(w)
    place = torch.zeros(256)
    place[[2 * k for k in (*range(14), *range(64, 78))]] = 5.0  # the highest frequencies of x and of y tell places apart
    attention = layer + "cross_attn_image."
    for part in "qk":
        w[f"{attention}{part}_proj.weight"] *= 0.1
    w[attention + "q_proj.bias"] = place
    w[attention + "k_proj.weight"][:, _PLACE] = place
    inside, outside = (_encoded_mask(w, value) for value in (10.0, -10.0))
    difference = (inside - outside) / (inside - outside).square().sum()
    w[attention + "v_proj.weight"][_MARK] = difference
    w[attention + "v_proj.bias"][_MARK] = -difference @ outside
    w[attention + "out_proj.weight"][_MARK] = 0
    w[attention + "out_proj.weight"][_MARK, _MARK] = 20


def _only_places_have_keys(w: dict[str, Tensor]) -> None:
    """The last channel of a memory is 1 by its position's cosine, and 0 of an object pointer, which has no place."""
    w["maskmem_tpos_enc"][..., _PLACE] = 0
    w["maskmem_tpos_enc"][-1, ..., _PLACE] = 0.1  # the prompted frame counts more, so that outlines neither grow nor shrink for long
    w["no_obj_embed_spatial"][..., _PLACE] = 0
    for part in ("weight", "bias"):
        w[f"memory_encoder.out_proj.{part}"][_PLACE] = 0
        w[f"obj_ptr_tpos_proj.{part}"][_PLACE] = 0
        w[f"obj_ptr_proj.layers.2.{part}"][_PLACE::64] = 0
    w["no_obj_ptr"][:, _PLACE::64] = 0


def _encoded_mask(w: dict[str, Tensor], value: float) -> Tensor:
    """(64,): the memory features of a mask of one value, image features apart."""
    from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    block = CXBlock(256)
    encoder = MemoryEncoder(64, MaskDownSampler(256, 3, 2, 1), Fuser(block, 2), PositionEmbeddingSine(64)).eval()
    encoder.load_state_dict({name.removeprefix("memory_encoder."): v for name, v in w.items() if name.startswith("memory_encoder.")})
    with torch.no_grad():
        mask = torch.full((1, 1, 256, 256), value)
        return encoder(torch.zeros(1, 256, 16, 16), mask, skip_mask_sigmoid=True)["vision_features"][0, :, 8, 8]


def textured_image(height: int = 240, width: int = 320, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: discs and boxes of many sizes before a soft background, all of them textured."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    coarse = torch.from_numpy(rng.random((1, 3, height // 24 + 2, width // 24 + 2)))
    image = F.interpolate(coarse, (height, width), mode="bicubic")[0].permute(1, 2, 0).numpy() * 160 + 20
    for _ in range(24):
        y, x, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.02, 0.15) * width
        inside = np.hypot(rows - y, columns - x) < radius if rng.random() < 0.5 else np.maximum(abs(rows - y), abs(columns - x)) < radius
        stripes = 20 * np.sin((rows * rng.uniform(-1, 1) + columns * rng.uniform(-1, 1)) * 0.8)
        image[inside] = rng.uniform(20, 235, 3) + stripes[inside][:, None]
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def install_torchvision(monkeypatch) -> None:
    """The five names of torchvision that the package's generator and predictors import, written anew, for one test."""
    root, ops, boxes, transforms = (types.ModuleType(f"torchvision{n}") for n in ("", ".ops", ".ops.boxes", ".transforms"))
    boxes.batched_nms, boxes.box_area = batched_nms, box_area  # type: ignore[attr-defined]
    transforms.Normalize, transforms.Resize, transforms.ToTensor = Normalize, Resize, ToTensor  # type: ignore[attr-defined]
    for module in (root, ops, boxes, transforms):
        monkeypatch.setitem(sys.modules, module.__name__, module)


class ToTensor:
    def __call__(self, image) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255


class Resize(nn.Module):
    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.height, self.width = size

    def forward(self, image: Tensor) -> Tensor:
        size = [self.height, self.width]
        return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False, antialias=True)[0]


class Normalize(nn.Module):
    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, image: Tensor) -> Tensor:
        mean = torch.tensor(self.mean, dtype=image.dtype, device=image.device).view(-1, 1, 1)
        std = torch.tensor(self.std, dtype=image.dtype, device=image.device).view(-1, 1, 1)
        return (image - mean) / std


def box_area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """One box at a time, as torchvision documents it; kept ones by falling score. All of one category, as the generator asks."""
    assert not idxs.any()
    order = [int(i) for i in torch.argsort(scores, descending=True, stable=True)]
    areas, kept = box_area(boxes), []
    while order:
        best, order = order[0], order[1:]
        kept.append(best)
        rest = torch.tensor(order, dtype=torch.long)
        low, high = torch.maximum(boxes[best, :2], boxes[rest, :2]), torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        common = (high - low).clamp(min=0).prod(dim=1)
        overlap = common / (areas[best] + areas[rest] - common)
        order = [i for i, iou in zip(order, overlap.tolist()) if not iou > iou_threshold]
    return torch.tensor(kept, dtype=torch.long)


def reference_generator(model, **options) -> Any:
    """The package's own generator; its feature sizes, written for 1024 px, are set for the model's image size."""
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    generator = SAM2AutomaticMaskGenerator(model, **{**GENERATOR, **options})
    generator.predictor._bb_feat_sizes = [(model.image_size // stride,) * 2 for stride in (4, 8, 16)]
    return generator


def reference_video_predictor(state: dict[str, Tensor], **overrides) -> Any:
    """The package's own video predictor with these weights, as its build_sam2_video_predictor configures it."""
    from semantic_stereo_ros.models.sam2 import loading as sam2_loading

    target = {"_target_": "sam2.sam2_video_predictor.SAM2VideoPredictor", "binarize_mask_from_pts_for_mem_enc": True, "fill_hole_area": 8}
    return sam2_loading.assemble(state, MODEL, IMAGE_SIZE, {**target, **overrides})


def moving_image(frame: int, height: int = 240, width: int = 320) -> np.ndarray:
    """(H, W, 3) uint8: frame 0, 1, ... of a clip in which the view of `textured_image` drifts by 2 px right and 1 px down per frame."""
    return np.roll(textured_image(height, width), (frame, 2 * frame), axis=(0, 1))
