"""What the wirings of a network do while it is trained: edges swapped, pictures, and what the network itself tells."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from genutil.model_profiling import live_nodes
from genutil.reports.logs import adjacency_picture
from models.protocols import HasMeasures
from models.wirings.rules import graphs


class WiringWatch:
    """Looks at the wired graphs of a network, and asks it for measures of its own (`models.protocols.HasMeasures`).

    Args:
        network: the plain network.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._graphs = dict(graphs(network))

    @property
    def wired(self) -> bool:
        """Whether the network has a wired graph."""
        return bool(self._graphs)

    def acting(self) -> dict[str, Tensor]:
        """Masks [possible] of the edges that act now, by the name of their graph."""
        return {name: graph.acting().clone() for name, graph in self._graphs.items()}

    def measures(self, before: Mapping[str, Tensor]) -> dict[str, float]:
        """Numbers of the network now.

        Of a wired one `edges_swapped`, the edges that act and did not act `before`, and `live_nodes`, those on a path
        from the image to the logits where its nodes are channels; and what the network tells itself.
        """
        found: dict[str, float] = {}
        if self._graphs:
            now = self.acting()
            found["edges_swapped"] = sum(int((now[name] & ~before[name].to(now[name].device)).sum()) for name in now)
            live = live_nodes(self._network)
            if live is not None:
                found["live_nodes"] = live
        if isinstance(self._network, HasMeasures):
            found |= self._network.measures()
        return found

    def pictures(self) -> dict[str, Tensor]:
        """A picture of each graph's adjacency, by name (`logs.adjacency_picture`)."""
        return {f"adjacency/{name}": adjacency_picture(graph.matrix()).cpu() for name, graph in self._graphs.items()}
