"""Residual networks for small images: one class, of which ResNet, WRN and ResNeXt are parameters.

Sources: He et al. 2015 (arXiv 1512.03385), v1; He et al. 2016 (1603.05027), v2; Zagoruyko and Komodakis 2016
(1605.07146), WRN; Xie et al. 2016 (1611.05431), ResNeXt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

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


class Block(nn.Module):
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


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """The norms of the block use the batch's statistics but do not record them a second time."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, batches in kept:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)


class ResidualNetwork(nn.Module):
    """3x3 conv; groups of residual blocks, each but the first halving the side; mean over the image; linear.

    blocks, widths: of each group, the number of blocks and the channels that they put out.
    stem_width: channels of the first conv.
    inner_widths: channels inside each group's bottlenecks (1x1, 3x3 with the stride, 1x1); basic if None.
    preactivated: v2, with a last BN, ReLU before the mean.
    activated_shortcuts (v2): blocks whose shortcut starts after BN, ReLU: the first, or each group's.
    shortcut: where shapes change: A (zero channels at the end), A_both (half before, half after) or B (1x1
    conv; with BN in v1).
    cardinality: groups of a bottleneck's 3x3.
    dropout: probability, before a block's last conv.
    padding: of strided convs, see SamePad.
    activation_checkpointing: keep only the blocks' inputs in training and compute the rest again in the
    backward pass.

    Input [n, in_channels, side, side], output [n, classes].
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        *,
        stem_width: int,
        inner_widths: Sequence[int] | None = None,
        preactivated: bool = False,
        activated_shortcuts: Literal["first", "groups"] = "first",
        shortcut: Shortcut = "A",
        cardinality: int = 1,
        dropout: float = 0.0,
        padding: Padding = "symmetric",
        bn_epsilon: float = 1e-5,
        bn_momentum: float = 0.1,
        activation_checkpointing: bool = False,
        in_channels: int = 3,
        classes: int = 10,
    ) -> None:
        super().__init__()
        if shortcut not in ("A", "A_both", "B"):
            raise ValueError(f"shortcut is A, A_both or B, not {shortcut!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a probability below 1, not {dropout}")
        self.preactivated, self.activation_checkpointing = preactivated, activation_checkpointing
        layers = Layers(padding, bn_epsilon, bn_momentum)
        self.conv1 = layers.conv(stem_width, in_channels, 3)
        if not preactivated:
            self.bn1 = layers.norm(stem_width)
        self.groups = len(blocks)
        channels = stem_width
        for g, (length, width) in enumerate(zip(blocks, widths, strict=True)):
            group = nn.Sequential()
            for b in range(length):
                stride = 2 if g > 0 and b == 0 else 1
                convs = _convs(layers, channels, width, stride, inner_widths and inner_widths[g], cardinality)
                # a v2 norm stands before its conv, a v1 norm after it
                norms = [layers.norm(c.in_channels if preactivated else c.out_channels) for c in convs]
                group.append(
                    Block(
                        convs,
                        [layers.pad(conv) for conv in convs],
                        norms,
                        layers.shortcut(channels, width, stride, shortcut, norm=not preactivated),
                        preactivated=preactivated,
                        activated_shortcut=b == 0 and (g == 0 or activated_shortcuts == "groups"),
                        dropout=dropout,
                    )
                )
                channels = width
            self.add_module(f"layer{g + 1}", group)
        if preactivated:
            self.bn = layers.norm(channels)
        self.linear = nn.Linear(channels, classes)
        _he_normal(self)

    def residual_blocks(self) -> Iterator[Block]:
        """All blocks, in order."""
        for g in range(self.groups):
            yield from self.get_submodule(f"layer{g + 1}").children()

    def forward(self, images: Tensor) -> Tensor:
        state = self.conv1(images)
        if not self.preactivated:
            state = F.relu(self.bn1(state))
        for block in self.residual_blocks():
            state = self._run(block, state)
        if self.preactivated:
            state = F.relu(self.bn(state))
        return self.linear(state.mean((2, 3)))

    def _run(self, block: Block, state: Tensor) -> Tensor:
        if not (self.activation_checkpointing and self.training and torch.is_grad_enabled()):
            return block(state)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _statistics_kept(block)

        return checkpoint(block, state, use_reentrant=False, context_fn=contexts)


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


def _he_normal(network: nn.Module) -> None:
    """He et al. 2015 (arXiv 1502.01852): weights normal with variance 2 / fan-in, biases zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _blocks_in_a_group(depth: int, convs_in_a_block: int, other_layers: int) -> int:
    """Blocks in each of three groups, from the number of layers that have weights."""
    length, rest = divmod(depth - other_layers, 3 * convs_in_a_block)
    if rest or length < 1:
        raise ValueError(
            f"such a network has {3 * convs_in_a_block}n+{other_layers} layers with n at least 1, not {depth}"
        )
    return length


def _widths(base: float, width_mult: float) -> list[int]:
    return [int(base * factor * width_mult) for factor in (1, 2, 4)]


def resnet(
    *,
    depth: int = 20,
    block: Literal["v1", "v2"] = "v1",
    bottleneck: bool | None = None,
    shortcut: Shortcut | None = None,
    width_mult: float = 1.0,
    dropout: float = 0.0,
    padding: Padding = "symmetric",
    bn_epsilon: float = 1e-5,
    bn_momentum: float = 0.1,
    activation_checkpointing: bool = False,
    in_channels: int = 3,
    classes: int = 10,
) -> ResidualNetwork:
    """The ResNet of `depth` layers for CIFAR, v1 or v2 (pre-activated).

    depth: 6n+2 with basic blocks, 9n+2 with bottlenecks. bottleneck: v2 beyond 110 layers where None.
    shortcut: where None, A up to 56 layers and B beyond. The others: see ResidualNetwork. ValueError: a
    depth or a name that does not exist.
    """
    if block not in ("v1", "v2"):
        raise ValueError(f"block is v1 or v2, not {block!r}")
    bottleneck = block == "v2" and depth > 110 if bottleneck is None else bottleneck
    length = _blocks_in_a_group(depth, 3 if bottleneck else 2, 2)
    inner = _widths(16, width_mult)
    return ResidualNetwork(
        [length] * 3,
        [4 * width for width in inner] if bottleneck else inner,
        stem_width=inner[0],
        inner_widths=inner if bottleneck else None,
        preactivated=block == "v2",
        activated_shortcuts="groups" if bottleneck else "first",
        shortcut=shortcut or ("A" if depth <= 56 else "B"),
        dropout=dropout,
        padding=padding,
        bn_epsilon=bn_epsilon,
        bn_momentum=bn_momentum,
        activation_checkpointing=activation_checkpointing,
        in_channels=in_channels,
        classes=classes,
    )


def wrn(
    *,
    depth: int = 28,
    width_mult: float = 10.0,
    shortcut: Shortcut | None = None,
    dropout: float = 0.0,
    padding: Padding = "symmetric",
    bn_epsilon: float = 1e-5,
    bn_momentum: float = 0.1,
    activation_checkpointing: bool = False,
    in_channels: int = 3,
    classes: int = 10,
) -> ResidualNetwork:
    """WRN-depth-width_mult (wide residual network), depth = 6n+4. Arguments: see ResidualNetwork.

    shortcut: B where None.
    """
    return ResidualNetwork(
        [_blocks_in_a_group(depth, 2, 4)] * 3,
        _widths(16, width_mult),
        stem_width=16,
        preactivated=True,
        activated_shortcuts="groups",
        shortcut=shortcut or "B",
        dropout=dropout,
        padding=padding,
        bn_epsilon=bn_epsilon,
        bn_momentum=bn_momentum,
        activation_checkpointing=activation_checkpointing,
        in_channels=in_channels,
        classes=classes,
    )


def resnext(
    *,
    depth: int = 29,
    cardinality: int = 8,
    base_width: int = 64,
    shortcut: Shortcut | None = None,
    padding: Padding = "symmetric",
    bn_epsilon: float = 1e-5,
    bn_momentum: float = 0.1,
    activation_checkpointing: bool = False,
    in_channels: int = 3,
    classes: int = 10,
) -> ResidualNetwork:
    """ResNeXt-depth (cardinality x base_width d), depth = 9n+2. Arguments: see ResidualNetwork.

    shortcut: B where None.
    The 3x3 convs have `cardinality` groups, of `base_width` channels in the first stage; the stages put out
    256, 512 and 1024 channels.
    """
    return ResidualNetwork(
        [_blocks_in_a_group(depth, 3, 2)] * 3,
        [256, 512, 1024],
        stem_width=64,
        inner_widths=_widths(cardinality * base_width, 1.0),
        shortcut=shortcut or "B",
        cardinality=cardinality,
        padding=padding,
        bn_epsilon=bn_epsilon,
        bn_momentum=bn_momentum,
        activation_checkpointing=activation_checkpointing,
        in_channels=in_channels,
        classes=classes,
    )
