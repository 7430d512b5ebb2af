"""A channel graph in the place of the module that it was made from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.sparse.engines import Engine, EngineOptions
from models.sparse.graph import ChannelGraph, Size
from models.sparse.torch_engines import CudaGraphs

MOST_SIZES = 8
"""Sizes of images for which engines are kept."""
LOW_PRECISION = (torch.bfloat16, torch.float16)


class CompiledGraph(nn.Module):
    """A channel graph with an engine for every size of images that comes.

    Where the graph stands for a linear layer, its input may have any dimensions before the last.

    Args:
        graph: not pruned.
        entry: which engine.
        options: of the engine.
        dtype: that the images are converted to; None: they stay as they are.

    Attributes:
        engine: the engine's name.
    """

    def __init__(
        self, graph: ChannelGraph, entry: Engine, options: EngineOptions, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.graph, self.entry, self.options, self.dtype = graph, entry, options, dtype
        self.engine = entry.name
        self.sizes = nn.ModuleDict()

    def forward(self, images: Tensor) -> Tensor:
        if images.dim() != 2 and self.graph.takes_vectors:
            return self(images.reshape(-1, images.shape[-1])).reshape(*images.shape[:-1], -1)
        if images.dim() not in (2, 4):
            raise ValueError(f"Images are [batch, channels, height, width], not {list(images.shape)}.")
        if self.dtype is not None:
            images = images.to(self.dtype)
        if self.entry.any_precision:
            return self._run(images)
        with torch.autocast(images.device.type, enabled=False):
            return self._run(images.float() if images.dtype in LOW_PRECISION else images).to(images.dtype)

    def make_engine(self, pruned: ChannelGraph, size: Size, like: Tensor) -> nn.Module:
        """The engine of a pruned graph for images of one size, on the device and in the precision of `like`."""
        return self.entry.maker()(pruned, size, self.options).to(like.device).to(like.dtype).eval()

    def forget_recordings(self) -> None:
        """Let CUDA graphs be recorded anew."""
        for module in self.modules():
            if isinstance(module, CudaGraphs):
                module.forget()

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
        key = "any" if pruned.image_size is None and not self.entry.one_size else f"{size[0]}x{size[1]}"
        while len(self.sizes) >= MOST_SIZES:
            del self.sizes[next(iter(self.sizes))]
        self.sizes[key] = self.make_engine(pruned, size, images)
        return self.sizes[key]


def evaluated(network: nn.Module, images: Tensor) -> Tensor:
    """What a network gives for images, without gradients, when its device is done with it."""
    with torch.inference_mode():
        result = network(images)
        if result.is_cuda:
            torch.cuda.synchronize(result.device)
    return result
