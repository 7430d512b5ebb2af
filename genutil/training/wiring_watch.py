"""What the wirings of a network do while it is trained: edges swapped, pictures, and what the network itself tells."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from genutil.model_profiling import live_nodes
from genutil.reports.logs import adjacency_picture
from models.measures import Cheap, cheap_measures
from models.protocols import HasMeasures
from models.sparse.from_network import channel_graphs
from models.wiring_graphs import wiring_graphs
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
        from the image to the logits where its nodes are channels; `live_edges`, `degree_std`, `degree_max`, `depth` and
        `edge_length` (`models.measures.Cheap`); and what the network tells itself.
        """
        found: dict[str, float] = {}
        if self._graphs:
            now = self.acting()
            found["edges_swapped"] = sum(int((now[name] & ~before[name].to(now[name].device)).sum()) for name in now)
            parts = channel_graphs(self._network)
            live = live_nodes(self._network, parts)
            if live is not None:
                found["live_nodes"] = live
            if wiring := wiring_graphs(self._network, parts):
                found |= _noted(cheap_measures(wiring[""]))
        if isinstance(self._network, HasMeasures):
            found |= self._network.measures()
        return found

    def pictures(self) -> dict[str, Tensor]:
        """A picture of each graph's adjacency, by name (`logs.adjacency_picture`)."""
        return {f"adjacency/{name}": adjacency_picture(graph.matrix()).cpu() for name, graph in self._graphs.items()}


def _noted(found: Cheap) -> dict[str, float]:
    """What is noted after every epoch: it takes one pass over the edges."""
    return {
        "live_edges": found.edges,
        "degree_std": found.degree_std,
        "degree_max": found.degree_max,
        "depth": found.depth,
        "edge_length": found.edge_length_mean,
    }
