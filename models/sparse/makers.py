"""What makes the engines of the table (`models.sparse.engines`), and what tells whether they can run here."""

from __future__ import annotations

from torch import nn

from models.native.library import FLAGS, NoCompilerError
from models.sparse.engines import EngineOptions, UnavailableError
from models.sparse.graph import ChannelGraph, Size
from models.sparse.native import NativeGraph, load_kernel
from models.sparse.native_half import HalfGraph
from models.sparse.torch_engines import CudaGraphs, PrunedGraph, csr_graph, dgl_graph, import_dgl


def make_pruned(graph: ChannelGraph, _: Size, options: EngineOptions) -> nn.Module:
    return CudaGraphs(PrunedGraph(graph)) if options.cuda_graphs else PrunedGraph(graph)


def make_csr(graph: ChannelGraph, _: Size, __: EngineOptions) -> nn.Module:
    return csr_graph(graph)


def make_dgl(graph: ChannelGraph, _: Size, __: EngineOptions) -> nn.Module:
    return dgl_graph(graph)


def make_native(graph: ChannelGraph, size: Size, options: EngineOptions) -> nn.Module:
    return NativeGraph(graph, size, options.threads)


def make_native_half(graph: ChannelGraph, size: Size, options: EngineOptions) -> nn.Module:
    return HalfGraph(graph, size, options.threads)


def need_dgl() -> None:
    """Raises UnavailableError where the package dgl is missing or broken."""
    try:
        import_dgl()
    except ValueError as error:
        raise UnavailableError(str(error)) from error


def need_compiler() -> None:
    """Raises UnavailableError where the native kernel is not built yet and no compiler can build it."""
    _need_kernel()


def need_half_compiler() -> None:
    """The same of the kernel in half precision: old compilers have no such numbers."""
    _need_kernel(half=True)


def _need_kernel(half: bool = False) -> None:
    try:
        load_kernel(FLAGS, half)
    except NoCompilerError as error:
        raise UnavailableError(str(error)) from error
