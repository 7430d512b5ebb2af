"""Engines that run a channel graph with torch: dense on what is left (pruned), sparse rows (csr), message passing
(dgl)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.sparse.graph import ChannelGraph, Edges, Level

DENSE_ABOVE = 0.3
"""Share of the possible edges above which csr and dgl run a level densely: the first convolution, the classifier."""
NEAR_PIXELS = 1 << 14
"""Pixels of the images that csr and dgl run at once on a CPU."""
MOST_SHAPES = 8
"""Shapes of images that stay recorded as CUDA graphs."""


class PrunedGraph(nn.Module):
    """A channel graph without its dead nodes, dense on the rest, with everything prepared once.

    Input [batch, channels, height, width], or [batch, channels] for planes of 1x1; output [batch, nodes], or planes
    where the graph is not flat. Any device and dtype.

    Args:
        graph: what `ChannelGraph.pruned` gives.
    """

    def __init__(self, graph: ChannelGraph) -> None:
        super().__init__()
        self.flat = graph.flat
        self.sources = [level.sources for level in graph.levels[1:]]
        self.levels = nn.ModuleList(_DenseLevel(level) for level in graph.levels[1:])

    def forward(self, images: Tensor) -> Tensor:
        planes = [_as_planes(images).contiguous(memory_format=torch.channels_last)]
        for level, sources in zip(self.levels, self.sources, strict=True):
            chosen = [planes[source] for source in sources]
            planes.append(level(chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=1)))
        return planes[-1].flatten(1) if self.flat else planes[-1]


class CudaGraphs(nn.Module):
    """A module on a GPU whose kernels are recorded once for every shape of the images, then replayed in one go.

    The last few shapes stay recorded. On a GPU there are no gradients.

    Args:
        module: keeps no state between calls, and computes the same for the same images.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._recorded: dict[tuple[torch.Size, torch.dtype], tuple[Any, Tensor, Tensor]] = {}

    def forward(self, images: Tensor) -> Tensor:
        return self._replay(images) if images.is_cuda else self.module(images)

    def forget(self) -> None:
        """Record anew when images come next."""
        self._recorded.clear()

    @torch.no_grad()
    def _replay(self, images: Tensor) -> Tensor:
        key = images.shape, images.dtype
        with torch.cuda.device(images.device):
            if key not in self._recorded:
                while len(self._recorded) >= MOST_SHAPES:
                    del self._recorded[next(iter(self._recorded))]
                self._recorded[key] = self._record(images)
            graph, given, result = self._recorded[key]
            given.copy_(images)
            graph.replay()
            return result.clone()

    @torch.inference_mode(False)
    @torch.no_grad()
    def _record(self, images: Tensor) -> tuple[Any, Tensor, Tensor]:
        given = torch.empty_like(images).copy_(images)  # no inference tensor, whatever the images are
        stream = torch.cuda.Stream(images.device)
        stream.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(stream):  # outside the recording: what libraries set up at a first call
            for _ in range(3):
                self.module(given)
        torch.cuda.current_stream(images.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):  # the stream of its own choice may belong to another GPU
            result = self.module(given)
        return graph, given, result

    def _apply(self, *args: Any, **kwargs: Any) -> CudaGraphs:
        self.forget()
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_recorded": {}}


class RowsGraph(nn.Module):
    """A channel graph whose sparse levels multiply planes by sparse rows.

    Input and output as `PrunedGraph`'s. Within, planes lie channel first, [channels, batch, height, width], so that
    the sums of a level are one product of a sparse matrix with a dense one. On a CPU a few images at a time, for
    the cache's sake.

    Args:
        graph: what `ChannelGraph.pruned` gives.
        make_sums: gives the module that maps rows [columns, positions] to [nodes, positions].
    """

    def __init__(self, graph: ChannelGraph, make_sums: Callable[[Edges], nn.Module]) -> None:
        super().__init__()
        self.flat = graph.flat
        self.sources = [level.sources for level in graph.levels[1:]]
        self.levels = nn.ModuleList(_RowsLevel(level, make_sums) for level in graph.levels[1:])

    def forward(self, images: Tensor) -> Tensor:
        images = _as_planes(images)
        pixels = max(1, images.shape[2] * images.shape[3])
        few = images.device.type == "cpu" and len(images) > 0
        parts = images.split(max(1, NEAR_PIXELS // pixels)) if few else [images]
        result = torch.cat([self._run(part) for part in parts])
        return result.flatten(1) if self.flat else result

    def _run(self, images: Tensor) -> Tensor:
        planes = [images.transpose(0, 1).contiguous()]
        for level, sources in zip(self.levels, self.sources, strict=True):
            chosen = [planes[source] for source in sources]
            planes.append(level(chosen[0] if len(chosen) == 1 else torch.cat(chosen)))
        return planes[-1].transpose(0, 1)


def csr_graph(graph: ChannelGraph) -> nn.Module:
    """The graph with its edges in torch's compressed sparse rows."""
    return RowsGraph(graph, _CsrSums)


def dgl_graph(graph: ChannelGraph) -> nn.Module:
    """The graph with its edges as DGL's message passing. Raises ValueError where DGL cannot be imported."""
    import_dgl()
    return RowsGraph(graph, _DglSums)


def import_dgl() -> Any:
    """The package dgl. Raises ValueError, in one sentence, where it is missing or broken."""
    try:
        import dgl
    except Exception as error:  # a DGL that does not fit this torch fails in many ways
        raise ValueError(
            "The engine dgl needs the package dgl, which cannot be imported here "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}): pip install "
            "dgl==1.1.3 packaging, with Python below 3.12."
        ) from error
    return dgl


def _as_planes(images: Tensor) -> Tensor:
    return images[:, :, None, None] if images.dim() == 2 else images


class _Nodes(nn.Module):
    """The operations of a level's nodes after the sum; `axis` is where the planes have their channels."""

    constant: Tensor | None
    norm_weight: Tensor
    norm_bias: Tensor
    kernel: Tensor
    kernel_bias: Tensor | None

    def __init__(self, level: Level, axis: int) -> None:
        super().__init__()
        self.relu, self.mean, self.window, self.eps = level.relu, level.mean, level.window, None
        self.axis = axis
        shape = (1, -1, 1, 1) if axis else (-1, 1, 1, 1)
        constant = None
        if level.constant is not None:
            constant = torch.zeros(level.nodes, *level.constant.planes.shape[1:])
            constant[torch.from_numpy(level.constant.nodes)] = torch.from_numpy(level.constant.planes)
            constant = constant.unsqueeze(1 - axis)
        self.register_buffer("constant", constant)
        if level.norm is not None:
            self.eps = level.norm.eps
            self.register_buffer("norm_weight", _tensor(level.norm.weight).view(shape))
            self.register_buffer("norm_bias", _tensor(level.norm.bias).view(shape))
        self.convolve = level.depthwise is not None
        if level.depthwise is not None:
            self.stride, self.padding = level.depthwise.stride, level.depthwise.padding
            self.register_buffer("kernel", _tensor(level.depthwise.kernel).unsqueeze(1))
            has_bias = level.depthwise.bias.any()
            self.register_buffer("kernel_bias", _tensor(level.depthwise.bias) if has_bias else None)

    def forward(self, sums: Tensor) -> Tensor:
        if self.constant is not None:
            sums = sums + self.constant
        if self.eps is not None and torch.onnx.is_in_onnx_export():  # ONNX has an operator for it
            scale, shift = self.norm_weight.flatten(), self.norm_bias.flatten()
            sums = torch.instance_norm(sums, scale, shift, None, None, True, 0.0, self.eps, False)
        elif self.eps is not None:
            mean = sums.mean(dim=(2, 3), keepdim=True)
            sums = sums - mean
            variance = sums.square().mean(dim=(2, 3), keepdim=True)
            sums = sums * (self.norm_weight * (variance + self.eps).rsqrt()) + self.norm_bias
        if self.relu:
            sums = F.relu(sums)
        if self.convolve:
            sums = self._depthwise(sums)
        if self.window is not None:
            top, bottom, left, right = self.window
            sums = sums[:, :, top:bottom, left:right]
        return sums.mean(dim=(2, 3), keepdim=True) if self.mean else sums

    def _depthwise(self, planes: Tensor) -> Tensor:
        if self.axis == 0:
            planes = planes.transpose(0, 1)
        planes = F.conv2d(planes, self.kernel, self.kernel_bias, self.stride, self.padding, groups=self.kernel.shape[0])
        return planes if self.axis else planes.transpose(0, 1).contiguous()


class _DenseLevel(nn.Module):
    """A level as one convolution and the nodes' operations."""

    weight: Tensor
    bias: Tensor

    def __init__(self, level: Level) -> None:
        super().__init__()
        assert level.edges is not None
        self.stride, self.padding = level.edges.stride, level.edges.padding
        self.register_buffer("weight", _tensor(level.edges.dense()))
        self.register_buffer("bias", _tensor(level.bias))
        self.nodes = _Nodes(level, axis=1)

    def forward(self, planes: Tensor) -> Tensor:
        return self.nodes(F.conv2d(planes, self.weight, self.bias, self.stride, self.padding))


class _RowsLevel(nn.Module):
    """A level over planes [channels, batch, height, width]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, level: Level, make_sums: Callable[[Edges], nn.Module]) -> None:
        super().__init__()
        edges = level.edges
        assert edges is not None
        self.plain, self.kernel, self.stride, self.padding = edges.plain, edges.kernel, edges.stride, edges.padding
        self.sums: nn.Module | None = None
        if edges.count > DENSE_ABOVE * edges.nodes * edges.columns:
            self.register_buffer("weight", _tensor(edges.dense()))
        else:
            self.sums = make_sums(edges)
        self.register_buffer("bias", _tensor(level.bias).view(-1, 1, 1, 1))
        self.nodes = _Nodes(level, axis=0)

    def forward(self, planes: Tensor) -> Tensor:
        if self.sums is None:
            sums = F.conv2d(planes.transpose(0, 1), self.weight, None, self.stride, self.padding).transpose(0, 1)
            return self.nodes(sums + self.bias)
        batch = planes.shape[1]
        if self.plain:
            rows, size = planes.flatten(1), [*planes.shape[2:]]
        else:
            patches = F.unfold(planes.transpose(0, 1), self.kernel, padding=self.padding, stride=self.stride)
            rows = patches.transpose(0, 1).flatten(1)
            size = [
                (side + 2 * self.padding - kernel) // self.stride + 1
                for side, kernel in zip(planes.shape[2:], self.kernel, strict=True)
            ]
        return self.nodes(self.sums(rows).view(len(self.bias), batch, *size) + self.bias)


class _CsrSums(nn.Module):
    """Rows [columns, positions] to [nodes, positions] through torch's compressed sparse rows."""

    indptr: Tensor
    indices: Tensor
    weight: Tensor

    def __init__(self, edges: Edges) -> None:
        super().__init__()
        matrix = edges.matrix()
        self.shape = matrix.shape
        self.register_buffer("indptr", torch.from_numpy(matrix.indptr.astype("int64")))
        self.register_buffer("indices", torch.from_numpy(matrix.indices.astype("int64")))
        self.register_buffer("weight", torch.from_numpy(matrix.data.copy()))
        self._matrix: Tensor | None = None

    @property
    def matrix(self) -> Tensor:
        """The buffers as one sparse tensor, which itself can neither be copied nor pickled."""
        if self._matrix is None:
            with warnings.catch_warnings(), torch.inference_mode(False):
                warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
                self._matrix = torch.sparse_csr_tensor(
                    self.indptr, self.indices, self.weight, size=self.shape, check_invariants=True
                )
        return self._matrix

    def forward(self, rows: Tensor) -> Tensor:
        return self.matrix @ rows

    def _apply(self, *args: Any, **kwargs: Any) -> _CsrSums:
        self._matrix = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._matrix = None
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_matrix": None}


class _DglSums(nn.Module):
    """Rows [columns, positions] to [nodes, positions]: every edge sends its source's row times its weight."""

    def __init__(self, edges: Edges) -> None:
        super().__init__()
        dgl = import_dgl()
        matrix = edges.matrix().tocoo()
        ends = torch.from_numpy(matrix.col.astype("int64")), torch.from_numpy(matrix.row.astype("int64"))
        self.block = dgl.create_block(ends, num_src_nodes=matrix.shape[1], num_dst_nodes=matrix.shape[0])
        self.send_and_sum = dgl.ops.u_mul_e_sum
        self.register_buffer("weight", torch.from_numpy(matrix.data.copy()).unsqueeze(1))

    def forward(self, rows: Tensor) -> Tensor:
        if self.block.device != rows.device:
            self.block = self.block.to(rows.device)
        return self.send_and_sum(self.block, rows, self.weight)


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(array.copy())
