"""Blocks of residual networks, and the layers that they are made of (sources: see resnet.py)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Padding = Literal["symmetric", "same_tensorflow"]
Shortcut = Literal["A", "A_both", "B"]


class SamePad(nn.Module):
    """Zeros around images so that a convolution's output side is ceil(input side / stride), as TensorFlow's "same".

    An odd pixel stands at the end: before a 3x3 convolution of stride 2 an even side is padded by (0, 1).
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, images: Tensor) -> Tensor:
        pads: list[int] = []
        for side in reversed(images.shape[2:]):
            total = max((math.ceil(side / self.stride) - 1) * self.stride + self.kernel - side, 0)
            pads += [total // 2, total - total // 2]
        return F.pad(images, pads)


class PaddedShortcut(nn.Module):
    """Shortcut A: every stride-th row and column, and channels of zeros before and after the input's own."""

    def __init__(self, stride: int, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.before, self.after = stride, before, after

    def forward(self, images: Tensor) -> Tensor:
        strided = images[:, :, :: self.stride, :: self.stride]
        return F.pad(strided, (0, 0, 0, 0, self.before, self.after))


class Layers:
    """Makes convolutions and norms with one network's padding, epsilon and momentum."""

    def __init__(self, padding: Padding, bn_epsilon: float, bn_momentum: float) -> None:
        if padding not in ("symmetric", "same_tensorflow"):
            raise ValueError(f"padding is symmetric or same_tensorflow, not {padding!r}")
        self.padding, self.bn_epsilon, self.bn_momentum = padding, bn_epsilon, bn_momentum

    def conv(self, rows: int, columns: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
        """`columns` channels to `rows`, no bias; out side = ceil(in side / stride) after `pad`."""
        padding = 0 if self._pads_before(kernel, stride) else kernel // 2
        return nn.Conv2d(columns, rows, kernel, stride=stride, padding=padding, groups=groups, bias=False)

    def pad(self, conv: nn.Conv2d) -> nn.Module:
        """What stands before a convolution."""
        kernel, stride = conv.kernel_size[0], conv.stride[0]
        return SamePad(kernel, stride) if self._pads_before(kernel, stride) else nn.Identity()

    def _pads_before(self, kernel: int, stride: int) -> bool:
        return self.padding == "same_tensorflow" and stride > 1 and kernel > 1

    def norm(self, channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=self.bn_epsilon, momentum=self.bn_momentum)

    def shortcut(self, columns: int, rows: int, stride: int, kind: Shortcut, norm: bool) -> nn.Module:
        """The identity where the shapes agree; else A (zeros last), A_both (half and half) or B (1x1)."""
        if columns == rows and stride == 1:
            return nn.Identity()
        if kind == "B":
            conv = self.conv(rows, columns, 1, stride)
            return nn.Sequential(conv, self.norm(rows)) if norm else nn.Sequential(conv)
        before = (rows - columns) // 2 if kind == "A_both" else 0
        return PaddedShortcut(stride, before, rows - columns - before)


class ResidualBlock(nn.Module):
    """Convolutions conv1, conv2, … with their norms bn1, bn2, … and what pads them, and a shortcut around them.

    v1: (conv, BN, ReLU)*, conv, BN; plus the shortcut; ReLU.
    v2: (BN, ReLU, conv)*; plus the shortcut, which starts after the first ReLU where `activated_shortcut`.
    Dropout stands before the last conv.
    """

    def __init__(
        self,
        convs: Sequence[nn.Conv2d],
        pads: Sequence[nn.Module],
        norms: Sequence[nn.BatchNorm2d],
        shortcut: nn.Module,
        *,
        preactivated: bool,
        activated_shortcut: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.length = len(convs)
        self.pads = nn.ModuleList(pads)
        for i, (conv, norm) in enumerate(zip(convs, norms, strict=True), start=1):
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", norm)
        self.shortcut = shortcut
        self.preactivated, self.activated_shortcut, self.dropout = preactivated, activated_shortcut, dropout

    def _norm(self, i: int, images: Tensor) -> Tensor:
        return self.get_submodule(f"bn{i}")(images)

    def _conv(self, i: int, images: Tensor) -> Tensor:
        if i == self.length and self.dropout:
            images = F.dropout(images, self.dropout, self.training)
        return self.get_submodule(f"conv{i}")(self.pads[i - 1](images))

    def forward(self, images: Tensor) -> Tensor:
        return self._preactivated(images) if self.preactivated else self._original(images)

    def _original(self, images: Tensor) -> Tensor:
        branch = images
        for i in range(1, self.length + 1):
            branch = self._norm(i, self._conv(i, branch))
            branch = F.relu(branch) if i < self.length else branch
        return F.relu(branch + self.shortcut(images))

    def _preactivated(self, images: Tensor) -> Tensor:
        branch, source = images, images
        for i in range(1, self.length + 1):
            branch = F.relu(self._norm(i, branch))
            if i == 1 and self.activated_shortcut:
                source = branch
            branch = self._conv(i, branch)
        return branch + self.shortcut(source)


def residual_block(
    layers: Layers,
    columns: int,
    rows: int,
    stride: int,
    inner: int | None,
    *,
    cardinality: int,
    shortcut: Shortcut,
    preactivated: bool,
    activated_shortcut: bool,
    dropout: float,
) -> ResidualBlock:
    """A block from `columns` channels to `rows`: see ResidualNetwork."""
    convs = _convs(layers, columns, rows, stride, inner, cardinality)
    # a v2 norm stands before its conv, a v1 norm after it
    norms = [layers.norm(conv.in_channels if preactivated else conv.out_channels) for conv in convs]
    return ResidualBlock(
        convs,
        [layers.pad(conv) for conv in convs],
        norms,
        layers.shortcut(columns, rows, stride, shortcut, norm=not preactivated),
        preactivated=preactivated,
        activated_shortcut=activated_shortcut,
        dropout=dropout,
    )


def _convs(
    layers: Layers, columns: int, rows: int, stride: int, inner: int | None, cardinality: int
) -> list[nn.Conv2d]:
    """A block's convolutions in order: basic where `inner` is None, else a bottleneck of `inner` channels."""
    if inner is None:
        return [layers.conv(rows, columns, 3, stride), layers.conv(rows, rows, 3)]
    return [
        layers.conv(inner, columns, 1),
        layers.conv(inner, inner, 3, stride, cardinality),
        layers.conv(rows, inner, 1),
    ]
