"""A plain FoundationStereo, straight from the specification: the oracle of memory and parity.

Functions over a state_dict; nothing is fused, chunked, folded or cached, every volume exists as a whole. `trace` receives every named
intermediate of the reference data. Eval mode, float32 unless the state_dict holds another dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

VITS = {"vits": (384, 12, 6, (2, 5, 8, 11)), "vitb": (768, 12, 12, (2, 5, 8, 11)), "vitl": (1024, 24, 16, (4, 11, 17, 23))}


def pad_32(images: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
    """(B, C, H, W) -> padded to multiples of 32 by edge replication; (left, right, top, bottom)."""
    height, width = images.shape[-2:]
    dy, dx = -height % 32, -width % 32
    pad = (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2)
    return F.pad(images, pad, mode="replicate"), pad


def crop(x: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
    left, right, top, bottom = pad
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def dino_size(height: int, width: int) -> tuple[int, int]:
    def up(x):
        return math.ceil(x / 112) * 112

    dh, dw = up(height), up(width)
    if max(dh, dw) > 1344:
        if dh > dw:
            dh, dw = 1344, up(dw * 1344 / dh)
        else:
            dh, dw = up(dh * 1344 / dw), 1344
    return dh, dw


def fourier(height: int, width: int, like: Tensor) -> Tensor:
    """EdgeNeXt's positional table, (1, 64, H, W): y first."""
    j = torch.arange(32)
    freq = 10000 ** (2 * (j // 2) / 32)

    def table(n):
        angle = torch.arange(1, n + 1)[:, None] / (n + 1e-6) * (2 * math.pi) / freq
        return torch.where(j % 2 == 0, angle.sin(), angle.cos())

    y = table(height).T[:, :, None].expand(-1, -1, width)
    x = table(width).T[:, None, :].expand(-1, height, -1)
    return torch.cat([y, x])[None].to(like)


class Plain:
    """state_dict: names as in the official checkpoint. attention: 'tokens' or 'heads'."""

    def __init__(self, state_dict: dict[str, Tensor], vit: str, max_disp: int, attention: str = "tokens") -> None:
        self.sd, self.vit, self.max_disp, self.attention = state_dict, vit, max_disp, attention
        self.trace: Callable[[str, Tensor], None] = lambda name, value: None

    # Layers ---------------------------------------------------------------------------------------------------------------

    def conv(self, x: Tensor, name: str, stride=1, pad: Any = 0, groups=1) -> Tensor:
        weight, bias = self.sd[name + ".weight"], self.sd.get(name + ".bias")
        return (F.conv3d if weight.ndim == 5 else F.conv2d)(x, weight, bias, stride, pad, groups=groups)

    def deconv(self, x: Tensor, name: str, stride: int, pad: int) -> Tensor:
        weight, bias = self.sd[name + ".weight"], self.sd.get(name + ".bias")
        return (F.conv_transpose3d if weight.ndim == 5 else F.conv_transpose2d)(x, weight, bias, stride, pad)

    def bn(self, x: Tensor, name: str) -> Tensor:
        sd = self.sd
        return F.batch_norm(x, sd[name + ".running_mean"], sd[name + ".running_var"], sd[name + ".weight"], sd[name + ".bias"], eps=1e-5)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.sd[name + ".weight"], self.sd[name + ".bias"])

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.sd[name + ".weight"], self.sd[name + ".bias"], eps)

    def channel_norm(self, x: Tensor, name: str) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1), name, 1e-6).permute(0, 3, 1, 2)

    # Monocular prior ------------------------------------------------------------------------------------------------------

    def vit_feature(self, x: Tensor) -> Tensor:
        p = "feature.dino.depth_anything.pretrained."
        dim, depth, heads, taken = VITS[self.vit]
        height, width = x.shape[-2:]
        size = dino_size(height, width)
        y = F.interpolate(x, size, mode="bicubic", align_corners=False)
        self.trace("dino_in", y)
        y = self.conv(y, p + "patch_embed.proj", stride=14)
        ph, pw = y.shape[-2:]
        tokens = y.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.sd[p + "cls_token"].expand(len(x), -1, -1), tokens], 1)
        grid = self.sd[p + "pos_embed"][:, 1:].reshape(1, 37, 37, dim).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, scale_factor=((ph + 0.1) / 37, (pw + 0.1) / 37), mode="bicubic", align_corners=False)
        assert grid.shape[-2:] == (ph, pw)
        tokens = tokens + torch.cat([self.sd[p + "pos_embed"][:, :1], grid.flatten(2).transpose(1, 2)], 1)
        self.trace("dino_tokens_in", tokens)
        outputs = []
        for i in range(depth):
            tokens = self.vit_block(tokens, f"{p}blocks.{i}.", heads)
            if i == 0:
                self.trace("dino_block0", tokens)
            if i in taken:
                outputs.append(self.norm(tokens, p + "norm", 1e-6)[:, 1:])
        self.trace("dino_feat0", outputs[0])
        self.trace("dino_feat3", outputs[3])
        out = self.dpt([t.transpose(1, 2).unflatten(2, (ph, pw)) for t in outputs])
        out = F.interpolate(out, size, mode="bilinear", align_corners=True)
        self.trace("dpt_out", out)
        out = F.interpolate(out, (height // 4, width // 4), mode="bilinear", align_corners=True)
        self.trace("vit_feat", out)
        return out

    def vit_block(self, x: Tensor, p: str, heads: int) -> Tensor:
        batch, count, dim = x.shape
        q, k, v = self.linear(self.norm(x, p + "norm1", 1e-6), p + "attn.qkv").view(batch, count, 3, heads, 64).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, count, dim)
        x = x + self.sd[p + "ls1.gamma"] * self.linear(y, p + "attn.proj")
        y = self.linear(F.gelu(self.linear(self.norm(x, p + "norm2", 1e-6), p + "mlp.fc1")), p + "mlp.fc2")
        return x + self.sd[p + "ls2.gamma"] * y

    def dpt(self, maps: list[Tensor]) -> Tensor:
        p = "feature.dino.depth_anything.depth_head."
        levels = []
        for i, m in enumerate(maps):
            m = self.conv(m, f"{p}projects.{i}")
            if i == 0:
                m = self.deconv(m, p + "resize_layers.0", 4, 0)
            elif i == 1:
                m = self.deconv(m, p + "resize_layers.1", 2, 0)
            elif i == 3:
                m = self.conv(m, p + "resize_layers.3", 2, 1)
            levels.append(self.conv(m, f"{p}scratch.layer{i + 1}_rn", pad=1))

        def unit(x, name):
            y = self.conv(F.relu(x), name + ".conv1", pad=1)
            return x + self.conv(F.relu(y), name + ".conv2", pad=1)

        def fuse(x, skip, j, size):
            name = f"{p}scratch.refinenet{j}"
            if skip is not None:
                x = x + unit(skip, name + ".resConfUnit1")
            x = unit(x, name + ".resConfUnit2")
            return self.conv(F.interpolate(x, size, mode="bilinear", align_corners=True), name + ".out_conv")

        l1, l2, l3, l4 = levels
        path = fuse(l4, None, 4, l3.shape[-2:])
        self.trace("dpt_path_4", path)
        path = fuse(path, l3, 3, l2.shape[-2:])
        self.trace("dpt_path_3", path)
        path = fuse(path, l2, 2, l1.shape[-2:])
        self.trace("dpt_path_2", path)
        path = fuse(path, l1, 1, (2 * l1.shape[-2], 2 * l1.shape[-1]))
        self.trace("dpt_path_1", path)
        return self.conv(path, p + "scratch.output_conv1", pad=1)

    # CNN ------------------------------------------------------------------------------------------------------------------

    def edgenext(self, x: Tensor) -> list[Tensor]:
        x = self.channel_norm(self.conv(x, "feature.stem.0", stride=4), "feature.stem.1")
        self.trace("edge_stem", x)
        outputs = []
        for s, (depth, splits) in enumerate(((3, 0), (3, 1), (9, 2), (3, 3))):
            p = f"feature.stages.{s}."
            if s:
                x = self.conv(self.channel_norm(x, p + "downsample.0"), p + "downsample.1", stride=2)
            for j in range(depth):
                block = f"{p}blocks.{j}."
                x = self.sdta(x, block, splits) if splits and j == depth - 1 else self.conv_block(x, block, (3, 5, 7, 9)[s])
            self.trace(f"edge_stage{s}", x)
            outputs.append(x)
        return outputs

    def mlp(self, y: Tensor, p: str) -> Tensor:
        y = self.linear(F.gelu(self.linear(self.norm(y, p + "norm", 1e-6), p + "mlp.fc1")), p + "mlp.fc2")
        return self.sd[p + "gamma"] * y

    def conv_block(self, x: Tensor, p: str, kernel: int) -> Tensor:
        y = self.conv(x, p + "conv_dw", pad=kernel // 2, groups=x.shape[1])
        return x + self.mlp(y.permute(0, 2, 3, 1), p).permute(0, 3, 1, 2)

    def sdta(self, x: Tensor, p: str, n: int) -> Tensor:
        batch, channels, height, width = x.shape
        chunks = x.chunk(n + 1, 1)
        s, parts = chunks[0], []
        for i in range(n):
            if i:
                s = s + chunks[i]
            s = self.conv(s, f"{p}convs.{i}", pad=1, groups=s.shape[1])
            parts.append(s)
        t = torch.cat([*parts, chunks[-1]], 1)
        if p + "pos_embd.token_projection.weight" in self.sd:
            t = t + self.conv(fourier(height, width, t), p + "pos_embd.token_projection")
        t = t.flatten(2).transpose(1, 2)
        qkv = self.linear(self.norm(t, p + "norm_xca", 1e-6), p + "xca.qkv")
        q, k, v = qkv.view(batch, -1, 3, 8, channels // 8).permute(2, 0, 3, 4, 1)
        a = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.sd[p + "xca.temperature"]).softmax(-1)
        y = (a @ v).permute(0, 3, 1, 2).reshape(batch, -1, channels)
        t = t + self.sd[p + "gamma_xca"] * self.linear(y, p + "xca.proj")
        return x + self.mlp(t, p).transpose(1, 2).unflatten(2, (height, width))

    def fuse_up(self, low: Tensor, skip: Tensor, name: str) -> Tensor:
        up = F.leaky_relu(F.instance_norm(self.deconv(low, name + ".conv1.conv", 2, 1)))
        x = torch.cat([up, skip], 1)
        y = F.relu(F.instance_norm(self.conv(x, name + ".conv2.conv1", pad=1)))
        x = F.relu(F.instance_norm(self.conv(y, name + ".conv2.conv2", pad=1)) + x)
        self.trace(name.removeprefix("feature."), x)
        return x

    def features(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        vit = self.vit_feature(x)
        c4, c8, c16, c32 = self.edgenext(x)
        f16 = self.fuse_up(c32, c16, "feature.deconv32_16")
        f8 = self.fuse_up(f16, c8, "feature.deconv16_8")
        u4 = self.fuse_up(f8, c4, "feature.deconv8_4")
        y = F.leaky_relu(F.instance_norm(self.conv(torch.cat([u4, vit], 1), "feature.conv4.0.conv", pad=1)))
        for name in ("feature.conv4.1", "feature.conv4.2"):
            z = F.relu(F.instance_norm(self.conv(y, name + ".conv1", pad=1)))
            y = F.relu(y + F.relu(F.instance_norm(self.conv(z, name + ".conv2", pad=1))))
        for size, f in ((4, y), (8, f8), (16, f16), (32, c32)):
            self.trace(f"feat{size}", f)
        return [y, f8, f16, c32], vit

    # Cost volume ----------------------------------------------------------------------------------------------------------

    def volume(self, left: Tensor, right: Tensor) -> Tensor:
        depth = self.max_disp // 4

        def groups(f):
            return F.normalize(f.float().unflatten(1, (8, -1)), dim=2, eps=1e-12)

        def shifted(f, d):
            return F.pad(f, (d, 0))[..., : f.shape[-1]]

        gl, gr = groups(left), groups(right)
        gwc = torch.stack([(gl * shifted(gr, d)).sum(2) for d in range(depth)], 2).to(left.dtype)
        self.trace("gwc_volume", gwc)
        pl, pr = self.conv(left, "proj_cmb"), self.conv(right, "proj_cmb")
        concat = torch.cat([pl.unsqueeze(2).expand(-1, -1, depth, -1, -1), torch.stack([shifted(pr, d) for d in range(depth)], 2)], 1)
        self.trace("concat_volume", concat)
        x = self.conv(torch.cat([gwc, concat], 1), "corr_stem.0")
        x = self.b3(x, "corr_stem.1", pad=1)
        x = self.residual3(self.residual3(x, "corr_stem.2"), "corr_stem.3")
        self.trace("corr_stem", x)
        x = self.gate(x, left, "corr_feature_att")
        self.trace("corr_feature_att", x)
        return x

    def b3(self, x: Tensor, name: str, stride=1, pad=0) -> Tensor:
        return F.leaky_relu(self.bn(self.conv(x, name + ".conv", stride, pad), name + ".bn"))

    def u3(self, x: Tensor, name: str) -> Tensor:
        return F.leaky_relu(self.bn(self.deconv(x, name + ".conv", 2, 1), name + ".bn"))

    def residual3(self, x: Tensor, name: str) -> Tensor:
        y = F.relu(self.bn(self.conv(x, name + ".conv1", pad=1), name + ".bn1"))
        return F.relu(self.bn(self.conv(y, name + ".conv2", pad=1), name + ".bn2") + x)

    def apc(self, x: Tensor, name: str) -> Tensor:
        x = F.relu(self.bn(self.conv(x, name + ".conv1.0", pad=(0, 1, 1)), name + ".conv1.1"))
        return F.relu(self.bn(self.conv(x, name + ".conv2.0", pad=(8, 0, 0)), name + ".conv2.1"))

    def gate(self, x: Tensor, feature: Tensor, name: str) -> Tensor:
        g = F.leaky_relu(self.bn(self.conv(feature, name + ".feat_att.0.conv"), name + ".feat_att.0.bn"))
        return x * torch.sigmoid(self.conv(g, name + ".feat_att.1")).unsqueeze(2)

    def filter(self, x: Tensor, features: list[Tensor]) -> Tensor:
        p = "cost_agg."
        _, f8, f16, f32 = features
        e1 = self.gate(self.apc(self.b3(x, p + "conv1.0", 2, 1), p + "conv1.1"), f8, p + "feature_att_8")
        e2 = self.gate(self.apc(self.b3(e1, p + "conv2.0", 2, 1), p + "conv2.1"), f16, p + "feature_att_16")
        e3 = self.gate(self.apc(self.b3(e2, p + "conv3.0", 2, 1), p + "conv3.1"), f32, p + "feature_att_32")
        for i, e in enumerate((e1, e2, e3)):
            self.trace(f"agg_conv{i + 1}", e)
        y = self.b3(torch.cat([self.u3(e3, p + "conv3_up"), e2], 1), p + "agg_0.0")
        y = self.gate(self.apc(self.apc(y, p + "agg_0.1"), p + "agg_0.2"), f16, p + "feature_att_up_16")
        self.trace("agg_up16", y)
        y = self.b3(torch.cat([self.u3(y, p + "conv2_up"), e1], 1), p + "agg_1.0")
        y = self.gate(self.apc(self.apc(y, p + "agg_1.1"), p + "agg_1.2"), f8, p + "feature_att_up_8")
        self.trace("agg_up8", y)
        v = self.u3(y, p + "conv1_up")
        self.trace("agg_conv1_up", v)
        geo = self.apc(self.apc(v + self.transformer(x), p + "conv_out.0"), p + "conv_out.1")
        self.trace("cost_agg", geo)
        return geo

    def transformer(self, x: Tensor) -> Tensor:
        p = "cost_agg."
        x = self.bn(self.conv(x, p + "conv_patch.0", stride=4, groups=28), p + "conv_patch.1")
        self.trace("agg_patch", x)
        batch, channels, depth, height, width = x.shape
        t = x.permute(0, 3, 4, 2, 1).reshape(-1, depth, channels)
        n = torch.arange(depth, dtype=torch.float32)[:, None]
        angle = n * torch.exp(-2 * torch.arange(14) * math.log(10000) / 28)
        t = t + torch.stack([angle.sin(), angle.cos()], 2).flatten(1).to(t)
        for i in range(4):
            s = f"{p}atts.4.sa.{i}."
            q, k, v = (self.linear(t, f"{s}self_attn.{c}_proj").unflatten(2, (4, 7)) for c in "qkv")
            if self.attention == "tokens":
                y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
            else:
                y = F.scaled_dot_product_attention(q, k, v)
            t = self.norm(t + self.linear(y.flatten(2), s + "self_attn.out_proj"), s + "norm1", 1e-5)
            t = self.norm(t + self.linear(F.gelu(self.linear(t, s + "linear1")), s + "linear2"), s + "norm2", 1e-5)
            if i == 0:
                self.trace("agg_dt_layer0", t)
        y = t.view(batch, height, width, depth, channels).permute(0, 4, 3, 1, 2)
        self.trace("agg_dt", y)
        return F.interpolate(y, scale_factor=4, mode="trilinear", align_corners=False)

    def initial(self, geo: Tensor) -> Tensor:
        logits = self.conv(self.residual3(self.b3(geo, "classifier.0", pad=1), "classifier.1"), "classifier.2", pad=3)
        self.trace("logits", logits)
        logits = logits.squeeze(1)
        d = torch.arange(logits.shape[1], dtype=logits.dtype).view(1, -1, 1, 1)
        return (logits.softmax(1) * d).sum(1, keepdim=True)

    # Context --------------------------------------------------------------------------------------------------------------

    def residual2(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        y = F.relu(self.bn(self.conv(x, name + ".conv1", stride, 1), name + ".norm1"))
        y = F.relu(self.bn(self.conv(y, name + ".conv2", pad=1), name + ".norm2"))
        if name + ".downsample.0.weight" in self.sd:
            x = self.bn(self.conv(x, name + ".downsample.0", stride), name + ".downsample.1")
        return F.relu(x + y)

    def layer(self, x: Tensor, name: str, stride: int) -> Tensor:
        return self.residual2(self.residual2(x, name + ".0", stride), name + ".1")

    def context(self, image: Tensor, vit: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        x = F.relu(self.bn(self.conv(image, "cnet.conv1", pad=3), "cnet.norm1"))
        x = self.layer(self.layer(self.layer(x, "cnet.layer1", 1), "cnet.layer2", 2), "cnet.layer3", 2)
        x4 = F.leaky_relu(self.bn(self.conv(torch.cat([x, vit], 1), "cnet.conv2.conv", pad=1), "cnet.conv2.bn"))
        x8 = self.layer(x4, "cnet.layer4", 2)
        x16 = self.layer(x8, "cnet.layer5", 2)
        nets, inputs, attentions = [], [], []
        for level, x in (("04", x4), ("08", x8), ("16", x16)):
            heads = []
            for i in (0, 1):
                name = f"cnet.outputs{level}.{i}"
                y = self.conv(x, name, pad=1) if level == "16" else self.conv(self.residual2(x, name + ".0"), name + ".1", pad=1)
                self.trace(f"cnet{level}_{i}", y)
                heads.append(y)
            nets.append(heads[0].tanh())
            self.trace(f"net{level}_0", nets[-1])
            y = F.relu(heads[1])
            pools = (y.mean((2, 3), keepdim=True), y.amax((2, 3), keepdim=True))
            mean, peak = (self.conv(F.relu(self.conv(p, "cam.fc.0")), "cam.fc.2") for p in pools)
            a = torch.sigmoid(mean + peak)
            inputs.append(a * y)
            self.trace(f"inp{level}", inputs[-1])
            y = torch.cat([inputs[-1].mean(1, keepdim=True), inputs[-1].amax(1, keepdim=True)], 1)
            attentions.append(torch.sigmoid(self.conv(y, "sam.samconv", pad=3)))
            self.trace(f"att{level}", attentions[-1])
        return nets, inputs, attentions

    # Look-up and update ---------------------------------------------------------------------------------------------------

    def tables(self, geo: Tensor, left: Tensor, right: Tensor) -> list[tuple[Tensor, Tensor]]:
        batch, channels, depth, height, width = geo.shape
        rows = geo.float().permute(0, 3, 4, 1, 2).reshape(batch * height * width, channels, 1, depth)
        a, b = F.normalize(left.float(), dim=1, eps=1e-12), F.normalize(right.float(), dim=1, eps=1e-12)
        corr = torch.einsum("bchx,bchy->bhxy", a, b).reshape(batch * height * width, 1, 1, width)
        return [(rows, corr), (F.avg_pool2d(rows, (1, 2)), F.avg_pool2d(corr, (1, 2)))]

    def look_up(self, tables: list[tuple[Tensor, Tensor]], disparity: Tensor) -> Tensor:
        batch, _, height, width = disparity.shape
        offsets = torch.arange(-4.0, 5.0).view(1, 9)
        x = torch.arange(width, dtype=torch.float32).repeat(batch * height).view(-1, 1)
        d = disparity.float().reshape(-1, 1)
        result = []
        for i, (geo, corr) in enumerate(tables):
            for table, at in ((geo, d / 2**i + offsets), (corr, x / 2**i - d / 2**i + offsets)):
                length = table.shape[-1]
                grid = torch.stack([2 * at / (length - 1) - 1, torch.zeros_like(at)], -1).unsqueeze(1)
                y = F.grid_sample(table, grid, align_corners=True).reshape(batch, height, width, -1)
                result.append(y.permute(0, 3, 1, 2))
        return torch.cat(result, 1)

    def gru(self, name: str, attention: Tensor, hidden: Tensor, *xs: Tensor) -> Tensor:
        x = F.relu(self.conv(torch.cat(xs, 1), name + ".conv0.0", pad=1))
        hx = F.relu(self.conv(torch.cat([x, hidden], 1), name + ".conv1.0", pad=1))

        def cell(size, pad):
            n = f"{name}.{size}_gru.conv"
            z, r = torch.sigmoid(self.conv(hx, n + "z", pad=pad)), torch.sigmoid(self.conv(hx, n + "r", pad=pad))
            q = torch.tanh(self.conv(torch.cat([r * hidden, x], 1), n + "q", pad=pad))
            return (1 - z) * hidden + z * q

        return attention * cell("small", 0) + (1 - attention) * cell("large", 1)

    def update(self, nets, inputs, attentions, tables, disparity: Tensor, index: int) -> tuple[list[Tensor], Tensor]:
        n4, n8, n16 = nets
        p = "update_block."

        def pool(x):
            return F.avg_pool2d(x, 3, 2, 1)

        def up(x, to):
            return F.interpolate(x, to.shape[-2:], mode="bilinear", align_corners=True)

        geo = self.look_up(tables, disparity)
        self.trace(f"geo_feat_{index}", geo)
        n16 = self.gru(p + "gru16", attentions[2], n16, inputs[2], pool(n8))
        n8 = self.gru(p + "gru08", attentions[1], n8, inputs[1], pool(n4), up(n16, n8))
        cor = F.relu(self.conv(F.relu(self.conv(geo, p + "encoder.convc1")), p + "encoder.convc2", pad=1))
        dd = F.relu(self.conv(F.relu(self.conv(disparity, p + "encoder.convd1", pad=3)), p + "encoder.convd2", pad=1))
        motion = torch.cat([F.relu(self.conv(torch.cat([cor, dd], 1), p + "encoder.conv", pad=1)), disparity], 1)
        n4 = self.gru(p + "gru04", attentions[0], n4, inputs[0], motion, up(n8, n4))
        y = F.relu(self.conv(n4, p + "disp_head.conv.0", pad=1))
        for i in (2, 3):
            b = f"{p}disp_head.conv.{i}."
            z = self.conv(y, b + "dwconv", pad=3, groups=128).permute(0, 2, 3, 1)
            z = self.linear(F.gelu(self.linear(z, b + "pwconv1")), b + "pwconv2") * self.sd[b + "gamma"]
            y = y + z.permute(0, 3, 1, 2)
        delta = self.conv(y, p + "disp_head.conv.4", pad=1)
        if index == 0:
            self.trace("motion_0", motion)
            for level, net in (("16", n16), ("08", n8), ("04", n4)):
                self.trace(f"net{level}_1", net)
        return [n4, n8, n16], delta

    # The whole ------------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def forward(self, left: Tensor, right: Tensor, iterations: int, initial: Tensor | None = None) -> Tensor:
        """left, right: (B, 3, H, W) float 0..255, H and W multiples of 32 -> (B, 1, H, W) px."""
        mean, std = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        images = (torch.cat([left, right]) / 255 - mean) / std
        batch = len(left)
        features, vit = self.features(images)
        lefts, rights = [f[:batch] for f in features], [f[batch:] for f in features]
        image = images[:batch]
        stem = F.leaky_relu(F.instance_norm(self.conv(image, "stem_2.0.conv", 2, 1)))
        stem = F.relu(F.instance_norm(self.conv(stem, "stem_2.1", pad=1)))
        self.trace("stem_2x", stem)
        geo = self.filter(self.volume(lefts[0], rights[0]), lefts)
        disparity = self.initial(geo)
        self.trace("init_disp", disparity)
        if initial is not None:
            disparity = initial
        nets, inputs, attentions = self.context(image, vit[:batch])
        tables = self.tables(geo, lefts[0], rights[0])
        for k in range(iterations):
            self.trace(f"disp_in_{k}", disparity)
            nets, delta = self.update(nets, inputs, attentions, tables, disparity, k)
            self.trace(f"delta_{k}", delta)
            disparity = disparity + delta
        mask = F.relu(self.conv(nets[0], "update_block.mask.0", pad=1))
        mask = 0.25 * F.relu(self.conv(mask, "update_block.mask.2", pad=1))
        self.trace("mask_feat_last", mask)
        y = F.leaky_relu(self.deconv(mask, "spx_2_gru.conv1.conv", 2, 1))
        y = F.leaky_relu(self.conv(torch.cat([y, stem], 1), "spx_2_gru.conv2.conv", pad=1))
        logits = self.deconv(y, "spx_gru.0", 2, 1)
        self.trace("spx_logits", logits)
        patches = F.unfold(4 * disparity, 3, padding=1).view(batch, 9, *disparity.shape[-2:])
        result = (F.interpolate(patches, scale_factor=4, mode="nearest") * logits.softmax(1)).sum(1, keepdim=True)
        self.trace("disparity", result)
        return result

    def run(self, left: Tensor, right: Tensor, iterations: int) -> Tensor:
        """Any size: pad, forward, crop."""
        padded, pad = pad_32(torch.cat([left, right]))
        return crop(self.forward(padded[: len(left)], padded[len(left) :], iterations), pad)

    def run_hierarchical(self, left: Tensor, right: Tensor, iterations: int, ratio: float = 0.5) -> Tensor:
        """Coarse to fine for large images; a trace gets each name twice, for the small pass first."""
        small = [F.interpolate(x, scale_factor=ratio, mode="bilinear", align_corners=False) for x in (left, right)]
        coarse = self.run(small[0], small[1], iterations)
        up = (F.interpolate(coarse, left.shape[-2:], mode="bilinear", align_corners=True) / ratio).clamp(min=0)
        padded, pad = pad_32(torch.cat([left, right]))
        up = F.pad(up, pad, mode="replicate") + pad[0]
        initial = 0.25 * F.interpolate(up, scale_factor=0.25, mode="bilinear", align_corners=True)
        return crop(self.forward(padded[: len(left)], padded[len(left) :], iterations, initial), pad)
