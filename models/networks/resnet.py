"""Residual networks for small images: one class, of which ResNet, WRN and ResNeXt are parameters.

Sources: He et al. 2015 (arXiv 1512.03385), v1; He et al. 2016 (1603.05027), v2; Zagoruyko and Komodakis 2016
(1605.07146), WRN; Xie et al. 2016 (1611.05431), ResNeXt.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Literal, TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.networks.residual_blocks import Layers, Padding, ResidualBlock, Shortcut, residual_block


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """The norms of the block use the batch's statistics but do not record them a second time."""
    kept = []
    for norm in block.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.num_batches_tracked is not None:
            kept.append((norm, norm.momentum, norm.num_batches_tracked, norm.num_batches_tracked.clone()))
            norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, counter, batches in kept:
            norm.momentum = momentum
            counter.copy_(batches)


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
        self.image_size = 32
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
        make_block = partial(
            residual_block,
            layers,
            cardinality=cardinality,
            shortcut=shortcut,
            preactivated=preactivated,
            dropout=dropout,
        )
        channels = stem_width
        for g, (length, width) in enumerate(zip(blocks, widths, strict=True)):
            inner = inner_widths[g] if inner_widths else None
            group = nn.Sequential()
            for b in range(length):
                stride = 2 if g > 0 and b == 0 else 1
                activated = b == 0 and (g == 0 or activated_shortcuts == "groups")
                group.append(make_block(channels, width, stride, inner, activated_shortcut=activated))
                channels = width
            self.add_module(f"layer{g + 1}", group)
        if preactivated:
            self.bn = layers.norm(channels)
        self.linear = nn.Linear(channels, classes)
        _he_normal(self)

    def residual_blocks(self) -> Iterator[ResidualBlock]:
        """All blocks, in order."""
        for g in range(self.groups):
            for block in self.get_submodule(f"layer{g + 1}").children():
                assert isinstance(block, ResidualBlock)
                yield block

    def forward(self, images: Tensor) -> Tensor:
        state = self.conv1(images)
        if not self.preactivated:
            state = F.relu(self.bn1(state))
        for block in self.residual_blocks():
            state = self._run(block, state)
        if self.preactivated:
            state = F.relu(self.bn(state))
        return self.linear(state.mean((2, 3)))

    def _run(self, block: ResidualBlock, state: Tensor) -> Tensor:
        if not (self.activation_checkpointing and self.training and torch.is_grad_enabled()):
            return block(state)

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _statistics_kept(block)

        return checkpoint(block, state, use_reentrant=False, context_fn=contexts)


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


class NetworkOptions(TypedDict, total=False):
    """Arguments of ResidualNetwork that each of the families below takes, with the same defaults."""

    padding: Padding
    bn_epsilon: float
    bn_momentum: float
    activation_checkpointing: bool
    in_channels: int
    classes: int


def _shows_options(family: Callable[..., ResidualNetwork]) -> Callable[..., ResidualNetwork]:
    """The same function, whose signature names the arguments of NetworkOptions one by one."""
    own = inspect.signature(family)
    whole = inspect.signature(ResidualNetwork).parameters
    named = [parameter for parameter in own.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    shared = [whole[name] for name in NetworkOptions.__annotations__]
    family.__signature__ = own.replace(parameters=[*named, *shared])  # type: ignore[attr-defined]
    return family


@_shows_options
def resnet(
    *,
    depth: int = 20,
    block: Literal["v1", "v2"] = "v1",
    bottleneck: bool | None = None,
    shortcut: Shortcut | None = None,
    width_mult: float = 1.0,
    dropout: float = 0.0,
    **options: Unpack[NetworkOptions],
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
        **options,
    )


@_shows_options
def wrn(
    *,
    depth: int = 28,
    width_mult: float = 10.0,
    shortcut: Shortcut | None = None,
    dropout: float = 0.0,
    **options: Unpack[NetworkOptions],
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
        **options,
    )


@_shows_options
def resnext(
    *,
    depth: int = 29,
    cardinality: int = 8,
    base_width: int = 64,
    shortcut: Shortcut | None = None,
    **options: Unpack[NetworkOptions],
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
        **options,
    )
