"""MobileNetV1 (Howard et al. 2017, arXiv 1704.04861) for CIFAR and ImageNet, at any width."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""out channels at width 1 and stride of each block."""


class SeparableBlock(nn.Module):
    """Depthwise 3x3, BN, ReLU, 1x1, BN, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, stride=stride, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)))


class MobileNetV1(nn.Module):
    """Conv 3x3, BN, ReLU, thirteen separable blocks, global average pool, linear.

    Input [batch, in_channels, height, width]; output [batch, classes].

    Args:
        classes: number of classes.
        image_size: pixels; the first conv has stride 1 up to 64, stride 2 above.
        width_mult: factor on every number of channels, which is then cut to an integer.
        in_channels: channels of the images.
    """

    def __init__(self, classes: int, image_size: int, width_mult: float = 1.0, in_channels: int = 3) -> None:
        super().__init__()
        self.image_size = image_size
        channels = int(32 * width_mult)
        if channels < 1:
            raise ValueError(f"width_mult {width_mult} leaves no channel.")
        stride = 1 if image_size <= 64 else 2
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        blocks = []
        for width, stride in BLOCKS:
            blocks.append(SeparableBlock(channels, int(width * width_mult), stride))
            channels = int(width * width_mult)
        self.layers = nn.Sequential(*blocks)
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        return self.linear(x.mean(dim=(2, 3)))
