"""Parts whose work at each pixel is a product with the same weights, by what is fastest there. They take the place of plain ones."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from semantic_stereo_ros.models import hardware
from semantic_stereo_ros.models.cpu import dense, parallel
from semantic_stereo_ros.models.foundation_stereo.backbones.vit import Mlp
from semantic_stereo_ros.models.foundation_stereo.blocks import AxialPlanar, relu
from semantic_stereo_ros.models.foundation_stereo.update import PointwiseBlock

ROWS_AT_A_TIME = 8


class FastMlp(Mlp):
    def forward(self, x: Tensor) -> Tensor:
        y = dense.linear(x, self.fc1.weight, self.fc1.bias, gelu=True)
        return dense.linear(y, self.fc2.weight, self.fc2.bias)


class FastAxialPlanar(AxialPlanar):
    def forward(self, x: Tensor) -> Tensor:
        return self.along_disparity(relu(self.conv1(x)))

    def along_disparity(self, x: Tensor) -> Tensor:
        """The second convolution and its ReLU, as one over (disparity, pixels): libraries have fast kernels for two dimensions only."""
        conv, norm = self.conv2
        assert isinstance(conv, nn.Conv3d)
        y = F.conv2d(x.flatten(3), conv.weight.squeeze(4), conv.bias, padding=(8, 0)).unflatten(3, x.shape[3:])
        return relu(norm(y))


class FastPointwiseBlock(PointwiseBlock):
    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x)
        if not hardware.eager_on_cpu(x):
            return self.mixed(x, y)

        def mix(start: int) -> None:
            rows = slice(start, start + ROWS_AT_A_TIME)
            y[:, :, rows] = self.mixed(x[:, :, rows], y[:, :, rows])

        parallel.each(mix, range(0, y.shape[2], ROWS_AT_A_TIME))
        return y

    def mixed(self, x: Tensor, y: Tensor) -> Tensor:
        """Both (B, C, h, w) -> the same shape, each pixel by itself."""
        first, second = self.pwconv1, self.pwconv2
        y = dense.linear(y.permute(0, 2, 3, 1), first.weight, first.bias, gelu=True)
        return x + (self.gamma * dense.linear(y, second.weight, second.bias)).permute(0, 3, 1, 2)
