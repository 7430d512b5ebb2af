"""What the wirings of a network do while it is trained: edges swapped, pictures, and whatever else is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from genutil.reports.logs import adjacency_picture
from models.wirings.rules import graphs


class WiringWatch:
    """Looks at the wired graphs of a network; a network without any has nothing to tell.

    Args:
        network: the plain network.
        measure: further numbers of a network to note after each epoch, by name.
    """

    def __init__(self, network: nn.Module, measure: Callable[[nn.Module], Mapping[str, float]] = lambda _: {}) -> None:
        self._network = network
        self._measure = measure
        self._graphs = dict(graphs(network))

    def acting(self) -> dict[str, Tensor]:
        """Masks [possible] of the edges that act now, by the name of their graph."""
        return {name: graph.acting().clone() for name, graph in self._graphs.items()}

    def measures(self, before: Mapping[str, Tensor]) -> dict[str, float]:
        """Numbers of the network now; `edges_swapped` counts the edges that act and did not act `before`."""
        own: dict[str, float] = {}
        if self._graphs:
            now = self.acting()
            own["edges_swapped"] = sum(int((now[name] & ~before[name].to(now[name].device)).sum()) for name in now)
        return own | dict(self._measure(self._network))

    def pictures(self) -> dict[str, Tensor]:
        """A picture of each graph's adjacency, by name (`logs.adjacency_picture`)."""
        return {f"adjacency/{name}": adjacency_picture(graph.matrix()).cpu() for name, graph in self._graphs.items()}
