"""Graphs whose nodes are more than channels, as plain values: what a randomly wired stage shows of itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class NodeGraph:
    """The nodes of a stage, each an operation on all of its channels, and the edges between them.

    Attributes:
        title: of the graph, for people.
        levels: nodes that can run together, in the order of computation.
        edges: int64 [edges, 2], the node that each starts from and the one it ends in.
        weight: [edges], what evaluation multiplies with; zero where the edge does not act.
    """

    title: str
    levels: tuple[tuple[int, ...], ...]
    edges: Tensor
    weight: Tensor
