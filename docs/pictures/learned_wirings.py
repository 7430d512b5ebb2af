"""Draw what trained wirings look like: degrees, lengths of edges, and when their edges were found.

    python docs/pictures/learned_wirings.py [--runs FOLDER ...] [--add] [--out docs/pictures/learned_wirings.png]

With `--runs`, folders of finished runs of one network with learned and with random wirings, they are measured first and
written to `benchmarks/results/learned_wirings.json`, with `--add` beside those that are there; without, the picture is
drawn from that file. Which edges of the last wiring acted before is known at the run's snapshots and at its checkpoints
of epochs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.conditions import conditions
from docs.pictures.axes import GREY, dress
from docs.pictures.wiring import save
from genutil.errors import UserError
from genutil.run_report import open_run
from genutil.saved import snapshots
from genutil.saved.loading import load_weights
from genutil.saved.source import open_source
from genutil.training.progress import Progress
from genutil.training.timetable import Timetable
from models.wiring_graphs import wiring_graphs
from models.wirings.graph import graphs

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "learned_wirings.json"
COLOURS = {"dnw": "#0072b2", "random": "#d55e00", "rigl": "#009e73", "set": "#cc79a7"}
FEW_MOMENTS = 20
"""Up to so many are drawn as points on their line."""
MARKED = (1, 10, 80)
"""Epochs after which the share of the last wiring's edges is told, where it is known."""


def measure(folders: Sequence[Path]) -> dict[str, Any]:
    """All that the picture shows.

    Raises:
        ValueError: a run is not finished.
    """
    runs = []
    for folder in folders:
        run = open_run(folder)
        done, planned = run.progress.updates, Timetable(run.experiment, Progress(run.progress.steps_per_epoch)).steps
        if done < planned:
            raise ValueError(f"{folder} is not finished: {done:,} of {planned:,} steps")
        load_weights(open_source(folder / "last.pt"), run.network)
        graph = wiring_graphs(run.network)[""]
        degrees = np.bincount(graph.edges.ravel(), minlength=graph.nodes)
        history = [record for record in run.progress.history if "edges_swapped" in record]
        runs.append(
            {
                "wiring": run.experiment.wiring,
                "seed": run.experiment.seed,
                "epochs": run.progress.epoch,
                "nodes": graph.nodes,
                "edges": len(graph.edges),
                "degrees": np.bincount(degrees).tolist(),
                "lengths": np.bincount(graph.lengths).tolist(),
                "swapped": [record["edges_swapped"] for record in history],
                "there": shares(folder, run.network),
            }
        )
    base = open_run(folders[0]).experiment
    return {
        "settings": {key: getattr(base, key) for key in ("model", "data", "prune_rate", "num_epochs")},
        "runs": runs,
    }


def added(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured now beside what was measured before; a wiring and seed that is in both is the new one.

    Raises:
        ValueError: the two are of different networks, data, shares of edges or lengths.
    """
    if new["settings"] != old["settings"]:
        raise ValueError(f"{new['settings']} cannot stand beside {old['settings']}")
    runs = {(run["wiring"], run["seed"]): run for run in [*old["runs"], *new["runs"]]}
    return {**new, "runs": [runs[key] for key in sorted(runs)]}


def shares(folder: Path, network: nn.Module) -> list[dict[str, float]]:
    """The share of the last wiring's edges that acted after some epochs, for every moment that is kept."""
    load_weights(open_source(folder / "last.pt"), network)
    last = masks_of(network)
    total = sum(int(mask.sum()) for mask in last.values())
    found = {}
    for epoch, masks in moments(folder, network):
        common = sum(int((masks[name] & mask).sum()) for name, mask in last.items())
        found[epoch] = common / total
    return [{"epoch": epoch, "share": found[epoch]} for epoch in sorted(found)]


def moments(folder: Path, network: nn.Module) -> Iterator[tuple[float, dict[str, NDArray[np.bool_]]]]:
    """Epochs of a run with the masks of its wirings then: of its snapshots and of its checkpoints."""
    sizes = {name: graph.layout.possible for name, graph in graphs(network)}
    for snapshot in snapshots.read(folder):
        masks = {name: snapshot.mask(name, possible) for name, possible in sizes.items()}
        if all(mask is not None for mask in masks.values()):
            yield snapshot.epoch, {name: mask for name, mask in masks.items() if mask is not None}
    for path in folder.glob("epoch_*.pt"):
        load_weights(open_source(path), network)
        yield float(path.stem.removeprefix("epoch_")), masks_of(network)


def masks_of(network: nn.Module) -> dict[str, NDArray[np.bool_]]:
    """The edges that act in evaluation, by their graph's name."""
    network.eval()
    return {name: graph.acting().numpy() for name, graph in graphs(network)}


def picture(found: Mapping[str, Any]) -> Figure:
    """Four planes: degrees, lengths of edges, edges swapped an epoch, share of the last edges that were there."""
    figure = Figure(figsize=(9.5, 6.8), facecolor="none")
    degrees, lengths, swapped, there = figure.subplots(2, 2).ravel()
    named: set[str] = set()
    for run in found["runs"]:
        colour, word = COLOURS[run["wiring"]], None if run["wiring"] in named else run["wiring"]
        named.add(run["wiring"])
        count = np.array(run["degrees"], dtype=float)
        at_least = count[::-1].cumsum()[::-1] / count.sum()
        degrees.step(np.arange(len(count)), at_least, where="mid", color=colour, lw=1.2, label=word)
        count = np.array(run["lengths"], dtype=float)
        lengths.plot(np.arange(1, len(count)), count[1:] / count.sum(), "o-", ms=4, lw=1, color=colour)
        if any(run["swapped"]):
            swapped.plot(np.arange(1, len(run["swapped"]) + 1), run["swapped"], color=colour, lw=1.2)
            points = run["there"]
            form = "o-" if len(points) <= FEW_MOMENTS else "-"
            there.plot([p["epoch"] for p in points], [p["share"] for p in points], form, ms=3, lw=1.2, color=colour)
    degrees.set_xscale("symlog", linthresh=1)
    degrees.set_yscale("log")
    dress(degrees, "edges of a channel", "share of channels with so many or more")
    dress(lengths, "length of an edge, in steps of the computation", "share of edges")
    lengths.xaxis.set_major_locator(MaxNLocator(integer=True))
    swapped.set_yscale("log")
    dress(swapped, "epoch", "edges that act and did not an epoch before")
    there.set_ylim(0, 1.02)
    dress(there, "epoch", "share of the last edges that acted then")
    degrees.legend(frameon=False, fontsize=9, labelcolor=GREY)
    figure.tight_layout()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=Path, nargs="+", metavar="FOLDER", help="measure these runs first")
    parser.add_argument("--add", action="store_true", help="keep the runs that were measured before")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".png"))
    args = parser.parse_args()
    if args.runs:
        try:
            measured = measure(args.runs)
            if args.add:
                measured = added(measured, json.loads(RESULTS.read_text()))
        except (UserError, ValueError) as error:
            parser.error(str(error))
        RESULTS.write_text(json.dumps({"measured": conditions(), **measured}, indent=1) + "\n")
    found = json.loads(RESULTS.read_text())
    save(picture(found), args.out)
    print(f"written to {args.out}")
    for run in found["runs"]:
        known = {point["epoch"]: point["share"] for point in run["there"]}
        told = [f"{100 * known[epoch]:.1f} % after {epoch}" for epoch in MARKED if epoch in known]
        if told and any(run["swapped"]):
            print(f"{run['wiring']}, seed {run['seed']}: of the last edges acted {', '.join(told)} epochs")


if __name__ == "__main__":
    main()
