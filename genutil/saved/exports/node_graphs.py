"""The wiring as a graph for networkx and Gephi: nodes in their levels, edges with their weights.

The files are written line by line: the writer of networkx takes minutes and gigabytes for a million edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from genutil.errors import UserError
from genutil.saved.exports.content import Exported
from models.networks.node_graphs import NodeGraph
from models.protocols import HasNodeGraphs
from models.sparse import ChannelGraph, channel_graphs
from models.sparse.graph import Level, Liveness

NODE_KEYS = {
    "label": "string",
    "level": "int",
    "level_name": "string",
    "stage": "string",
    "channel": "int",
    "state": "string",
}
EDGE_KEYS = {"weight": "double", "value": "double", "taps": "string"}

Node = tuple[str, Mapping[str, Any]]
Edge = tuple[str, str, Mapping[str, Any]]


def graphml(what: Exported) -> bytes:
    """GraphML, for `networkx.read_graphml` and Gephi.

    A node is called `<level>.<number in its level>`, behind `<part>/` where only parts of the network are graphs, and
    `<stage>/<number>` in a random stage. Its attributes: `label`, `level` (a number, from the image on), `level_name`,
    `stage`, `channel` (row of the stage's matrix) and `state` (live, constant or dead). Of an edge: `value`, its weight
    (of a kernel the sum of its taps); `weight`, the magnitude (of a kernel the Euclidean norm), as programs that lay
    graphs out expect it; and `taps` of a kernel, row by row.

    Raises:
        UserError: the network has no wired part.
    """
    nodes, edges = _graph(what)
    text = StringIO()
    text.write('<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n')
    for kind, keys in (("node", NODE_KEYS), ("edge", EDGE_KEYS)):
        for key, form in keys.items():
            text.write(f'<key id="{kind}_{key}" for="{kind}" attr.name="{key}" attr.type="{form}"/>\n')
    text.write('<graph edgedefault="directed">\n')
    for name, values in nodes:
        text.write(f"<node id={quoteattr(name)}>{_data('node', values)}</node>\n")
    for source, target, values in edges:
        ends = f"source={quoteattr(source)} target={quoteattr(target)}"
        text.write(f"<edge {ends}>{_data('edge', values)}</edge>\n")
    text.write("</graph>\n</graphml>\n")
    return text.getvalue().encode()


def edgelist(what: Exported) -> bytes:
    """A line an edge, `source target weight`, weights with their sign, for `networkx.read_weighted_edgelist`.

    Raises:
        UserError: the network has no wired part.
    """
    _, edges = _graph(what)
    return "".join(f"{source} {target} {values['value']:.9g}\n" for source, target, values in edges).encode()


def _data(kind: str, values: Mapping[str, Any]) -> str:
    shown = ((key, f"{value:.9g}" if isinstance(value, float) else str(value)) for key, value in values.items())
    return "".join(f'<data key="{kind}_{key}">{escape(value)}</data>' for key, value in shown)


def _graph(what: Exported) -> tuple[Iterator[Node], Iterator[Edge]]:
    """The nodes of a network's channel graphs, or those of its random stages, and the edges that act."""
    if isinstance(what.network, HasNodeGraphs):
        stages = what.network.node_graphs()
        return _stage_nodes(stages), _stage_edges(stages)
    parts = channel_graphs(what.network)
    if not parts:
        raise UserError(f"{what.experiment.model} has no wired part, so that there is no graph of it to export.")
    named = {f"{part}/" if part else "": graph for part, graph in parts.items()}
    return _nodes(named), _edges(named)


def _stage_nodes(stages: Mapping[str, NodeGraph]) -> Iterator[Node]:
    for stage, graph in stages.items():
        for level, nodes in enumerate(graph.levels):
            common = {"level": level, "level_name": f"{stage}.{level}", "stage": stage}
            for node in nodes:
                yield f"{stage}/{node}", {"label": f"{stage}:{node}", **common, "channel": node, "state": "live"}


def _stage_edges(stages: Mapping[str, NodeGraph]) -> Iterator[Edge]:
    for stage, graph in stages.items():
        for (source, target), value in zip(graph.edges.tolist(), graph.weight.tolist(), strict=True):
            if value:
                yield f"{stage}/{source}", f"{stage}/{target}", {"weight": abs(value), "value": value}


def _nodes(parts: Mapping[str, ChannelGraph]) -> Iterator[Node]:
    for prefix, graph in parts.items():
        for i, (level, alive) in enumerate(zip(graph.levels, graph.liveness, strict=True)):
            yield from _level_nodes(prefix, i, level, alive)


def _level_nodes(prefix: str, index: int, level: Level, alive: Liveness) -> Iterator[Node]:
    states = np.where(alive.live, "live", np.where(alive.constant, "constant", "dead"))
    for node, (channel, state) in enumerate(zip(level.channels.tolist(), states.tolist(), strict=True)):
        yield (
            f"{prefix}{index}.{node}",
            {
                "label": f"{prefix}{level.name}:{node}",
                "level": index,
                "level_name": level.name,
                "stage": prefix.rstrip("/") or level.stage,
                "channel": channel,
                "state": state,
            },
        )


def _edges(parts: Mapping[str, ChannelGraph]) -> Iterator[Edge]:
    for prefix, graph in parts.items():
        for i in range(1, len(graph.levels)):
            yield from _level_edges(prefix, graph, i)


def _level_edges(prefix: str, graph: ChannelGraph, index: int) -> Iterator[Edge]:
    edges = graph.levels[index].incoming
    columns = [f"{prefix}{s}.{n}" for s in graph.levels[index].sources for n in range(graph.levels[s].nodes)]
    values = edges.weight.sum(axis=(1, 2)).tolist()
    weights = np.sqrt(np.square(edges.weight).sum(axis=(1, 2))).tolist()
    ends = zip(edges.indices.tolist(), edges.rows.tolist(), strict=True)
    for i, (column, row) in enumerate(ends):
        taps = {} if edges.plain else {"taps": " ".join(f"{tap:.9g}" for tap in edges.weight[i].reshape(-1))}
        yield columns[column], f"{prefix}{index}.{row}", {"weight": weights[i], "value": values[i], **taps}
