"""From a trained network to a module that runs it at the cost of its live edges, checked against the network itself."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.inspection import evaluating, recorded_calls
from models.native.library import NoCompilerError
from models.networks.mobilenetv1_like import WiredLinear
from models.sparse import graph as graphs_module
from models.sparse.from_network import channel_graphs
from models.sparse.graph import ChannelGraph, Size
from models.sparse.native import NativeGraph, load_kernel
from models.sparse.torch_engines import CudaGraphs, PrunedGraph, csr_graph, dgl_graph, import_dgl

ENGINES = ("pruned", "csr", "dgl", "native", "auto")
TOLERANCE_FLOAT32, TOLERANCE_LOW = 1e-4, 3e-2
"""Largest difference from the network, relative to its largest output: in float32, and in 16 bits."""
TOLERANCE = {torch.bfloat16: TOLERANCE_LOW, torch.float16: TOLERANCE_LOW}

MOST_SIZES = 8
"""Sizes of images for which engines are kept."""
MOST_THREADS = 1024

Make = Callable[[ChannelGraph, Size], nn.Module]


class EngineError(RuntimeError):
    """An engine does not compute what the network computes."""


def compile_graph(
    network: nn.Module,
    engine: str = "auto",
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
    all but pruned run in float32.

    Args:
        network: any network; one without wired parts is refused.
        engine: "pruned" (dense on what is left; any device and dtype), "csr" (torch's sparse rows), "dgl" (message
            passing; needs dgl), "native" (C++ for this processor, float32; where no compiler is found, csr with a
            warning) or "auto", which measures and picks.
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
    if engine not in ENGINES:
        raise ValueError(f"There is no engine {engine!r}; there are {', '.join(ENGINES)}.")
    parts = channel_graphs(network)
    if not parts:
        raise ValueError(f"{type(network).__name__} has no wired part to compile.")
    for graph in parts.values():
        graph.check_alive()
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"An engine runs on 1 to {MOST_THREADS} threads, not on {threads}.")
    images = _images(network, image_size or _usual_size(network))
    if engine == "auto":
        return _fastest(network, parts, threads, check, images, dtype, cuda_graphs)
    if engine == "native":
        try:
            load_kernel()
        except NoCompilerError as error:
            warnings.warn(f"{error} The engine csr takes the place of native.", stacklevel=2)
            engine = "csr"
    compiled = _compile(network, parts, engine, threads, dtype, cuda_graphs)
    if check:
        _check(network, parts, compiled, images)
    else:
        _evaluate(compiled, images)  # prepares for their size
    return compiled


class CompiledGraph(nn.Module):
    """A channel graph with an engine for every size of images that comes.

    Args:
        graph: not pruned.
        engine: its name.
        make: the engine of a pruned graph for images of one size.
        one_size: an engine serves images of its own size only, whatever the graph.
        dtype: that the images are converted to.
        linear: it stands for a linear layer, whose input may have any dimensions before the last.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        engine: str,
        make: Make,
        one_size: bool,
        dtype: torch.dtype | None = None,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.graph, self.engine, self.dtype, self.linear = graph, engine, dtype, linear
        self._make, self._one_size = make, one_size
        self.sizes = nn.ModuleDict()

    def forward(self, images: Tensor) -> Tensor:
        if self.linear and images.dim() != 2:
            return self(images.reshape(-1, images.shape[-1])).reshape(*images.shape[:-1], -1)
        if images.dim() not in (2, 4):
            raise ValueError(f"Images are [batch, channels, height, width], not {list(images.shape)}.")
        if self.dtype is not None:
            images = images.to(self.dtype)
        if self.engine == "pruned":
            return self._run(images)
        with torch.autocast(images.device.type, enabled=False):
            return self._run(images.float() if images.dtype in TOLERANCE else images).to(images.dtype)

    def _run(self, images: Tensor) -> Tensor:
        size = (1, 1) if images.dim() == 2 else (images.shape[2], images.shape[3])
        for key in ("any", f"{size[0]}x{size[1]}"):
            if key in self.sizes:
                return self.sizes[key](images)
        return self._prepare(size, images)(images)

    @torch.compiler.disable
    @torch.inference_mode(False)  # what is prepared must serve with gradients, too
    @torch.no_grad()
    def _prepare(self, size: Size, images: Tensor) -> nn.Module:
        pruned = self.graph.pruned(size)
        key = "any" if pruned.image_size is None and not self._one_size else f"{size[0]}x{size[1]}"
        while len(self.sizes) >= MOST_SIZES:
            del self.sizes[next(iter(self.sizes))]
        self.sizes[key] = self._make(pruned, size).to(images.device).to(images.dtype).eval()
        return self.sizes[key]


class _CompiledStep(nn.Module):
    """Stands in for the continuous-time network's step, whose caller hands it the state and effective weights."""

    def __init__(self, compiled: CompiledGraph, relu_in_place: bool) -> None:
        super().__init__()
        self.compiled = compiled
        self.relu_in_place = relu_in_place

    def graph(self) -> tuple[None]:
        return (None,)

    def forward(self, state: Tensor, weight: None) -> Tensor:
        return self.compiled(F.relu_(state) if self.relu_in_place else state)


def _make(engine: str, threads: int | None, cuda_graphs: bool, graph: ChannelGraph, size: Size) -> nn.Module:
    """The engine of a pruned graph."""
    if engine == "native":
        return NativeGraph(graph, size, threads)
    if engine == "csr":
        return csr_graph(graph)
    if engine == "dgl":
        return dgl_graph(graph)
    return CudaGraphs(PrunedGraph(graph)) if cuda_graphs else PrunedGraph(graph)


def _convert_images(dtype: torch.dtype, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook of a network in another precision than its images'."""
    return tuple(arg.to(dtype) if isinstance(arg, Tensor) and arg.is_floating_point() else arg for arg in args)


def _compile(
    network: nn.Module,
    parts: dict[str, ChannelGraph],
    engine: str,
    threads: int | None,
    dtype: torch.dtype | None,
    cuda_graphs: bool,
) -> nn.Module:
    device = _device(network)
    if engine == "native" and device.type != "cpu":
        raise ValueError(f"The engine native runs on the CPU; the network is on {device}.")
    if engine == "dgl":
        import_dgl()
    if engine != "pruned" and dtype not in (None, torch.float32):
        raise ValueError(f"The engine {engine} runs in float32, not {dtype}; pruned runs in any.")
    if cuda_graphs and (engine != "pruned" or device.type != "cuda"):
        raise ValueError("CUDA graphs are for the engine pruned and a network on a GPU.")
    make = partial(_make, engine, threads, cuda_graphs)
    compiled = {
        name: CompiledGraph(
            graph,
            engine,
            make,
            one_size=engine == "native",
            dtype=dtype,
            linear=isinstance(network.get_submodule(name), nn.Linear | WiredLinear),
        )
        for name, graph in parts.items()
    }
    if list(parts) == [""]:
        return compiled[""].eval()
    result = copy.deepcopy(network).eval()
    if dtype:
        result.to(dtype).register_forward_pre_hook(partial(_convert_images, dtype))
    for name, part in compiled.items():
        owner, _, attribute = name.rpartition(".")
        old = result.get_submodule(name)
        new = _CompiledStep(part, old.relu_in_place) if hasattr(old, "relu_in_place") else part
        setattr(result.get_submodule(owner), attribute, new)
    result.engine = engine
    return result


def _fastest(
    network: nn.Module,
    parts: dict[str, ChannelGraph],
    threads: int | None,
    check: bool,
    images: Tensor,
    dtype: torch.dtype | None,
    cuda_graphs: bool,
) -> nn.Module:
    """The engine that takes the least time for a few images among those that can run here."""
    names = ["pruned", "csr"] if _device(network).type != "cpu" else ["native", "csr", "pruned"]
    if dtype not in (None, torch.float32):
        names = ["pruned"]
    candidates = []
    for name in names:
        try:
            if name == "native":
                load_kernel()
            compiled = _compile(network, parts, name, threads, dtype, cuda_graphs and name == "pruned")
            _evaluate(compiled, images)
        except (NoCompilerError, ValueError, NotImplementedError) as error:
            warnings.warn(f"The engine {name} is left out: {error}", stacklevel=3)
            continue
        candidates.append(compiled)
    if not candidates:
        raise ValueError("No engine can run this network here.")
    times = [min(times) for times in zip(*(_times(candidates, images) for _ in range(3)), strict=True)]
    best = candidates[times.index(min(times))]
    if check:
        _check(network, parts, best, images)
    return best


def _times(candidates: Sequence[nn.Module], images: Tensor) -> list[float]:
    """Seconds that each candidate takes for the images, one after another."""
    times = []
    for candidate in candidates:
        start = time.perf_counter()
        _evaluate(candidate, images)
        times.append(time.perf_counter() - start)
    return times


def _evaluate(network: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        result = network(images)
        if result.is_cuda:
            torch.cuda.synchronize(result.device)
    return result


def _check(network: nn.Module, parts: dict[str, ChannelGraph], compiled: nn.Module, images: Tensor) -> None:
    """Raises EngineError where a compiled part differs too much from what it stands for."""
    with full_float32():
        _compare(network, parts, compiled, images)
    for module in compiled.modules():
        if isinstance(module, CudaGraphs):
            module.forget()  # what was recorded just now is not what the user's settings would give


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions on a GPU without TensorFloat-32: an engine and its network would round different weights."""
    cudnn = torch.backends.cudnn
    with cudnn.flags(
        enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
    ):
        yield


def _compare(network: nn.Module, parts: dict[str, ChannelGraph], compiled: nn.Module, images: Tensor) -> None:
    calls = _calls(network, list(parts), images)
    for name, graph in parts.items():
        if name not in calls:  # the network has this part, and does not use it
            continue
        part = compiled if name == "" else compiled.get_submodule(name)
        part = part.compiled if isinstance(part, _CompiledStep) else part
        assert isinstance(part, CompiledGraph)
        given, expected = calls[name]
        if part.linear:
            given, expected = (values.reshape(-1, values.shape[-1]) for values in (given, expected))
        tolerance = TOLERANCE.get(part.dtype or given.dtype, TOLERANCE_FLOAT32)
        difference = relative_difference(_evaluate(part, given), expected)
        if not difference <= tolerance:
            stage = _first_wrong_stage(network, name, graph, part, given, tolerance)
            raise EngineError(
                f"The engine {part.engine} differs from the network by {difference:.1e} of its largest output, "
                f"more than {tolerance:.0e}, from stage {stage} on."
            )


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest magnitude expected; infinite where a value is not finite."""
    difference = (found.double() - expected.double()).abs().max().item()
    largest = expected.double().abs().max().item()
    ratio = difference / largest if largest else difference
    return ratio if ratio == ratio else float("inf")


def _calls(network: nn.Module, names: Sequence[str], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What goes into each named module and what comes out of it when it is first called for the images."""
    with evaluating(network), recorded_calls(network, names) as calls:
        network(images)
    return {name: (calls[name][0].given, calls[name][0].result) for name in names if name in calls}


def _first_wrong_stage(
    network: nn.Module, name: str, graph: ChannelGraph, part: CompiledGraph, given: Tensor, tolerance: float
) -> str:
    """The first stage whose planes are wrong: in the channel graph if it is, else in the engine."""
    image = given[:1].double().cpu()
    array = image.numpy() if image.dim() == 4 else image.numpy()[:, :, None, None]
    planes = graphs_module.run(graph, array[0])
    probes = [(i, level.probe) for i, level in enumerate(graph.levels) if level.probe is not None]
    prefix = f"{name}." if name else ""
    seen = _outputs(network, [prefix + probe for _, (probe, _) in probes], given[:1], name)
    for i, (probe, call) in probes:
        calls = seen.get(prefix + probe, [])
        if len(calls) > call and relative_difference(torch.from_numpy(planes[i]), calls[call][0].cpu()) > tolerance:
            return graph.levels[i].stage or name
    size = array.shape[2:]
    pruned = graph.pruned(size)
    expected = graphs_module.run(pruned, array[0])
    for i in range(1, len(pruned.levels)):
        engine = part._make(pruned.upto(i), size).to(given.device).to(part.dtype or given.dtype).eval()
        found = _evaluate(engine, given[:1].to(part.dtype or given.dtype)).cpu()
        if relative_difference(found[0].flatten(1), torch.from_numpy(expected[i]).flatten(1)) > tolerance:
            return pruned.levels[i].stage or name
    return graph.levels[-1].stage or name


def _outputs(network: nn.Module, names: Sequence[str], images: Tensor, root: str) -> dict[str, list[Tensor]]:
    """What the named modules give, call by call, when the images go through the network (nothing for a part of one)."""
    if root:
        return {}
    with evaluating(network), recorded_calls(network, names) as calls:
        network(images)
    return {name: [call.result for call in made] for name, made in calls.items()}


def _images(network: nn.Module, image_size: int | Size) -> Tensor:
    """Two random images that suit the network."""
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"There are no images of {' x '.join(map(str, size))} pixels.")
    convolution = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    generator = torch.Generator().manual_seed(0)
    if convolution is None:
        linear = next(module for module in network.modules() if hasattr(module, "in_features"))
        images = torch.randn(2, linear.in_features, generator=generator)
    else:
        images = torch.randn(2, convolution.in_channels, *size, generator=generator)
    example = next(network.parameters(), torch.zeros(0))
    return images.to(example.device, example.dtype)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters(), torch.zeros(0)).device


def _usual_size(network: nn.Module) -> int:
    """The size of the images that a network of this project was made for. Raises ValueError for others."""
    if hasattr(network, "image_size"):
        return network.image_size
    centre = getattr(network, "_centre", None)
    if centre is not None:
        return 8 * centre.stop
    convolution = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    if convolution is None:
        return 1
    if hasattr(network, "conv1"):
        return 32 if network.conv1.stride[0] == 1 else 224
    raise ValueError(f"compile_graph needs image_size for a {type(network).__name__}.")
