"""Draw where learned wirings lie among random ones: clustering over path length.

    python docs/pictures/small_world.py [--runs checkpoints/dnw-seed_0 ...] [--out docs/pictures/small_world.png]

With `--runs`, folders of finished runs of one static classifier, their wirings are measured first, at every checkpoint
that is kept, and written to `benchmarks/results/small_world.json`, beside those of other classifiers; without, the
picture is drawn from that file, a plane for each classifier. Beside them stand random wirings of the same network with
as many edges, drawn as the rule `random` draws them, and the wirings of the runs with their edges exchanged at random,
so that every node keeps its number of edges from and to every level.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.conditions import conditions
from docs.pictures.axes import GREY, dress
from docs.pictures.wiring import save
from genutil.build import build_network
from genutil.config import Experiment
from genutil.run_report import open_run
from genutil.saved.loading import load_weights
from genutil.saved.source import open_source
from models.measures import measures
from models.wiring_graphs import WiringGraph, wiring_graphs
from models.wirings.graph import graphs

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "small_world.json"
DRAWS, EXCHANGES = 100, 10
RULES = {"dnw": ("o", "#0072b2"), "rigl": ("^", "#009e73"), "set": ("v", "#cc79a7"), "random": ("x", "#d55e00")}
"""Marker and colour of each rule."""


def measured(graph: WiringGraph) -> dict[str, float]:
    found = measures(graph)
    return {"path_length": found.path_length, "clustering": found.clustering, "edges": found.edges}


def measure(folders: Sequence[Path]) -> dict[str, Any]:
    """All that the picture shows."""
    runs, exchanged = [], []
    for folder in folders:
        run = open_run(folder)
        points = []
        for path in sorted(folder.glob("epoch_*.pt"), key=lambda path: (len(path.name), path.name)):
            load_weights(open_source(path), run.network)
            points.append({"epoch": int(path.stem.removeprefix("epoch_")), **_wiring(run.network)})
        load_weights(open_source(folder / "init.pt"), run.network)
        first = {"epoch": 0, **_wiring(run.network)}
        load_weights(open_source(folder / "last.pt"), run.network)
        last = {"epoch": run.progress.epoch, **_wiring(run.network)}
        points = [first, *(point for point in points if point["epoch"] < last["epoch"]), last]
        runs.append({"wiring": run.experiment.wiring, "seed": run.experiment.seed, "points": points})
        if run.experiment.wiring not in ("random", "set"):
            for draw in range(EXCHANGES):
                graph = exchange(run.network, np.random.default_rng(draw))
                exchanged.append({"wiring": run.experiment.wiring, "seed": run.experiment.seed, **measured(graph)})
    base = open_run(folders[0]).experiment
    drawn = [_drawn(base, seed) for seed in range(1000, 1000 + DRAWS)]
    kept = ("model", "data", "image_size", "prune_rate", "num_epochs")
    return {"settings": {key: getattr(base, key) for key in kept}, "runs": runs, "drawn": drawn, "exchanged": exchanged}


def _wiring(network: nn.Module) -> dict[str, float]:
    return measured(wiring_graphs(network)[""])


def _drawn(experiment: Experiment, seed: int) -> dict[str, float]:
    return _wiring(build_network(experiment.but(wiring="random", seed=seed)))


def exchange(network: nn.Module, draws: np.random.Generator) -> WiringGraph:
    """The live wiring with the ends of its edges exchanged at random among those between the same two levels."""
    graph = wiring_graphs(network)[""]
    ((_, wired),) = graphs(network)
    blocks = wired.layout.blocks
    bounds = sorted({side for block in blocks for side in (block.row0, block.row1, block.column0, block.column1)})
    level = np.searchsorted(bounds, graph.edges, side="right")
    edges = graph.edges.copy()
    for pair in np.unique(level, axis=0):
        among = np.flatnonzero((level == pair).all(axis=1))
        edges[among, 1] = _exchanged(edges[among], draws)
    return WiringGraph(graph.nodes, edges, graph.lengths, graph.depth)


def _exchanged(edges: NDArray[np.int64], draws: np.random.Generator) -> NDArray[np.int64]:
    """The ends in another order, by exchanges of two that leave no edge twice."""
    start, end = edges[:, 0].tolist(), edges[:, 1].tolist()
    there = set(zip(start, end, strict=True))
    for i, j in draws.integers(0, len(end), (10 * len(end), 2)).tolist():
        new = (start[i], end[j]), (start[j], end[i])
        if new[0] not in there and new[1] not in there:
            there -= {(start[i], end[i]), (start[j], end[j])}
            there |= set(new)
            end[i], end[j] = end[j], end[i]
    return np.array(end)


def picture(networks: Sequence[Mapping[str, Any]]) -> Figure:
    """A plane for each network; lines are trainings, from their first wiring to their last."""
    figure = Figure(figsize=(5.2 * len(networks), 4.8), facecolor="none")
    for axes, found in zip(np.atleast_1d(figure.subplots(1, len(networks))), networks, strict=True):
        _draw(axes, found)
    figure.tight_layout()
    return figure


def _draw(axes: Axes, found: Mapping[str, Any]) -> None:
    settings, edges = found["settings"], found["runs"][0]["points"][-1]["edges"]
    title = f"{settings['data']}, {settings['num_epochs']} epochs, {edges:,} live edges"
    axes.set_title(title, color=GREY, fontsize=10)
    axes.scatter(*_columns(found["drawn"]), s=14, marker="x", color=GREY, label=f"{len(found['drawn'])} random draws")
    label = "ends of the learned edges exchanged"
    axes.scatter(*_columns(found["exchanged"]), s=26, marker="s", facecolors="none", edgecolors=GREY, label=label)
    named = set()
    for run in found["runs"]:
        marker, colour = RULES[run["wiring"]]
        x, y = _columns(run["points"])
        axes.plot(x, y, "-", lw=1, color=colour, alpha=0.7)
        axes.plot(x[1:-1], y[1:-1], ".", ms=4, color=colour)
        name = None if run["wiring"] in named else f"{run['wiring']}, trained"
        named.add(run["wiring"])
        axes.plot(x[-1], y[-1], marker, ms=9, mew=2, color=colour, label=name, ls="none")
    dress(axes, "path length", "clustering")
    axes.legend(frameon=False, fontsize=8, labelcolor=GREY)


def kept_beside(new: Mapping[str, Any], path: Path) -> list[Mapping[str, Any]]:
    """The networks of a results file with a new one, which takes the place of one with the same settings."""
    known = json.loads(path.read_text())["networks"] if path.exists() else []
    return [*(found for found in known if found["settings"] != new["settings"]), new]


def _columns(points: Sequence[Mapping[str, float]]) -> tuple[list[float], list[float]]:
    return [point["path_length"] for point in points], [point["clustering"] for point in points]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, nargs="+", metavar="FOLDER", help="measure these runs first")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".png"))
    args = parser.parse_args()
    if args.runs:
        measured = conditions()
        networks = kept_beside({"measured": measured, **measure(args.runs)}, RESULTS)
        RESULTS.write_text(json.dumps({"measured": measured, "networks": networks}, indent=1) + "\n")
    save(picture(json.loads(RESULTS.read_text())["networks"]), args.out)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
