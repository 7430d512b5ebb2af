"""Draw the wiring of a network before and after its training, side by side.

    python docs/pictures/wiring.py checkpoints/quickstart [--out docs/pictures/wiring.png]

The folder is that of a run, with `init.pt` and `last.pt`. A column is a level of the network's channel graph, in the
order of computation; its nodes stand with the best connected ones in the middle. Lines are live edges in the colour of
the level that they start from. Rings are dead nodes: no path of edges leads through them from image to output.
The background is transparent, and all colours can be read on white and on black.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from genutil.build import build_network
from genutil.config import Experiment
from genutil.model_profiling import Profile, profile
from genutil.saved import checkpoints
from models.sparse import ChannelGraph, channel_graph

COLOURS = ("#8c8c8c", "#c79a2b", "#e8872e", "#e15759", "#b07aa1", "#5b83c0", "#4fa89f", "#6aa84f")
GREY = "#8c8c8c"
POINTS = 24
"""Corners of the line that stands for a curve."""


@dataclass(frozen=True)
class Drawing:
    """A wiring in the plane.

    Attributes:
        places: float [nodes, 2] of every node of every level.
        level: int [nodes], which level each is of.
        edges: int [live edges, 2], source and target.
        live: bool [nodes].
    """

    places: NDArray[np.float64]
    level: NDArray[np.int64]
    edges: NDArray[np.int64]
    live: NDArray[np.bool_]

    @property
    def degree(self) -> NDArray[np.int64]:
        """Live edges that start or end in each node."""
        return np.bincount(self.edges.ravel(), minlength=len(self.level))


def read(path: Path) -> tuple[ChannelGraph, Profile]:
    """The channel graph of a checkpoint's network, and what the network costs."""
    experiment = Experiment.from_saved(checkpoints.read_settings(path) or {})
    network = build_network(experiment)
    checkpoints.load_weights(path, network)
    return channel_graph(network), profile(network, experiment.image_size, experiment.in_channels)


def lay_out(graph: ChannelGraph) -> Drawing:
    """Levels from left to right; in each the nodes with most live edges in the middle."""
    nodes = [level.nodes for level in graph.levels]
    first = np.cumsum([0, *nodes])
    live = np.concatenate([alive.live for alive in graph.liveness])
    edges = []
    for i, level in enumerate(graph.levels):
        if level.edges is not None:
            columns = np.concatenate([np.arange(first[source], first[source + 1]) for source in level.sources])
            edges.append(np.stack([columns[level.edges.indices], first[i] + level.edges.rows], axis=1))
    found = np.concatenate(edges)
    found = found[live[found].all(axis=1)]
    degree = np.bincount(found.ravel(), minlength=first[-1])
    places, rank = np.zeros((first[-1], 2)), np.zeros(first[-1])
    for i, count in reversed(list(enumerate(nodes))):
        beyond = np.bincount(found[:, 0], rank[found[:, 1]], first[-1]) / degree.clip(1)
        here = slice(first[i], first[i + 1])
        order = first[i] + np.lexsort((beyond[here], -degree[here]))  # ties by the places of what they feed
        rank[order] = steps = np.arange(count)
        height = np.where(steps % 2, -(steps + 1) // 2, steps // 2) + (1 - count % 2) / 2
        places[order] = np.stack([np.full(count, float(i)), height * _gap(count, max(nodes))], axis=1)
    return Drawing(places, np.repeat(np.arange(len(nodes)), nodes), found, live)


def _gap(count: int, most: int) -> float:
    """Distance of a column's nodes where the largest column is 1 high: short columns are spread out."""
    return (count / most) ** 0.35 / count


def draw(axes: Axes, drawing: Drawing) -> None:
    """Edges, then nodes."""
    source, target = drawing.places[drawing.edges[:, 0]], drawing.places[drawing.edges[:, 1]]
    bend = (target - source) * (0.5, 0)
    t = np.linspace(0, 1, POINTS)[:, None, None]
    curves = (
        (1 - t) ** 3 * source
        + 3 * (1 - t) ** 2 * t * (source + bend)
        + 3 * (1 - t) * t**2 * (target - bend)
        + t**3 * target
    )
    colours = np.array(COLOURS)[np.arange(drawing.level.max() + 1) % len(COLOURS)][drawing.level]
    lines = curves.transpose(1, 0, 2)
    few = np.bincount(drawing.level[drawing.edges[:, 1]])[drawing.level[drawing.edges[:, 1]]] < 1000
    for part, width, opacity in ((~few, 0.3, 0.2), (few, 0.35, 0.35)):
        kinds: dict[str, Any] = {"linewidths": width, "alpha": opacity, "zorder": 1}
        axes.add_collection(LineCollection(list(lines[part]), colors=colours[drawing.edges[part, 0]], **kinds))
    live, size = drawing.live, 1 + 0.12 * drawing.degree
    axes.scatter(*drawing.places[live].T, s=size[live], c=colours[live], linewidths=0, zorder=2)
    axes.scatter(*drawing.places[~live].T, s=3, facecolors="none", edgecolors=GREY, linewidths=0.4, zorder=2)
    axes.margins(0.02)
    axes.axis("off")


def label(axes: Axes, graph: ChannelGraph, drawing: Drawing, title: str) -> None:
    """What the picture shows, and how many nodes of each level are live."""
    axes.set_title(title, color=GREY, fontsize=10)
    bottom = drawing.places[:, 1].min() - 0.04
    for i, (level, alive) in enumerate(zip(graph.levels, graph.liveness, strict=True)):
        text = f"{alive.live.sum()}" + (f"\nof {level.nodes}" if not alive.live.all() else "")
        axes.text(i, bottom, text, color=GREY, fontsize=7, ha="center", va="top")


def picture(folder: Path) -> Figure:
    """Both wirings of a run's folder."""
    figure = Figure(figsize=(11, 4.4), facecolor="none")
    for axes, name, when in zip(figure.subplots(1, 2), ("init", "last"), ("before", "after"), strict=True):
        graph, costs = read(folder / f"{name}.pt")
        drawing = lay_out(graph)
        draw(axes, drawing)
        edges, live, nodes = (sum(getattr(y, key) for y in costs.wired) for key in ("live", "live_nodes", "nodes"))
        label(axes, graph, drawing, f"{when} training: {edges:,} live edges between {live} of {nodes} nodes")
    figure.subplots_adjust(0.01, 0.08, 0.99, 0.92, 0.04)
    return figure


def save(figure: Figure, path: Path, colours: int = 128) -> None:
    """A PNG with a palette, which takes a third of the room."""
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=160, facecolor="none")
    image = Image.open(buffer).quantize(colours, method=Image.Quantize.FASTOCTREE)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="of a run, with init.pt and last.pt")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("wiring.png"))
    args = parser.parse_args()
    save(picture(args.folder), args.out)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
