"""The wiring as a graph of networkx: nodes in their levels, edges with their weights."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import networkx as nx
import numpy as np

from genutil.errors import UserError
from genutil.saved.exports.content import Exported
from models.protocols import HasNodeGraph
from models.sparse import ChannelGraph, channel_graphs
from models.sparse.graph import Level, Liveness


def graphml(what: Exported) -> bytes:
    """GraphML, for `networkx.read_graphml` and Gephi (see `node_graph`).

    Raises:
        UserError: the network has no wired part.
    """
    file = BytesIO()
    nx.write_graphml_xml(node_graph(what), file)
    return file.getvalue()


def edgelist(what: Exported) -> bytes:
    """A line an edge, `source target weight`, weights with their sign, for `networkx.read_weighted_edgelist`.

    Raises:
        UserError: the network has no wired part.
    """
    edges = node_graph(what).edges(data="value")
    return "".join(f"{source} {target} {value:.9g}\n" for source, target, value in edges).encode()


def node_graph(what: Exported) -> nx.DiGraph:
    """The nodes of a network's channel graphs, or those of its random stages, with the edges that act.

    A node is called `<level>.<number in its level>`, behind `<part>/` where only parts of the network are graphs.
    Its attributes: `label`, `level` (a number, from the image on), `level_name`, `stage`, `channel` (row of the stage's
    matrix) and `state` (live, constant or dead). Of an edge: `value`, its weight (of a kernel the sum of its taps);
    `weight`, the magnitude (of a kernel the Euclidean norm), as programs that lay graphs out expect it; and `taps`
    of a kernel, row by row.

    Raises:
        UserError: the network has no wired part.
    """
    if isinstance(what.network, HasNodeGraph):
        return what.network.node_graph()
    parts = channel_graphs(what.network)
    if not parts:
        raise UserError(f"{what.experiment.model} has no wired part, so that there is no graph of it to export.")
    return _union(parts)


def _union(parts: Mapping[str, ChannelGraph]) -> nx.DiGraph:
    whole = nx.DiGraph()
    for part, graph in parts.items():
        prefix = f"{part}/" if part else ""
        for i, (level, alive) in enumerate(zip(graph.levels, graph.liveness, strict=True)):
            _add_nodes(whole, prefix, i, level, alive)
        for i in range(1, len(graph.levels)):
            _add_edges(whole, prefix, graph, i)
    return whole


def _add_nodes(whole: nx.DiGraph, prefix: str, index: int, level: Level, alive: Liveness) -> None:
    states = np.where(alive.live, "live", np.where(alive.constant, "constant", "dead"))
    for node, (channel, state) in enumerate(zip(level.channels.tolist(), states.tolist(), strict=True)):
        whole.add_node(
            f"{prefix}{index}.{node}",
            label=f"{prefix}{level.name}:{node}",
            level=index,
            level_name=level.name,
            stage=prefix.rstrip("/") or level.stage,
            channel=channel,
            state=state,
        )


def _add_edges(whole: nx.DiGraph, prefix: str, graph: ChannelGraph, index: int) -> None:
    edges = graph.levels[index].incoming
    columns = [f"{prefix}{s}.{n}" for s in graph.levels[index].sources for n in range(graph.levels[s].nodes)]
    values = edges.weight.sum(axis=(1, 2)).tolist()
    weights = np.sqrt(np.square(edges.weight).sum(axis=(1, 2))).tolist()
    ends = zip(edges.indices.tolist(), edges.rows.tolist(), strict=True)
    for i, (column, row) in enumerate(ends):
        taps = {} if edges.plain else {"taps": " ".join(f"{tap:.9g}" for tap in edges.weight[i].reshape(-1))}
        whole.add_edge(columns[column], f"{prefix}{index}.{row}", weight=weights[i], value=values[i], **taps)
