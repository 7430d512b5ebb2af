"""Sums over the edges of a graph of channels, for training: densely, or at the cost of the edges that act.

The nodes of a stage sum weighted planes of earlier nodes. `DenseSums` runs that as 1x1 convolutions. `SparseSums` runs
the sum and the gradient of its planes over the nonzero edges only; the gradient of the weights stays dense, for
a wiring rule may need it at edges that do not act. Both give the same values and gradients.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")


class EdgeSums(Protocol):
    """The planes of the source nodes so far, and sums of them."""

    def __init__(self, planes: Tensor) -> None:
        """Start with planes [batch, sources, height, width]."""

    def append(self, planes: Tensor) -> None:
        """Add the planes of further source nodes, of the same batch and size."""

    def sum(self, weight: Tensor, first: int = 0) -> Tensor:
        """Planes [batch, nodes, height, width] of the nodes that `weight` [nodes, sources from `first` on] feeds."""


class DenseSums:
    """Sums as 1x1 convolutions."""

    def __init__(self, planes: Tensor) -> None:
        self._planes = planes

    def append(self, planes: Tensor) -> None:
        self._planes = torch.cat([self._planes, planes], dim=1)

    def sum(self, weight: Tensor, first: int = 0) -> Tensor:
        planes = self._planes[:, first : first + weight.shape[1]]
        return F.conv2d(planes, weight[:, :, None, None])


class SparseSums:
    """Sums over nonzero edges, with the planes of a node side by side in memory over the whole batch."""

    def __init__(self, planes: Tensor) -> None:
        batch, _, height, width = planes.shape
        self._size = (-1, batch, height, width)
        self._rows = planes.transpose(0, 1).flatten(1)

    def append(self, planes: Tensor) -> None:
        self._rows = torch.cat([self._rows, planes.transpose(0, 1).flatten(1)])

    def sum(self, weight: Tensor, first: int = 0) -> Tensor:
        planes = _SparseSum.apply(weight, self._rows[first : first + weight.shape[1]]).view(self._size).transpose(0, 1)
        return planes.contiguous(memory_format=torch.channels_last)


class _SparseSum(torch.autograd.Function):
    """weight [nodes, sources] @ rows [sources, positions], skipping zero weights."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor) -> Tensor:
        node, source = weight.nonzero(as_tuple=True)
        value = weight[node, source]
        ctx.save_for_backward(rows, node, source, value)
        return _csr(node, source, value, (weight.shape[0], weight.shape[1])) @ rows

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows, node, source, value = ctx.saved_tensors
        to_weight = to_rows = None
        if ctx.needs_input_grad[0]:
            to_weight = gradient @ rows.t()
        if ctx.needs_input_grad[1]:
            order = source.argsort(stable=True)
            shape = (len(rows), len(gradient))
            to_rows = _csr(source[order], node[order], value[order], shape) @ gradient.contiguous()
        return to_weight, to_rows


def _csr(row: Tensor, column: Tensor, value: Tensor, shape: tuple[int, int]) -> Tensor:
    """A compressed sparse row matrix from entries in the order of their rows."""
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64, device=row.device)
    torch.cumsum(torch.bincount(row, minlength=shape[0]), 0, out=starts[1:])
    return torch.sparse_csr_tensor(starts, column, value, shape, check_invariants=False)


def sparse_sums_pay(edges: Sequence[Tensor], planes: Tensor) -> bool:
    """Whether sums over nonzero edges take less time than 1x1 convolutions for effective weights `edges`.

    They do on a CPU in full precision, where few edges of large matrices act (measured by benchmarks/train_step.py): a
    sum over edges costs each position about seven times as much an edge, and moves each plane once more.
    """
    if planes.device.type != "cpu" or planes.dtype not in (torch.float32, torch.float64):
        return False
    if torch.is_autocast_enabled("cpu") or torch.compiler.is_exporting():  # an exported network holds no branch
        return False
    entries = sum(edge.numel() for edge in edges)
    planes_moved = sum(sum(edge.shape) for edge in edges)
    if entries < 100 * planes_moved:
        return False
    acting = sum(int(edge.count_nonzero()) for edge in edges)
    return 8 * acting < entries
