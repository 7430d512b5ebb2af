"""The table of trainings beside published figures, from the files in results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.results_tables import spread, table
from genutil.cli import command_line
from genutil.cli.command_line import CommandLine
from genutil.errors import UserError
from genutil.reports.results import differences
from pretrained import trained as trained_here

if TYPE_CHECKING:
    from benchmarks.results_page import Figures

LENGTH = ("num_epochs", "num_steps")
LEARNED_AND_RANDOM = ("small_scale/static_dnw", "small_scale/static_random_graph")
"""The first claim of Discovering Neural Wirings."""
SHOWN_EPOCHS = (1, 4, 10, 40, 80, 120, 160)
"""Of a curve, where it is shown as a row."""
MOBILENETS = "medium_scale/"
MOBILENET_EPOCHS = (1, 10, 20, 30, 40)
"""Of the shortened trainings of MobileNet-like networks on CIFAR-10."""
ASKED_EPOCHS = (1, 10, 80)
"""After which the share of the last edges is shown where a run knows it, though others may not."""
CHOSEN_ON_TEST = "†"
"""Marks a figure whose epoch was chosen on the test images."""


@dataclass(frozen=True)
class Published:
    """A published figure.

    Attributes:
        top1, spread: in percent; the standard deviation over seeds, where it is published.
        epochs, steps: of the published training; both None where that is not known.
        chosen_on: "test" where the figure is that of the epoch that was best on the test images.
        source: paper and table.
    """

    experiment: str
    top1: float
    source: str
    spread: float | None = None
    epochs: int | None = None
    steps: int | None = None
    chosen_on: str | None = None
    headline: bool = False

    def __str__(self) -> str:
        mark = CHOSEN_ON_TEST if self.chosen_on == "test" else ""
        return f"{self.top1}{'' if self.spread is None else f' ± {self.spread}'}{mark}"


@dataclass(frozen=True)
class Kind:
    """What trainings have in common that stand in one row: experiment, length, and what differs from the app file.

    Their length is in epochs, or where `steps` says so in steps.
    """

    experiment: str
    epochs: int | None = None
    steps: int | None = None
    changes: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        changes = (f", {key} {value}" for key, value in self.changes if value not in ("[]", "None"))
        return f"`{self.experiment}`{''.join(changes)}"

    def length(self, whole: Published | Kind | None = None) -> str:
        """The length, with that of the whole training where it is another one."""
        own, unit = (self.steps, "steps") if self.steps else (self.epochs, "epochs")
        all_of_it = whole and (whole.steps if self.steps else whole.epochs)
        if not own or not all_of_it or own == all_of_it:
            return f"{own:,} {unit}"
        return f"{own:,} of {all_of_it:,} {unit}" if own < all_of_it else f"{own:,} {unit}, published: {all_of_it:,}"


@dataclass
class Row:
    """A row of the table: its kind, and the results files that belong to it."""

    kind: Kind
    runs: list[dict[str, Any]] = field(default_factory=list)

    def values(self, part: str, key: str) -> list[float]:
        """A figure of every run, where all of them have it."""
        found = [(run[part] or {}).get(key) for run in self.runs]
        known = [value for value in found if value is not None]
        return known if len(known) == len(found) else []


def read_published(path: Path) -> dict[str, Published]:
    """The published figures by experiment."""
    given = yaml.safe_load(path.read_text())
    rows = [Published(**{**row, "source": given["sources"][row["source"]]}) for row in given["figures"]]
    return {row.experiment: row for row in rows}


@cache
def _of_app(experiment: str) -> Mapping[str, Any] | None:
    """The settings of an experiment's app file; None where there is none."""
    try:
        return command_line.resolve(CommandLine(experiment, {"evaluate": True}), {}).to_saved()
    except UserError:
        return None


def whole(experiment: str) -> Kind | None:
    """The kind of a training as its app file has it; None where there is none."""
    app = _of_app(experiment)
    return kind_of(experiment, app) if app else None


def kind_of(experiment: str, settings: Mapping[str, Any]) -> Kind:
    """The kind of a training from its settings."""
    changed = differences(_of_app(experiment) or {}, settings)
    changes = {key: str(value) for key, (_, value) in changed.items() if key not in (*LENGTH, "seed")}
    steps = settings.get("num_steps")
    return Kind(experiment, None if steps else settings["num_epochs"], steps, tuple(sorted(changes.items())))


def rows(runs: Iterable[dict[str, Any]], wanted: Iterable[Kind]) -> list[Row]:
    """A row a kind: those that are wanted, in their order, then others that were run."""
    found = {kind: Row(kind) for kind in wanted}
    for run in runs:
        kind = kind_of(run["experiment"], run["settings"])
        found.setdefault(kind, Row(kind)).runs.append(run)
    return list(found.values())


def trained(figures: Figures) -> str:
    """The trainings that were run, are published or are in the queue of a CPU, beside their published figures."""
    published = read_published(figures.published)
    found = all_rows(figures, published)
    shown = [row for row in found if row.runs or row.kind.experiment in published or row.kind in figures.queued_on_cpu]
    heads = ["experiment", "published", "ours, last weights", "difference", "ours, best weights", "seeds", "length"]
    lines = [_line(row, published.get(row.kind.experiment)) for row in shown]
    left = len(found) - len(shown)
    more = f"\n\n{left} more experiments of the queue were not run; `{figures.published.name}` has no figure for them."
    return table(heads, lines) + (more if left else "")


def all_rows(figures: Figures, published: Mapping[str, Published]) -> list[Row]:
    """The rows of the table: in the order of the queue, then those that are published alone, then others."""
    alone = [
        replace(kind, epochs=figure.epochs) if figure.epochs and kind.epochs else kind
        for name, figure in published.items()
        if (kind := whole(name))
    ]
    return rows(figures.trained, dict.fromkeys([*figures.queued, *alone]))


def headlines(figures: Figures) -> str:
    """The published figures that the README shows, each with our longest training."""
    published = {name: row for name, row in read_published(figures.published).items() if row.headline}
    found = [row for row in all_rows(figures, published) if row.kind.experiment in published and not row.kind.changes]
    lines = []
    for name, figure in published.items():
        own = [row for row in found if row.kind.experiment == name]
        row = max(own, key=lambda row: (bool(row.runs), row.kind.steps or row.kind.epochs))
        experiment, top1, ours, _, _, seeds, length = _line(row, figure)
        lines.append([experiment, top1, ours, seeds, length])
    return table(["experiment", "published", "ours", "seeds", "length"], lines)


def summaries(runs: Iterable[dict[str, Any]], published: Mapping[str, Published]) -> dict[str, Any]:
    """What the trainings reached that are as their app files have them.

    Args:
        runs: results of trainings.
        published: figures by experiment.

    Returns:
        A mapping an experiment, nested by the parts of its name: top1 (in percent, a seed each), seeds (their number),
        acting and possible (edges), and published (in words), where it is.
    """
    found: dict[str, Any] = {}
    for row in rows(runs, ()):
        experiment, top1 = row.kind.experiment, row.values("last", "top1")
        if row.kind != whole(experiment) or not top1:
            continue
        place = found
        for part in experiment.split("/"):
            place = place.setdefault(part, {})
        edges = row.runs[0].get("edges") or {}
        place |= {
            "top1": top1,
            "seeds": len(top1),
            **{key: edges[key] for key in ("acting", "possible") if key in edges},
        }
        if experiment in published:
            place["published"] = str(published[experiment])
    return found


def learned_and_random(figures: Figures) -> str:
    """The test accuracy of the tiny static classifier in the course of whole trainings, learned and random."""
    published = read_published(figures.published)
    lines = []
    for experiment in LEARNED_AND_RANDOM:
        kind = whole(experiment)
        assert kind is not None
        row = rows(figures.trained, [kind])[0]
        curves = [dict(zip(run["curve"]["epoch"], run["curve"]["top1"], strict=True)) for run in row.runs]
        cells = [_at_epoch(curves, epoch) for epoch in SHOWN_EPOCHS]
        lines.append([f"`{experiment}`", *cells, str(published.get(experiment, "")), str(len(row.runs))])
    return table(["test top-1, %, after epoch", *map(str, SHOWN_EPOCHS), "published", "seeds"], lines)


def mobilenets(figures: Figures) -> str:
    """What the shortened trainings of MobileNet-like networks cost and reach, in the order of the queue."""
    found = rows(figures.trained, figures.queued)
    of_length = [row for row in found if row.runs and row.kind.epochs == MOBILENET_EPOCHS[-1]]
    lines = []
    for row in (row for row in of_length if row.kind.experiment.startswith(MOBILENETS)):
        curves = [dict(zip(run["curve"]["epoch"], run["curve"]["top1"], strict=True)) for run in row.runs]
        costs = row.runs[0]["profile"] or {}
        cells = [f"{costs[key]:,}" if key in costs else "" for key in ("live_parameters", "live_multiply_adds")]
        lines.append([str(row.kind), *cells, *(_at_epoch(curves, epoch) for epoch in MOBILENET_EPOCHS)])
    heads = ["experiment", "live parameters", "multiply-adds", *(f"after {epoch}" for epoch in MOBILENET_EPOCHS)]
    return table(heads, lines)


def _at_epoch(curves: Sequence[Mapping[int, float]], epoch: int) -> str:
    known = [curve[epoch] for curve in curves if curve.get(epoch) is not None]
    return spread(known, ".1f") if curves and len(known) == len(curves) else ""


def shipped(_: Figures) -> str:
    """The weights of our own that lie in pretrained/weights."""
    own = trained_here.catalogue().values()
    if not own:
        return "There are none yet."
    lines = [
        [f"`{one.name}`", f"`{one.experiment}`", one.length, str(one.seed), f"{one.top1:.2f}", _kilobytes(one)]
        for one in own
    ]
    return table(["name", "experiment", "length", "seed", "top-1, %", "size"], lines)


def wirings(figures: Figures) -> str:
    """What trained wirings are like, a run a line."""
    lines = []
    for run in figures.value("learned_wirings/runs"):
        lengths = run["lengths"]
        mean_length = sum(i * count for i, count in enumerate(lengths)) / sum(lengths)
        live = run["nodes"] - run["degrees"][0]
        largest, mean = len(run["degrees"]) - 1, 2 * run["edges"] / live
        cells = [f"{live:,} of {run['nodes']:,}", f"{run['edges']:,}", f"{mean:.1f}", f"{largest:,}"]
        lines.append([f"`{run['wiring']}`", str(run["seed"]), *cells, f"{mean_length:.2f}"])
    heads = ["wiring", "seed", "live channels", "live edges", "mean degree", "largest degree", "mean length of an edge"]
    return table(heads, lines)


def near_trials(figures: Figures) -> str:
    """What the test accuracy becomes where most idle edges get a gradient only now and then."""
    rows = []
    for row in figures.value("dnw_near/rows"):
        if row["near"] is None:
            words = "of all in every step (`dnw`)"
        else:
            others = "the others never"
            if row["strength"]:
                strength = "" if row["strength"] == 1 else f", {row['strength']} times as strong"
                others = f"the others in every {row['every']}th{strength}"
            words = f"of the nearest, {row['near']} for each that acts, in every step; {others}"
        rows.append([words, f"{row['top1'][-1]:.2f} %", f"{row['top1'][-2]:.2f} %"])
    return table(["gradient of idle edges", "after 8 epochs", "after 7"], rows)


def last_edges(figures: Figures) -> str:
    """The share of the last wiring's edges that acted after some epochs, a learned run a line.

    The epochs are those after which every run knows it, and of the `ASKED_EPOCHS` those after which one does.
    """
    runs = {
        f"`{run['wiring']}`, seed {run['seed']}": {point["epoch"]: point["share"] for point in run["there"]}
        for run in figures.value("learned_wirings/runs")
        if any(run["swapped"])
    }
    of_all = set.intersection(*(set(shares) for shares in runs.values()))
    asked = {epoch for shares in runs.values() for epoch in shares if epoch in ASKED_EPOCHS}
    epochs = sorted(of_all | asked)
    lines = [
        [name, *(f"{100 * shares[epoch]:.1f} %" if epoch in shares else "" for epoch in epochs)]
        for name, shares in runs.items()
    ]
    return table(["after epoch", *(f"{epoch:g}" for epoch in epochs)], lines)


def _kilobytes(own: trained_here.Trained) -> str:
    return f"{own.file().stat().st_size / 1000:,.0f} kB"


def sources(figures: Figures) -> str:
    """Where the published figures are from, an item a source."""
    found: dict[str, list[str]] = {}
    for row in read_published(figures.published).values():
        found.setdefault(row.source, []).append(f"`{row.experiment}`")
    return "\n".join(f"- {source}: {_listed(names)}" for source, names in found.items())


def _line(row: Row, published: Published | None) -> list[str]:
    kind = row.kind
    comparable = published if not kind.changes else None
    cells = [str(kind), str(comparable or "")]
    if not row.runs:
        cells += ["not run", "", "", ""]
    else:
        last, best = row.values("last", "top1"), row.values("best", "test_top1")
        marks = {CHOSEN_ON_TEST for run in row.runs if run["best"] and run["best"]["chosen_on"] == "test"}
        difference = statistics.mean(last) - comparable.top1 if comparable else None
        cells += [
            spread(last, ".2f"),
            "" if difference is None else f"{difference:+.2f}",
            spread(best, ".2f") + "".join(marks) if best else "",
            str(len(row.runs)),
        ]
    known = published and (published.epochs or published.steps)
    return [*cells, kind.length(published if known else whole(kind.experiment))]


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{', '.join(names[:2])} and {len(names) - 2} more"


TABLES: dict[str, Callable[[Figures], str]] = {
    "trained": trained,
    "trained_headlines": headlines,
    "learned_and_random": learned_and_random,
    "mobilenets": mobilenets,
    "published_sources": sources,
    "shipped": shipped,
    "wirings": wirings,
    "last_edges": last_edges,
    "near_trials": near_trials,
}
