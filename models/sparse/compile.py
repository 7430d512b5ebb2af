"""From a trained network to a module that runs it at the cost of its live edges, checked against the network itself."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.protocols import HasImageSize, TakesEngines
from models.sparse.compiled import CompiledGraph, evaluated
from models.sparse.engines import AUTO, ENGINES, Engine, EngineOptions, UnavailableError, choose_engine
from models.sparse.equality import check_equal
from models.sparse.from_network import channel_graphs
from models.sparse.graph import ChannelGraph, Size

MOST_THREADS = 1024


def compile_graph(
    network: nn.Module,
    engine: str = AUTO,
    threads: int | None = None,
    check: bool = True,
    image_size: int | Size | None = None,
    dtype: torch.dtype | None = None,
    cuda_graphs: bool = False,
) -> nn.Module:
    """A module that computes what `network` does in evaluation mode, for the price of its live edges.

    Its attribute `engine` names the engine that runs. The network itself stays as it is; later changes of its weights
    do not reach the compiled one. Where only parts of a network are channel graphs, they are replaced in a copy of
    it. Gradients flow through pruned, csr and dgl to the images, and not through native or CUDA graphs. Under autocast
    engines of one precision run in float32.

    Args:
        network: any network; one without wired parts is refused.
        engine: a name in `models.sparse.ENGINES`, whose entries describe them, or "auto", which measures and picks.
            Where what an engine needs is missing, its fallback takes its place, with a warning.
        threads: of the native engine; torch's number where None.
        check: compare with the network on random images.
        image_size: of the images to prepare for, pixels; may be left out for the networks of this project. Images of
            other sizes are prepared for when they first come.
        dtype: that pruned runs in; the network's own where None.
        cuda_graphs: pruned on a GPU: record its kernels once for each shape of the images, then replay them.

    Raises:
        ValueError: an unknown engine, a network without live edges, an engine that cannot run here, a size or a number
            of threads that cannot be.
        EngineError: the engine's result differs too much; it names the stage.
    """
    chosen = None if engine == AUTO else choose_engine(engine)
    parts = channel_graphs(network)
    if not parts:
        raise ValueError(f"{type(network).__name__} has no wired part to compile.")
    for graph in parts.values():
        graph.check_alive()
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"An engine runs on 1 to {MOST_THREADS} threads, not on {threads}.")
    images = _images(network, parts, image_size)
    order = _Order(network, parts, dtype, EngineOptions(threads, cuda_graphs))
    compiled = _fastest(order, images) if chosen is None else _compile(order, _at_hand(chosen))
    if check:
        check_equal(network, compiled.parts, images)
    else:
        evaluated(compiled.module, images)  # prepares for their size
    return compiled.module


@dataclass(frozen=True)
class _Order:
    """What is to be compiled: see `compile_graph`."""

    network: nn.Module
    parts: dict[str, ChannelGraph]
    dtype: torch.dtype | None
    options: EngineOptions

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters(), torch.zeros(0)).device


@dataclass(frozen=True)
class _Compiled:
    """A compiled network, and the channel graphs in it by the names of the modules that they stand for."""

    module: nn.Module
    parts: dict[str, CompiledGraph]


def _at_hand(entry: Engine) -> Engine:
    """The engine, or the one that takes over where something that it needs is missing."""
    try:
        entry.require()
    except UnavailableError as error:
        if entry.fallback is None:
            raise
        warnings.warn(f"{error} The engine {entry.fallback} takes the place of {entry.name}.", stacklevel=3)
        return _at_hand(choose_engine(entry.fallback))
    return entry


def _compile(order: _Order, entry: Engine) -> _Compiled:
    """The network on one engine. Raises ValueError where the engine cannot run it."""
    _check_fit(order, entry)
    parts = {
        name: CompiledGraph(graph, entry, order.options, order.dtype).eval() for name, graph in order.parts.items()
    }
    if list(parts) == [""]:
        return _Compiled(parts[""], parts)
    result = copy.deepcopy(order.network).eval()
    if order.dtype:
        result.to(order.dtype).register_forward_pre_hook(partial(_convert_images, order.dtype))
    for name, part in parts.items():
        if isinstance(result, TakesEngines):
            result.take_engine(name, part)
        else:
            owner, _, attribute = name.rpartition(".")
            setattr(result.get_submodule(owner), attribute, part)
    result.engine = entry.name  # type: ignore[assignment]
    return _Compiled(result, parts)


def _check_fit(order: _Order, entry: Engine) -> None:
    """Raises ValueError where an engine does not run on the network's device, in its precision or as it was told."""
    if not entry.runs_on(order.device.type):
        raise ValueError(f"The engine {entry.name} runs on {entry.places}; the network is on {order.device}.")
    if not entry.any_precision and order.dtype not in (None, torch.float32):
        free = ", ".join(other.name for other in ENGINES.values() if other.any_precision)
        raise ValueError(f"The engine {entry.name} runs in float32, not {order.dtype}; any precision: {free}.")
    if order.options.cuda_graphs and not (entry.cuda_graphs and order.device.type == "cuda"):
        able = ", ".join(other.name for other in ENGINES.values() if other.cuda_graphs)
        raise ValueError(f"CUDA graphs are for a network on a GPU and the engine {able}.")


def _convert_images(dtype: torch.dtype, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook of a network in another precision than its images'."""
    return tuple(arg.to(dtype) if isinstance(arg, Tensor) and arg.is_floating_point() else arg for arg in args)


def _fastest(order: _Order, images: Tensor) -> _Compiled:
    """The engine that takes the least time for a few images among those that can run here."""
    candidates = []
    for entry in ENGINES.values():
        precise = entry.any_precision or order.dtype in (None, torch.float32)
        if not (entry.measured and precise and entry.runs_on(order.device.type)):
            continue
        options = replace(order.options, cuda_graphs=order.options.cuda_graphs and entry.cuda_graphs)
        try:
            entry.require()
            compiled = _compile(replace(order, options=options), entry)
            evaluated(compiled.module, images)
        except (ValueError, NotImplementedError) as error:
            warnings.warn(f"The engine {entry.name} is left out: {error}", stacklevel=3)
            continue
        candidates.append(compiled)
    if not candidates:
        raise ValueError("No engine can run this network here.")
    modules = [candidate.module for candidate in candidates]
    times = [min(times) for times in zip(*(_times(modules, images) for _ in range(3)), strict=True)]
    return candidates[times.index(min(times))]


def _times(candidates: Sequence[nn.Module], images: Tensor) -> list[float]:
    """Seconds that each candidate takes for the images, one after another."""
    times = []
    for candidate in candidates:
        start = time.perf_counter()
        evaluated(candidate, images)
        times.append(time.perf_counter() - start)
    return times


def _images(network: nn.Module, parts: dict[str, ChannelGraph], image_size: int | Size | None) -> Tensor:
    """Two random images, or vectors, that suit the network. Raises ValueError where their size is not known."""
    inputs = []
    for name, module in network.named_modules():
        if name in parts:
            inputs.append((parts[name].takes_vectors, parts[name].levels[0].nodes))
        elif isinstance(module, nn.Conv2d):
            inputs.append((False, module.in_channels))
        elif isinstance(module, nn.Linear):
            inputs.append((True, module.in_features))
    vectors, channels = min(inputs, key=lambda found: found[0])  # the first convolution, else the first linear layer
    size = () if vectors else _size(network, image_size)
    images = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(0))
    example = next(network.parameters(), torch.zeros(0))
    return images.to(example.device, example.dtype)


def _size(network: nn.Module, image_size: int | Size | None) -> Size:
    """Height and width of the images to prepare for: those that the network was made for, where none are given."""
    if not image_size:
        if not isinstance(network, HasImageSize):
            raise ValueError(f"compile_graph needs image_size for a {type(network).__name__}.")
        image_size = network.image_size
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"There are no images of {' x '.join(map(str, size))} pixels.")
    return size
