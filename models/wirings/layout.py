"""Which entries of a graph's matrix can act, and how their weights lie in one vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """A rectangle of a graph's matrix: rows row0..row1 - 1 by columns column0..column1 - 1."""

    row0: int
    row1: int
    column0: int
    column1: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.row1 - self.row0, self.column1 - self.column0

    @property
    def edges(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class EdgeLayout:
    """Which entries of a graph's matrix can act, as disjoint rectangles, and how their weights lie in one vector.

    Rows are the nodes that edges end in, columns those that they start from. The weights of the rectangles
    follow one another in the order of `blocks`, each row by row.
    """

    rows: int
    columns: int
    blocks: tuple[Block, ...]

    @classmethod
    def full(cls, rows: int, columns: int) -> EdgeLayout:
        """Every entry can act."""
        return cls(rows, columns, (Block(0, rows, 0, columns),))

    @cached_property
    def possible(self) -> int:
        """Number of edges that can act."""
        return sum(block.edges for block in self.blocks)

    def kept(self, prune_rate: float) -> int:
        """Edges kept when the share `prune_rate` of the matrix's entries is removed, at most all that are possible."""
        entries = self.rows * self.columns
        return min(entries - int(prune_rate * entries), self.possible)

    def split(self, edges: Tensor) -> tuple[Tensor, ...]:
        """Views of a vector [possible] as one matrix a block."""
        parts = edges.split([block.edges for block in self.blocks])
        return tuple(part.view(block.shape) for part, block in zip(parts, self.blocks, strict=True))

    def to_matrix(self, edges: Tensor) -> Tensor:
        """The whole matrix [rows, columns] of a vector [possible]; zero (false) where nothing can act."""
        matrix = edges.new_zeros(self.rows, self.columns)
        for part, block in zip(self.split(edges), self.blocks, strict=True):
            matrix[block.row0 : block.row1, block.column0 : block.column1] = part
        return matrix

    def from_matrix(self, matrix: Tensor) -> Tensor:
        """The vector [possible] of a matrix [rows, columns] or [rows, columns, 1, 1]."""
        matrix = matrix.reshape(self.rows, self.columns)
        return torch.cat(
            [matrix[b.row0 : b.row1, b.column0 : b.column1].reshape(-1) for b in self.blocks],
        )
