"""A network with other edges than its rules choose, for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.wirings.graph import Graph, WiredWeight, graphs
from models.wirings.wiring import Wiring


class _Given(Wiring):
    """The edges of a mask [possible] act, with their full weights; never with a weight of zero."""

    def __init__(self, wiring: Wiring, mask: Tensor) -> None:
        super().__init__(wiring.layout)
        self.kept = wiring.kept
        self._mask = mask

    def forward(self, weight: Tensor) -> Tensor:
        tiny = torch.finfo(weight.dtype).tiny
        return torch.where(self._mask, torch.where(weight == 0, tiny, weight), 0)

    def acting(self, weight: Tensor) -> Tensor:
        return self._mask

    def effective(self, weight: Tensor) -> Tensor:
        return self.forward(weight)


@contextmanager
def other_edges(network: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """A network in evaluation mode whose graphs have the edges of `masks`; afterwards their own rules again.

    Args:
        network: whose graphs they are. Those that are not named keep their rules.
        masks: bool [possible] by the names of the graphs (`graphs`).
    """
    before: list[tuple[Graph | WiredWeight, Wiring]] = []
    try:
        for name, graph in list(graphs(network)):
            if name in masks:
                owner = graph if isinstance(graph, Graph) else graph.wired
                before.append((owner, graph.wiring))
                owner.wiring = _Given(graph.wiring, masks[name])
        yield
    finally:
        for owner, wiring in before:
            owner.wiring = wiring
