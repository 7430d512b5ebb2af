"""What a network costs: parameters and multiply-adds, and of wired parts the edges and nodes that are alive.

Two counts of a MobileNetV1-like network stand side by side. The count of 2019 is the one that published tables of
Discovering Neural Wirings use: the edge budget as a real number, nodes that lack an output edge in their own stage
left out, neither biases nor norms. The live count is read off the channel graph: edges and nodes that lie on a path
from the image to the logits, as integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.inspection import Call, evaluating, recorded_calls
from models.protocols import HasCountOf2019
from models.sparse import ChannelGraph, channel_graphs
from models.sparse.graph import Level, Size
from models.wirings.rules import Graph, LayerGraph, Wiring, graphs

_COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@dataclass(frozen=True)
class Layer:
    """A layer, or a wired stage. Parameters and multiply-adds (of one image) without biases and norms."""

    name: str
    parameters: int
    multiply_adds: int
    output: str = ""


@dataclass(frozen=True)
class WiredLayer(Layer):
    """A wired stage: parameters and multiply-adds of its live edges and nodes.

    Attributes:
        possible, kept, acting, live: edges that can act; that the wiring may keep; that are not zero; that lie on
            a path from the image to the logits.
        nodes, live_nodes: nodes that the edges start from, and those of them that live.
        with_output, with_input: nodes with an edge that starts, or ends, in them in the stage's own graph.
    """

    possible: int = 0
    kept: int = 0
    acting: int = 0
    live: int = 0
    nodes: int = 0
    live_nodes: int = 0
    with_output: int = 0
    with_input: int = 0


@dataclass(frozen=True)
class Profile:
    """The cost of a network for one image.

    Attributes:
        parameters: by the count of 2019 where the network has one; else all trainable ones, of wired layers the
            acting edges.
        multiply_adds: by the count of 2019, or those of every conv and linear layer, of wired ones the live edges.
        live_parameters, live_multiply_adds: of live edges and nodes, without biases and norms.
        count: "2019" or "exact", what `parameters` and `multiply_adds` follow.
        image_size: height and width of the image in pixels.
    """

    image_size: int
    count: str
    parameters: int
    multiply_adds: int
    live_parameters: int
    live_multiply_adds: int
    layers: list[Layer] = field(default_factory=list)

    @property
    def wired(self) -> list[WiredLayer]:
        return [layer for layer in self.layers if isinstance(layer, WiredLayer)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with the sums over wired layers under `edges` and `nodes`."""
        result = asdict(self)
        if self.wired:
            keys = ("possible", "kept", "acting", "live")
            result["edges"] = {key: sum(getattr(layer, key) for layer in self.wired) for key in keys}
            result["nodes"] = {key: sum(getattr(layer, key) for layer in self.wired) for key in ("nodes", "live_nodes")}
        return result

    def __str__(self) -> str:
        """A table with a line a layer or stage."""
        heads = ["layer", "output", "parameters", "multiply-adds"]
        rows = [[y.name, y.output, f"{y.parameters:,}", f"{y.multiply_adds:,}"] for y in self.layers]
        if self.wired:
            heads += ["possible", "kept", "acting", "live edges", "live nodes"]
            for row, layer in zip(rows, self.layers, strict=True):
                if isinstance(layer, WiredLayer):
                    row += [f"{n:,}" for n in (layer.possible, layer.kept, layer.acting, layer.live)]
                    row.append(f"{layer.live_nodes:,} of {layer.nodes:,}")
                else:
                    row += [""] * 5
        live = ["live" if self.wired else "sum", "", f"{self.live_parameters:,}", f"{self.live_multiply_adds:,}"]
        rows.append(live + [""] * (len(heads) - len(live)))
        counted = "as counted in 2019" if self.count == "2019" else "biases and norms included"
        total = f"{self.parameters:,} parameters ({counted}), {self.multiply_adds:,} multiply-adds"
        return f"{_table(heads, rows)}\n{total} for an image of {self.image_size}x{self.image_size} pixels"


def profile(network: nn.Module, image_size: int, in_channels: int = 3) -> Profile:
    """Count a network's parameters and multiply-adds for one image of in_channels x image_size x image_size.

    The network is run once on noise, in evaluation mode, and left as it was.

    Raises:
        ValueError: the image is too small for the network.
    """
    parts = channel_graphs(network)
    if "" in parts:
        layers = list(_stages(parts[""], image_size, dict(graphs(network))))
    else:
        like = next(network.parameters(), torch.empty(0))
        images = torch.randn(1, in_channels, image_size, image_size).to(like)
        layers = list(_parts(network, parts, images))
    live = sum(layer.parameters for layer in layers), sum(layer.multiply_adds for layer in layers)
    if isinstance(network, HasCountOf2019):
        with evaluating(network):
            return Profile(image_size, "2019", *network.count_2019(image_size), *live, layers)
    return Profile(image_size, "exact", acting_parameters(network), live[1], *live, layers)


def acting_parameters(network: nn.Module) -> int:
    """All trainable parameters, of wired weights those that act."""
    total = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return total - sum(int((~wiring.acting(weight)).count_nonzero()) for weight, wiring in _wired_weights(network))


def live_nodes(network: nn.Module, parts: Mapping[str, ChannelGraph] | None = None) -> int | None:
    """Nodes of a wired network on a path from the image to the logits; None where its nodes are no channels.

    Args:
        parts: its channel graphs, where they have been made.
    """
    graphs = (channel_graphs(network) if parts is None else parts).values()
    if not any(graph.kept for graph in graphs):
        return None
    total = 0
    for graph in graphs:
        for stage in graph.kept:
            sources = _sources(graph, [level for level in graph.levels if level.stage == stage])
            total += int((sources.live & sources.nodes).sum())
    return total


def _wired_weights(network: nn.Module) -> Iterator[tuple[Tensor, Wiring]]:
    """Every weight that goes through a wiring, with the wiring, in evaluation mode."""
    with evaluating(network):
        for _, graph in graphs(network):
            yield graph.weight, graph.wiring


def _stages(graph: ChannelGraph, image_size: int, wirings: Mapping[str, Graph | LayerGraph]) -> Iterator[Layer]:
    """The rows of a network that is a channel graph as a whole: levels whose edges belong to one module are one row."""
    sizes = graph.sizes((image_size, image_size))
    for name in dict.fromkeys(level.stage for level in graph.levels if level.sources):
        members = [i for i, level in enumerate(graph.levels) if level.stage == name]
        height, width = sizes[members[-1]][0]
        nodes = len(np.unique(np.concatenate([graph.levels[i].channels for i in members])))
        wired = [wirings[name]] if name in wirings else []
        yield _row(name, f"{nodes} x {height} x {width}", graph, sizes, members, wired)


def _parts(network: nn.Module, parts: Mapping[str, ChannelGraph], images: Tensor) -> Iterator[Layer]:
    """The rows of a network that is dense, or wired in parts: a row a conv or linear layer, or a wired part."""
    wirings = dict(graphs(network))
    for name, module, calls in _run(network, parts, images):
        output = " x ".join(map(str, calls[-1].result))
        if name in parts:
            graph = parts[name]
            members = [
                i
                for i, level in enumerate(graph.levels)
                if level.stage in (graph.kept or [level.stage]) and level.sources
            ]
            wired = [wired for path, wired in wirings.items() if path.startswith(f"{name}.")]
            row = _row(name, output, graph, graph.sizes(calls[-1].given[1:] or (1, 1)), members, wired)
            yield replace(row, multiply_adds=row.multiply_adds * len(calls))
        else:
            assert isinstance(module.weight, Tensor)
            edges = module.weight.numel()
            yield Layer(name, edges, edges * sum(math.prod(call.result[1:]) for call in calls), output)


def _row(
    name: str,
    output: str,
    graph: ChannelGraph,
    sizes: Sequence[tuple[Size, Size]],
    members: Sequence[int],
    wired: Sequence[Graph | LayerGraph],
) -> Layer:
    """The row of some levels: their edges, and the operations of the nodes that these start from.

    Levels may repeat edges: at another time of a network with shared weights, or for a node that is read both
    by a later block and at the end. An edge is one parameter; its product with a plane is made once.
    """
    levels = [graph.levels[i] for i in members]
    given = sorted({source for level in levels for source in level.sources})
    sources = _sources(graph, levels)
    edge_costs, product_costs = _live_edges(graph, members, sources.nodes, sizes)
    parameters = int(edge_costs.sum() + sources.kernels[sources.live].sum())
    multiply_adds = int(product_costs.sum()) + sum(_operations(graph, source, sizes[source]) for source in given)
    if not wired:
        return Layer(name, parameters, multiply_adds, output)
    return WiredLayer(
        name,
        parameters,
        multiply_adds,
        output,
        possible=sum(graph.layout.possible for graph in wired),
        kept=sum(graph.wiring.kept for graph in wired),
        acting=sum(int(graph.matrix().count_nonzero()) for graph in wired),
        live=len(edge_costs),
        nodes=int(sources.nodes.sum()),
        live_nodes=int((sources.live & sources.nodes).sum()),
        with_output=int((sources.with_output & sources.nodes).sum()),
        with_input=sum(int(graph.matrix().any(dim=1).sum()) for graph in wired),
    )


@dataclass(frozen=True)
class _Sources:
    """What the edges of some levels start from, all [columns].

    Attributes:
        nodes: nodes of the graph; not so a source without the kernel that the others have, which hands on a state.
        live, with_output: on a path from the image to the logits; with an edge.
        kernels: taps of the depthwise kernel.
    """

    nodes: NDArray[np.bool_]
    live: NDArray[np.bool_]
    with_output: NDArray[np.bool_]
    kernels: NDArray[np.int64]


def _sources(graph: ChannelGraph, levels: Sequence[Level]) -> _Sources:
    """The sources of levels of one stage, whose columns are those of the widest or the first of them."""
    width = max(level.incoming.columns for level in levels)
    live, with_output = np.zeros(width, bool), np.zeros(width, bool)
    kernels = np.zeros(width, np.int64)
    for level in levels:
        parts = [(graph.liveness[source].live, _kernel(graph.levels[source])) for source in level.sources]
        live[: level.incoming.columns] |= np.concatenate([alive for alive, _ in parts])
        kernels[: level.incoming.columns] = np.concatenate([np.full(len(alive), taps) for alive, taps in parts])
        with_output[level.incoming.indices] = True
    nodes = kernels > 0 if kernels.any() else np.ones(width, bool)
    return _Sources(nodes, live, with_output, kernels)


def _live_edges(
    graph: ChannelGraph, members: Sequence[int], nodes: NDArray[np.bool_], sizes: Sequence[tuple[Size, Size]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Taps of each live edge between `nodes`, and multiply-adds of each product that is made with it."""
    edges, products, costs = [], [], []
    for i in members:
        level = graph.levels[i]
        alive = np.concatenate([graph.liveness[source].live for source in level.sources])
        origin = np.concatenate([np.full(graph.levels[source].nodes, source) for source in level.sources])
        acting = graph.liveness[i].live[level.incoming.rows] & (alive & nodes[: len(alive)])[level.incoming.indices]
        taps = np.count_nonzero(level.incoming.weight[acting], axis=(1, 2))
        row, column = level.channels[level.incoming.rows[acting]], level.incoming.indices[acting]
        edges.append(row * len(nodes) + column)
        products.append(edges[-1] * len(graph.levels) + origin[column])
        costs.append((taps, taps * math.prod(sizes[i][0])))
    taps, taps_by_positions = (np.concatenate(column) for column in zip(*costs, strict=True))
    edge = np.unique(np.concatenate(edges), return_index=True)[1]
    product = np.unique(np.concatenate(products), return_index=True)[1]
    return taps[edge], taps_by_positions[product]


def _kernel(level: Level) -> int:
    """Taps of the depthwise kernel of each node of a level."""
    return 0 if level.depthwise is None else level.depthwise.kernel[0].size


def _operations(graph: ChannelGraph, index: int, sizes: tuple[Size, Size]) -> int:
    """Multiply-adds of a level's live nodes after their sums: depthwise conv and mean."""
    level, live = graph.levels[index], int(graph.liveness[index].live.sum())
    height, width = sizes[0]
    total = 0
    if level.depthwise is not None:
        height, width = replace(level, mean=False).plane_size(sizes[0])
        total += _kernel(level) * live * height * width
    if level.mean:
        top, bottom, left, right = level.window or (0, height, 0, width)
        total += live * (bottom - top) * (right - left)
    return total


def _run(
    network: nn.Module, parts: Mapping[str, ChannelGraph], images: Tensor
) -> Iterator[tuple[str, nn.Module, list[Call]]]:
    """Run the network once; then each wired part, and each other conv and linear layer, with its calls.

    A call holds the shapes, without the batch, of what goes in and what comes out.
    """

    def counted(name: str, module: nn.Module) -> bool:
        inside = any(name.startswith(f"{part}.") for part in parts)
        return name in parts or (isinstance(module, _COUNTED) and not inside)

    modules = {name: module for name, module in network.named_modules() if counted(name, module)}
    with evaluating(network), recorded_calls(network, modules, keep=lambda tensor: tuple(tensor.shape[1:])) as calls:
        network(images.to(next(network.parameters())))
    for name, module in modules.items():
        if name in calls:
            yield name, module, calls[name]


def _table(heads: list[str], rows: list[list[str]]) -> str:
    """Columns as wide as their widest entry, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for row in (heads, ["-" * width for width in widths], *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
