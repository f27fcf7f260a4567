"""SAM 2's mask decoder for many prompts on one image: the package's weights and results, with about half of its arithmetic.

A prompt brings few tokens (8 for a point) and an image many (4096 at 1024 px). Where the two attend to each other the package projects
every image token, for every prompt. Here projections of image tokens that no prompt has changed yet are made once, and the others are
moved to the other side: (K W) q = K (W q) and (sum a K) W = sum a (K W), so the few tokens are projected instead.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def decode(decoder: Any, image: Tensor, position: Tensor, high_res: list[Tensor], prompts: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    """All mask logits (B, 4, 4h, 4w) and predicted IoUs (B, 4) of B prompts.

    decoder: sam2's MaskDecoder. image, position: (1, C, h, w) embedding and its positional encoding. high_res: (1, C/8, 4h, 4w) and
    (1, C/4, 2h, 2w). prompts: (B, P, C) sparse embeddings. dense: (1, C, 1, 1) or (1, C, h, w), the same for all prompts.
    """
    queries, keys = attend(decoder, image, position, prompts, dense)
    return draw(decoder, queries, keys, high_res, (image.shape[-2], image.shape[-1]))


def attend(decoder: Any, image: Tensor, position: Tensor, prompts: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
    """The first half of `decode`, the transformer: tokens (B, T, C) and image tokens (B, h w, C) that know of each other."""
    keys = (image + dense).flatten(2).transpose(1, 2)
    place = position.flatten(2).transpose(1, 2)
    return _two_way(decoder.transformer, keys, place, _tokens(decoder, prompts))


def draw(decoder: Any, queries: Tensor, keys: Tensor, high_res: list[Tensor], size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The second half of `decode`, of what `attend` gave. size_hw: (h, w) of the embedding."""
    height, width = size_hw
    first = int(decoder.pred_obj_scores)  # before the IoU token comes the object's score
    pixels = _upscale(decoder, keys, high_res, height, width)
    heads = decoder.output_hypernetworks_mlps
    hyper = torch.stack([heads[i](queries[:, first + 1 + i]) for i in range(decoder.num_mask_tokens)], dim=1)
    masks = _unshuffle(hyper @ pixels.transpose(1, 2), height, width)
    return masks, decoder.iou_prediction_head(queries[:, first])


def _tokens(decoder: Any, prompts: Tensor) -> Tensor:
    own = [decoder.obj_score_token.weight] if decoder.pred_obj_scores else []
    own = torch.cat([*own, decoder.iou_token.weight, decoder.mask_tokens.weight])
    return torch.cat([own.expand(prompts.shape[0], -1, -1), prompts], dim=1)


def _two_way(transformer: Any, keys: Tensor, place: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Queries (B, T, C) and image tokens (B, N, C); keys comes as (1, N, C)."""
    queries = tokens
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            queries = layer.self_attn(q=queries, k=queries, v=queries)
        else:
            asking = queries + tokens
            queries = queries + layer.self_attn(q=asking, k=asking, v=queries)
        queries = layer.norm1(queries)
        placed = keys + place
        queries = layer.norm2(queries + _ask_image(layer.cross_attn_token_to_image, queries + tokens, placed, keys))
        queries = layer.norm3(queries + layer.mlp(queries))
        told = _tell_image(layer.cross_attn_image_to_token, placed, queries + tokens, queries)
        keys = layer.norm4(told.add_(keys))
    asked = _ask_image(transformer.final_attn_token_to_image, queries + tokens, keys + place, keys)
    return transformer.norm_final_attn(queries + asked), keys


def _ask_image(attention: Any, asking: Tensor, placed: Tensor, image: Tensor) -> Tensor:
    """Cross-attention of few tokens to the image: (B, T, C). placed, image: (B or 1, N, C), keys and values before their projections."""
    batch, count, _ = asking.shape
    heads, width = attention.num_heads, attention.internal_dim // attention.num_heads
    q = attention.q_proj(asking).view(batch, count, heads, width).transpose(1, 2)
    if image.shape[0] == 1:
        k, v = (_split(projection(x), heads) for projection, x in ((attention.k_proj, placed), (attention.v_proj, image)))
        out = F.scaled_dot_product_attention(q, k.expand(batch, -1, -1, -1), v.expand(batch, -1, -1, -1))
    else:
        # The keys' bias adds the same to all of a row's scores, which a softmax does not notice.
        rows = torch.einsum("bhtd,hdc->bhtc", q, attention.k_proj.weight.view(heads, width, -1)).flatten(1, 2)
        share = torch.softmax((rows @ placed.transpose(1, 2)) * width**-0.5, dim=-1)
        seen = (share @ image).view(batch, heads, count, -1)
        out = torch.einsum("bhtc,hdc->bhtd", seen, attention.v_proj.weight.view(heads, width, -1))
        out = out + attention.v_proj.bias.view(1, heads, 1, width)
    return attention.out_proj(out.transpose(1, 2).reshape(batch, count, -1))


def _tell_image(attention: Any, placed: Tensor, tokens: Tensor, values: Tensor) -> Tensor:
    """Cross-attention of the image to few tokens: (B, N, C), a new tensor. placed: (B or 1, N, C)."""
    batch, count, _ = tokens.shape
    heads, width = attention.num_heads, attention.internal_dim // attention.num_heads
    k, v = (_split(projection(x), heads) for projection, x in ((attention.k_proj, tokens), (attention.v_proj, values)))
    if placed.shape[0] == 1:
        scores = torch.einsum("hnd,bhtd->bhtn", _split(attention.q_proj(placed), heads)[0], k)
    else:
        rows = torch.einsum("bhtd,hdc->bhtc", k, attention.q_proj.weight.view(heads, width, -1)).flatten(1, 2)
        offsets = (k @ attention.q_proj.bias.view(1, heads, width, 1)).view(batch, -1, 1)
        scores = torch.baddbmm(offsets, rows, placed.transpose(1, 2)).view(batch, heads, count, -1)
    # Tokens are few: a softmax along the last but one axis runs over many image tokens at once.
    share = torch.softmax(scores * width**-0.5, dim=2).flatten(1, 2).transpose(1, 2)
    out = attention.out_proj.weight.view(-1, heads, width)
    told = torch.einsum("bhtd,chd->bhtc", v, out).flatten(1, 2)
    return torch.baddbmm(attention.out_proj.bias.expand(batch, 1, -1), share, told)


def _split(x: Tensor, heads: int) -> Tensor:
    batch, count, width = x.shape
    return x.view(batch, count, heads, width // heads).transpose(1, 2)


def _upscale(decoder: Any, keys: Tensor, high_res: list[Tensor], height: int, width: int) -> Tensor:
    """(B, 16 h w, C/8): pixels at four times the embedding's resolution, in the order that `_unshuffle` undoes.

    A transposed convolution whose kernel is its stride is one matrix product: channels stay last, and pixels in blocks of one token.
    """
    grow1, norm, act1, grow2, act2 = decoder.output_upscaling
    fine = _in_blocks(high_res[1], height, width, 1)
    coarse = keys @ _kernel(grow1) + grow1.bias.repeat(4)
    coarse = coarse.view(keys.shape[0], height * width * 4, -1).add_(fine)
    coarse = act1(F.layer_norm(coarse, (grow1.out_channels,), norm.weight, norm.bias, norm.eps))
    pixels = (coarse @ _kernel(grow2) + grow2.bias.repeat(4)).view(keys.shape[0], height * width * 16, -1)
    return act2(pixels.add_(_in_blocks(high_res[0], height, width, 2)))


def _kernel(convolution: Any) -> Tensor:
    """(inputs, 4 * outputs) of a transposed convolution with kernel and stride 2."""
    return convolution.weight.permute(0, 2, 3, 1).flatten(1)


def _in_blocks(features: Tensor, height: int, width: int, levels: int) -> Tensor:
    """(1, C, 2^L h, 2^L w) -> (1, h w 4^L, C): all pixels of one token after another, each level's 2 x 2 inside the coarser one's."""
    channels = features.shape[1]
    x = features.view(channels, height, *(2,) * levels, width, *(2,) * levels)
    rows, columns = range(2, 2 + levels), range(3 + levels, 3 + 2 * levels)
    return x.permute(1, 2 + levels, *(axis for pair in zip(rows, columns) for axis in pair), 0).reshape(1, -1, channels)


def _unshuffle(masks: Tensor, height: int, width: int) -> Tensor:
    """(B, M, 16 h w) in blocks -> (B, M, 4h, 4w)."""
    batch, count = masks.shape[:2]
    x = masks.view(batch, count, height, width, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return x.reshape(batch, count, 4 * height, 4 * width)
