"""The graphs of randomly wired stages: drawn, read, written, measured and pictured.

Erdős–Rényi, Barabási–Albert and Watts–Strogatz graphs by networkx, made acyclic by directing every edge from the lower
to the higher node index (Xie, Kirillov, Girshick, He 2019, arXiv 1904.01569, section 3).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar

import networkx as nx

from models.networks.connectedness import erdos_renyi

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Edge = tuple[int, int]

DRAWS = 10_000
"""Seeds tried for one stage before its graph is called impossible to connect."""

EDGES_DRAWN = 5_000_000
"""Edges (of ER: pairs of nodes) looked at before the same is said of a large graph, but at least 20 draws."""

FORMATS = ("adjlist", "edgelist", "graphml")


@dataclass(frozen=True)
class StageGraph:
    """A connected acyclic graph over the nodes 0..nodes-1, edges sorted, with the generator and seed that made it.

    Raises ValueError, in a sentence, where the edges are not such a graph.
    """

    nodes: int
    edges: tuple[Edge, ...]
    name: str = ""
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ValueError("the graph is empty: it has no nodes")
        object.__setattr__(self, "edges", tuple(sorted({(int(u), int(v)) for u, v in self.edges})))
        for edge in self.edges:
            if not all(0 <= node < self.nodes for node in edge):
                raise ValueError(f"edge {edge[0]} -> {edge[1]} leaves the nodes 0..{self.nodes - 1}")
        graph = self.to_networkx()
        if not nx.is_directed_acyclic_graph(graph):
            cycle = [u for u, _ in nx.find_cycle(graph)]
            raise ValueError(f"the graph has a cycle: {_shortened(' -> '.join(map(str, [*cycle, cycle[0]])))}")
        parts = nx.number_weakly_connected_components(graph)
        if parts > 1:
            raise ValueError(f"the graph is disconnected: it falls into {parts} parts")

    def to_networkx(self) -> nx.DiGraph:
        """The same graph as a networkx object; name and seed become graph attributes."""
        graph = nx.DiGraph(name=self.name) if self.seed is None else nx.DiGraph(name=self.name, seed=self.seed)
        graph.add_nodes_from(range(self.nodes))
        graph.add_edges_from(self.edges)
        return graph

    @cached_property
    def levels(self) -> tuple[tuple[int, ...], ...]:
        """Nodes that can run together: a node's level is the length of the longest path that leads to it."""
        return tuple(tuple(sorted(level)) for level in nx.topological_generations(self.to_networkx()))

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """Nodes without predecessors: they take the stage's input."""
        fed = {v for _, v in self.edges}
        return tuple(node for node in range(self.nodes) if node not in fed)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """Nodes without successors: they make the stage's output."""
        feeding = {u for u, _ in self.edges}
        return tuple(node for node in range(self.nodes) if node not in feeding)

    @cached_property
    def closure(self) -> tuple[Edge, ...]:
        """Every pair (ancestor, node), sorted."""
        return tuple(sorted(nx.transitive_closure_dag(self.to_networkx()).edges))


T = TypeVar("T")


class _Draws(random.Random):
    """Python promises the same random() in every version; choice, which networkx calls too, is built on it here."""

    def choice(self, seq: Sequence[T]) -> T:  # type: ignore[override]
        return seq[int(self.random() * len(seq))]


def _whole(value: float, what: str, low: int, high: int | None = None) -> int:
    fits = float(value).is_integer() and value >= low and (high is None or value <= high)
    if not fits:
        bound = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{what} must be a whole number {bound}, not {value:g}.")
    return int(value)


def _probability(value: float, what: str) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{what} must be from 0 to 1, not {value:g}.")
    return float(value)


def _er(nodes: int, p: float) -> Callable[[random.Random], nx.Graph]:
    p = _probability(p, "p of an ER graph")
    if p == 0 and nodes > 1:
        raise ValueError(f"ER({nodes}, 0) has no edges, so it is never connected.")
    return lambda draws: nx.gnp_random_graph(nodes, p, seed=draws)


def _ba(nodes: int, m: float) -> Callable[[random.Random], nx.Graph]:
    if nodes < 2:
        raise ValueError("A BA graph needs at least 2 nodes.")
    m = _whole(m, f"m of a BA graph of {nodes} nodes", 1, nodes - 1)
    return lambda draws: nx.barabasi_albert_graph(nodes, m, seed=draws)


def _ws(nodes: int, k: float, p: float) -> Callable[[random.Random], nx.Graph]:
    p = _probability(p, "p of a WS graph")
    if nodes < 3:
        raise ValueError("A WS graph needs at least 3 nodes.")
    k = _whole(k, f"k of a WS graph of {nodes} nodes", 2, nodes - 1)
    return lambda draws: nx.watts_strogatz_graph(nodes, k, p, seed=draws)


GENERATORS: dict[str, tuple[Callable[..., Callable[[random.Random], nx.Graph]], str]] = {
    "er": (_er, "nodes, p"),
    "ba": (_ba, "nodes, m"),
    "ws": (_ws, "nodes, k, p"),
}


def draw(model: str, parameters: Sequence[float], seed: int) -> StageGraph:
    """A connected graph of `model` (er, ba or ws), drawn with `seed` or the first higher seed that connects it.

    `parameters` are the number of nodes, then p (er), m (ba) or k and p (ws). The graph keeps the seed that served.
    Raises ValueError where the parameters are impossible, or too unlikely to give a connected graph.
    """
    if model not in GENERATORS:
        raise ValueError(f"There is no graph model {model!r}; there are {', '.join(GENERATORS)} and complete.")
    generator, names = GENERATORS[model]
    if len(parameters) != len(names.split(", ")):
        raise ValueError(f"Graph model {model} takes {names}, not {len(parameters)} parameters.")
    nodes = _whole(parameters[0], "The number of nodes", 1)
    make = generator(nodes, *parameters[1:])
    name = f"{model.upper()}({', '.join(f'{value:g}' for value in parameters)})"
    draws = _draws(model, nodes, parameters)
    likely = erdos_renyi(nodes, float(parameters[1])) if model == "er" else 1.0
    if likely * draws < 0.001:
        raise ValueError(f"{name} is almost never connected; choose parameters that give more edges.")
    for served in range(seed, seed + draws):
        graph = make(_Draws(served))
        if nx.is_connected(graph):
            return StageGraph(nodes, tuple((min(e), max(e)) for e in graph.edges), name, served)
    raise ValueError(f"{name} was not connected in any of {draws} draws; choose parameters that give more edges.")


def _draws(model: str, nodes: int, parameters: Sequence[float]) -> int:
    """How many seeds are tried: seconds' worth."""
    edges = nodes * (nodes - 1) / 2 if model == "er" else nodes * parameters[1]
    return int(min(DRAWS, max(20, EDGES_DRAWN // max(edges, 1))))


def stage_seed(seed: int, stage: int) -> int:
    """Where the draws of stage 0, 1, … of an experiment begin, far enough apart that no two stages share a seed."""
    return (seed * 100 + stage) * DRAWS


def complete(nodes: int, inputs: int = 1, outputs: int = 1) -> StageGraph:
    """Every edge from a lower to a higher node, but none among the first `inputs` or among the last `outputs` nodes."""
    if inputs < 1 or outputs < 1 or inputs + outputs > max(nodes, 2) or nodes < 1:
        raise ValueError(f"A complete graph of {nodes} nodes cannot have {inputs} input and {outputs} output nodes.")
    edges = [(u, v) for v in range(nodes) for u in range(v) if v >= inputs and (u < nodes - outputs or nodes == 1)]
    return StageGraph(nodes, tuple(edges), f"complete({nodes}, {inputs}, {outputs})")


def draw_stages(model: str, parameters: Sequence[float], seed: int, halved: Sequence[bool]) -> tuple[StageGraph, ...]:
    """One graph a stage, each from its own seed; a halved stage has half the nodes (the paper's first regular stage).

    `model` may also be `complete`, with the parameters of `complete`.
    """
    graphs = []
    for stage, half in enumerate(halved):
        nodes = max(1, int(parameters[0]) // 2) if half and parameters else None
        own = parameters if nodes is None else (nodes, *parameters[1:])
        if model == "complete":
            if not 1 <= len(own) <= 3:
                raise ValueError(f"Graph model complete takes nodes, inputs, outputs, not {len(own)} parameters.")
            graphs.append(complete(*(_whole(value, "A parameter of a complete graph", 1) for value in own)))
        else:
            graphs.append(draw(model, own, stage_seed(seed, stage)))
    return tuple(graphs)


def to_text(graph: StageGraph, form: str = "adjlist") -> str:
    """The graph as `adjlist` (networkx's adjacency list), `edgelist` or `graphml`; name and seed are kept."""
    if form == "graphml":
        return "\n".join(nx.generate_graphml(graph.to_networkx())) + "\n"
    if form == "adjlist":
        body = nx.generate_adjlist(graph.to_networkx())
    elif form == "edgelist":
        body = [f"{u} {v}" for u, v in graph.edges] or ["0"]
    else:
        raise ValueError(f"There is no graph format {form!r}; there are {', '.join(FORMATS)}.")
    head = [f"# name: {graph.name}"] if graph.name else []
    head += [] if graph.seed is None else [f"# seed: {graph.seed}"]
    return "\n".join([*head, *body]) + "\n"


def from_text(text: str, form: str = "adjlist", source: str = "the graph") -> StageGraph:
    """The graph that `text` holds in one of FORMATS; edges run as written, upwards if GraphML calls them undirected.

    Raises ValueError, beginning with `source`, where it is unreadable, empty, cyclic, disconnected, or its nodes are
    not numbered 0, 1, 2, … without a gap.
    """
    if form not in FORMATS:
        raise ValueError(f"There is no graph format {form!r}; there are {', '.join(FORMATS)}.")
    try:
        return _from_graphml(text) if form == "graphml" else _from_lines(text.splitlines(), form)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _from_lines(lines: Sequence[str], form: str) -> StageGraph:
    if lines and lines[0].startswith("!!python/object"):
        raise ValueError(
            "this is networkx's old YAML, which is not read: load it with the networkx that wrote it, and write it "
            "anew with networkx.write_adjlist"
        )
    notes = dict(line[1:].split(":", 1) for line in lines if line.startswith("#") and ":" in line)
    notes = {key.strip(): value.strip() for key, value in notes.items()}
    rows = [line.split("#")[0].split() for line in lines]
    found: list[list[int]] = []
    for number, row in enumerate(rows, start=1):
        # networkx writes an edge's data, as a rule {}, behind its two nodes
        row = row[:2] if form == "edgelist" else row
        try:
            numbers = [int(word) for word in row]
        except ValueError:
            raise ValueError(f"line {number} holds {_shortened(' '.join(row))!r}, not whole numbers") from None
        found.append(numbers)
    if counted := _counted(found):
        nodes, edges = counted
    else:
        nodes = {node for numbers in found for node in numbers}
        edges = [(numbers[0], node) for numbers in found for node in numbers[1:]]
    seed = notes.get("seed", "")
    return _numbered(nodes, edges, notes.get("name", ""), int(seed) if seed.isdecimal() else None)


def _counted(rows: Sequence[Sequence[int]]) -> tuple[set[int], list[Edge]] | None:
    """Nodes and edges of a file that begins with a line of the number of nodes and one of the number of edges.

    So the files of github.com/seungwonpark/RandWireNN do. None for any other: as an adjacency list these would hold a
    node that no edge leads to.
    """
    rows = [row for row in rows if row]
    if [len(row) for row in rows[:2]] != [1, 1]:
        return None
    (count,), (total,), *pairs = rows
    if total != len(pairs) or any(len(pair) != 2 or not max(pair) < count for pair in pairs):
        return None
    if count > total + 1:
        raise ValueError(f"the graph is disconnected: it has {count} nodes and {total} edges")
    return set(range(count)), [(pair[0], pair[1]) for pair in pairs]


def _shortened(text: str) -> str:
    """A text that a sentence can quote: of a long one the beginning."""
    return text if len(text) <= 80 else f"{text[:77]}..."


def _from_graphml(text: str) -> StageGraph:
    from xml.etree.ElementTree import ParseError

    try:
        graph = nx.parse_graphml(text, node_type=int)
    except (ParseError, nx.NetworkXError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"this is no GraphML with whole numbers as nodes ({_shortened(str(error))})") from error
    edges = list(graph.edges()) if graph.is_directed() else [(min(e), max(e)) for e in graph.edges()]
    return _numbered(set(graph.nodes), edges, graph.graph.get("name", ""), graph.graph.get("seed"))


def _numbered(nodes: set[int], edges: Iterable[Edge], name: str, seed: int | None) -> StageGraph:
    if not nodes:
        raise ValueError("the graph is empty: it has no nodes")
    if nodes != set(range(len(nodes))):
        missing = min(set(range(len(nodes))) - nodes)
        raise ValueError(f"its {len(nodes)} nodes are not numbered 0..{len(nodes) - 1}: there is no node {missing}")
    return StageGraph(len(nodes), tuple(edges), name, seed)


def to_files(graphs: Sequence[StageGraph]) -> dict[str, str]:
    """The graphs of a network's stages as adjacency lists (`to_text`), by the names of their files: dag_0.txt, ...."""
    return {f"dag_{stage}.txt": to_text(graph) for stage, graph in enumerate(graphs)}


def statistics(graph: StageGraph) -> dict[str, float]:
    """Degrees, path length, diameter, clustering of the undirected graph; depth of the directed one, in nodes."""
    plain = graph.to_networkx().to_undirected()
    degrees = [degree for _, degree in plain.degree]
    return {
        "nodes": graph.nodes,
        "edges": len(graph.edges),
        "inputs": len(graph.inputs),
        "outputs": len(graph.outputs),
        "degree_mean": fmean(degrees),
        "degree_min": min(degrees),
        "degree_max": max(degrees),
        "path_length": nx.average_shortest_path_length(plain) if graph.nodes > 1 else 0.0,
        "diameter": nx.diameter(plain),
        "clustering": nx.average_clustering(plain),
        "depth": len(graph.levels),
    }


def ring_lattice_k(graph: StageGraph) -> int | None:
    """k, if the undirected graph is the ring lattice WS(nodes, k, 0), in whatever numbering; else None.

    A complete graph is none: rewiring has no other place for its edges.
    """
    plain = graph.to_networkx().to_undirected()
    k = 2 * len(graph.edges) // graph.nodes
    if k < 2 or k % 2 or k >= graph.nodes - 1 or any(degree != k for _, degree in plain.degree):
        return None
    ring = nx.circulant_graph(graph.nodes, list(range(1, k // 2 + 1)))
    same = nx.faster_could_be_isomorphic(plain, ring) and nx.is_isomorphic(plain, ring)
    return k if same else None


def notice(graph: StageGraph) -> str | None:
    """A sentence where the graph is a ring lattice that was never rewired, whatever it is called."""
    k = ring_lattice_k(graph)
    if k is None:
        return None
    return f"{graph.name or 'this graph'} is the ring lattice WS({graph.nodes}, {k}, 0): no edge was ever rewired."


def picture(graphs: Sequence[StageGraph]) -> Figure:
    """The graphs side by side, a level a row, from the stage's input (top) to its output; save it as PNG or SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(graphs), 7), layout="constrained")
    for axes, graph in zip(figure.subplots(1, len(graphs), squeeze=False)[0], graphs, strict=True):
        _draw_axes(axes, graph)
    return figure


def _draw_axes(axes: Axes, graph: StageGraph) -> None:
    place = {
        node: ((column + 0.5) / len(level), -depth)
        for depth, level in enumerate(graph.levels)
        for column, node in enumerate(level)
    }
    colours = ["tab:green" if v in graph.inputs else "tab:red" if v in graph.outputs else "tab:blue" for v in place]
    nx.draw_networkx(
        graph.to_networkx(),
        place,
        ax=axes,
        nodelist=list(place),
        node_color=colours,
        node_size=160,
        font_size=7,
        font_color="white",
        arrowsize=7,
        width=0.7,
        edge_color="grey",
        connectionstyle="arc3,rad=0.12",
    )
    axes.set_title(f"{graph.name} seed {graph.seed}" if graph.seed is not None else graph.name, fontsize=9)
    axes.axis("off")
