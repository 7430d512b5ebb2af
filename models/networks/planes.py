"""What networks of wired channels are made of, in two forms: torch's operations, or the kernels of models.native.

A network lets its stem's result `enter`, works on planes with `make_sources` and `normalized`, and lets the last ones
`leave`. Which form it is in is chosen by `enter` alone; both give the same values and gradients. In torch's form planes
are a tensor [batch, channels, height, width].
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from models.native import nodes as native
from models.native import tape
from models.native.library import NoCompilerError
from models.native.nodes import Norm
from models.native.tape import Planes, Window
from models.native.training import load_kernel
from models.networks.edge_sums import DenseSums, EdgeSums, SparseSums, sparse_sums_pay
from models.wirings.graph import Graph

AnyPlanes = Tensor | Planes
UNCHANGED = (0, 1, 2, 3)
_torch_alone: ContextVar[bool] = ContextVar("torch_alone", default=False)


@contextmanager
def torch_form() -> Iterator[None]:
    """Planes are in torch's form, which calls the modules of the network, as long as the context lasts."""
    token = _torch_alone.set(True)
    try:
        yield
    finally:
        _torch_alone.reset(token)


def enter(images: Tensor, network: nn.Module) -> AnyPlanes:
    """The planes of images [batch, channels, height, width], in the form that suits the network here and now.

    The native form takes float32 and float64 on the CPU, outside autocast, compilers, tracers and function transforms,
    and needs a compiler.
    """
    return tape.enter(images) if is_native(images, network) else images


def enter_first(images: Tensor, network: nn.Module, channels: int) -> AnyPlanes:
    """The planes of images that are the first of so many channels, the others zero: the native form goes without those.

    Args:
        images: [batch, at most `channels`, height, width].
        network: as of `enter`.
        channels: of the network.
    """
    if is_native(images, network):
        return tape.enter(images)
    return F.pad(images, (0, 0, 0, 0, 0, channels - images.shape[1]))


def width(planes: AnyPlanes) -> int:
    """How many channels planes are of."""
    return planes.channels if isinstance(planes, Planes) else planes.shape[1]


def leave(planes: AnyPlanes) -> Tensor:
    """Planes as images [batch, channels, height, width]; backward goes once through those of the native form."""
    return tape.leave(planes) if isinstance(planes, Planes) else planes


def axes_in_memory(images: Tensor, network: nn.Module) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The order of the axes of images [batch, channels, height, width] in which they enter without being copied.

    Returns the axes to give to `permute`, ahead of `contiguous`, and those that lead back to images.
    """
    return ((1, 2, 3, 0), (3, 0, 1, 2)) if is_native(images, network) else (UNCHANGED, UNCHANGED)


def normalized(planes: AnyPlanes, norm: nn.Module, channels: slice | None = None, relu: bool = False) -> AnyPlanes:
    """The norm of planes, and their ReLU where asked for.

    Args:
        planes: of the norm's channels.
        norm: batch or instance norm; an instance norm where `channels` are given.
        channels: of the norm; all where None.
        relu: as well.
    """
    if isinstance(planes, Planes):
        chosen = slice(None) if channels is None else channels
        return native.normalized(planes, cast("Norm", norm), chosen, relu)
    if channels is None:
        normed = norm(planes)
    else:
        own = cast("Norm", norm)
        normed = F.instance_norm(planes, weight=own.weight[channels], bias=own.bias[channels], eps=own.eps)
    return F.relu(normed) if relu else normed


def part(planes: AnyPlanes, channels: slice) -> AnyPlanes:
    """The planes of some channels alone."""
    return planes.part(channels) if isinstance(planes, Planes) else planes[:, channels]


def within(planes: AnyPlanes, window: Window) -> AnyPlanes:
    """What lies within a window of planes."""
    return planes.window(window) if isinstance(planes, Planes) else cut(planes, window)


def cut(images: Tensor, window: Window) -> Tensor:
    """What lies within a window of images [batch, channels, height, width]."""
    top, bottom, left, right = window
    return images[:, :, top:bottom, left:right]


class Sources(Protocol):
    """The planes that the edges of one graph start from."""

    def grow(self, planes: AnyPlanes, norm: nn.Module | None, conv: nn.Conv2d, channels: slice | None = None) -> None:
        """Add sources: norm, ReLU and 3x3 depthwise convolution of planes.

        Args:
            planes: one a source, in the form that the graph's sources are in.
            norm: of as many channels; None for none.
            conv: depthwise, with padding 1 and no bias.
            channels: of the convolution; all where None.
        """

    def sum(
        self, weight: Tensor, first: int = 0, onto: AnyPlanes | None = None, window: Window | None = None
    ) -> AnyPlanes:
        """Planes of nodes: sums over the nonzero entries of `weight` [nodes, sources from `first` on].

        Args:
            weight: of the edges.
            first: the source that its first column is of.
            onto: planes of the nodes that the sums are added to, which stay as they are.
            window: of the sources, that the planes of the nodes are alone of; all where None.
        """


def make_sources(planes: AnyPlanes, columns: int, edges: Sequence[Tensor], graph: Graph, stride: int = 1) -> Sources:
    """Sources, none yet, of the form that planes are in.

    Args:
        planes: that the first sources will be made of.
        columns: how many sources there will be.
        edges: the effective weights of all edges that start from them.
        graph: whose edges they are.
        stride: of the convolution that makes the first.
    """
    if not isinstance(planes, Planes):
        return _TorchSources(SparseSums if sparse_sums_pay(edges, planes) else DenseSums)
    height, width = ((side - 1) // stride + 1 for side in planes.size)
    return _NativeSources(native.Sources(planes.tape, (height, width), columns, partial(graph.reached, edges)))


class _NativeSources:
    def __init__(self, sources: native.Sources) -> None:
        self._sources = sources

    def grow(self, planes: AnyPlanes, norm: nn.Module | None, conv: nn.Conv2d, channels: slice | None = None) -> None:
        assert isinstance(planes, Planes)
        kernel = conv.weight if channels is None else conv.weight[channels]
        self._sources.grow(planes, cast("Norm | None", norm), kernel, conv.stride[0])

    def sum(
        self, weight: Tensor, first: int = 0, onto: AnyPlanes | None = None, window: Window | None = None
    ) -> AnyPlanes:
        assert not isinstance(onto, Tensor)
        return self._sources.sum(weight, first, onto, window)


class _TorchSources:
    def __init__(self, form: type[EdgeSums]) -> None:
        self._form = form
        self._sums: EdgeSums | None = None

    def grow(self, planes: AnyPlanes, norm: nn.Module | None, conv: nn.Conv2d, channels: slice | None = None) -> None:
        assert isinstance(planes, Tensor)
        active = F.relu(planes if norm is None else norm(planes))
        if channels is None:
            spread = conv(active)
        else:
            kernel = conv.weight[channels]
            spread = F.conv2d(active, kernel, stride=conv.stride, padding=1, groups=len(kernel))
        if self._sums is None:
            self._sums = self._form(spread)
        else:
            self._sums.append(spread)

    def sum(
        self, weight: Tensor, first: int = 0, onto: AnyPlanes | None = None, window: Window | None = None
    ) -> AnyPlanes:
        assert self._sums is not None
        assert not isinstance(onto, Planes)
        planes = self._sums.sum(weight, first)
        if window is not None:
            planes = cut(planes, window)
        return planes if onto is None else onto + planes


def is_native(images: Tensor, network: nn.Module) -> bool:
    """Whether the native form takes these images into this network here and now."""
    return not _torch_alone.get() and _plain(images) and _eager() and _known_norms(network) and _compiled()


def _plain(images: Tensor) -> bool:
    return (
        type(images) in (Tensor, nn.Parameter)
        and images.device.type == "cpu"
        and images.layout is torch.strided
        and images.dtype in (torch.float32, torch.float64)
        and images.dim() == 4
        and images.numel() > 0
    )


def _eager() -> bool:
    """Operations are done as they are called, in full precision, with gradients backward alone."""
    return not (
        torch.compiler.is_compiling()
        or torch.compiler.is_exporting()
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled("cpu")
        or forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
    )


def _known_norms(network: nn.Module) -> bool:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            batch = type(module) is nn.BatchNorm2d and module.track_running_stats and module.momentum is not None
            instance = type(module) is nn.InstanceNorm2d and not module.track_running_stats
            if not module.affine or not (batch or instance):
                return False
    return True


@cache
def _compiled() -> bool:
    try:
        load_kernel()
    except NoCompilerError as error:
        warnings.warn(f"Wired networks run on torch's own operations, several times as slowly: {error}", stacklevel=2)
        return False
    return True
