"""Runs side by side: what is known of each, means over seeds, a table for the terminal and one in CSV."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from genutil.reports.page.standing import kind_of
from genutil.reports.results import FROM_DATA, WITHOUT_EFFECT


class Quantity(NamedTuple):
    """How a measured quantity is shown: its title, its form, and whether its axis is logarithmic."""

    title: str
    form: str
    log: bool = False


QUANTITIES = {
    "top1": Quantity("top-1, %", ".2f"),
    "best_top1": Quantity("best top-1, %", ".2f"),
    "top5": Quantity("top-5, %", ".2f"),
    "loss": Quantity("loss, nats", ".4f"),
    "parameters": Quantity("parameters", ",.0f", log=True),
    "multiply_adds": Quantity("multiply-adds", ",.0f", log=True),
    "live_edges": Quantity("live edges", ",.0f", log=True),
    "acting_edges": Quantity("acting edges", ",.0f", log=True),
    "possible_edges": Quantity("possible edges", ",.0f", log=True),
    "live_nodes": Quantity("live nodes", ",.0f", log=True),
    "latency": Quantity("native engine, ms an image", ".3f", log=True),
    "network_latency": Quantity("network as it is, ms an image", ".3f", log=True),
    "clustering": Quantity("clustering", ".4f"),
    "path_length": Quantity("path length", ".3f"),
    "directed_path_length": Quantity("directed path length", ".3f"),
    "diameter": Quantity("diameter", ".0f"),
    "degree_mean": Quantity("mean degree", ".2f"),
    "degree_std": Quantity("standard deviation of the degrees", ".2f"),
    "degree_max": Quantity("largest degree", ".0f"),
    "edge_length_mean": Quantity("mean length of edges", ".2f"),
    "depth": Quantity("depth", ".0f"),
    "components": Quantity("parts", ".0f"),
    "largest_component": Quantity("share of the largest part", ".3f"),
    "epochs": Quantity("epochs", ".4g"),
    "seconds": Quantity("seconds of training", ",.0f", log=True),
    "prune_rate": Quantity("prune rate", "g"),
    "seed": Quantity("seed", ".0f"),
}
"""Every quantity that runs are compared by, in the order of the columns."""
SHOWN = ("top1", "best_top1", "parameters", "multiply_adds", "live_edges", "latency", "clustering", "path_length")
"""Columns of the terminal's table where no others are asked for and where some run has them."""


@dataclass(frozen=True)
class ComparedRun:
    """What is known of a run, or of several that differ in their seeds alone.

    Attributes:
        name: for people.
        place: where it was read from.
        settings: of the experiment, as a checkpoint or a results file has them.
        figures: of QUANTITIES, those that are known.
        measured_on: images of the accuracies, "test" or "validation".
        spread: sample standard deviations over the seeds, of several.
        runs: how many they are.
    """

    name: str
    place: str
    settings: Mapping[str, Any]
    figures: Mapping[str, float]
    measured_on: str = "test"
    spread: Mapping[str, float] = field(default_factory=dict)
    runs: int = 1

    @property
    def kind(self) -> str:
        """Whether its wiring is learned, random or fixed."""
        return kind_of(self.settings)

    def shown(self, key: str) -> str:
        """A figure with its spread, or nothing."""
        if key not in self.figures:
            return ""
        form = QUANTITIES[key].form
        spread = f" ± {self.spread[key]:{form}}" if key in self.spread else ""
        return f"{self.figures[key]:{form}}{spread}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        facts = {"name": self.name, "kind": self.kind, "measured_on": self.measured_on, "runs": self.runs}
        return {**facts, "place": self.place, "figures": dict(self.figures), "spread": dict(self.spread)}


def figures_of(
    profile: Mapping[str, Any] | None, edges: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> dict[str, float]:
    """What a profile (`Profile.to_dict`, with its `wiring`) and the settings tell of QUANTITIES."""
    found: dict[str, Any] = {"seed": settings.get("seed")}
    if settings.get("wiring") != "complete":
        found["prune_rate"] = settings.get("prune_rate")
    if edges:
        found |= {"possible_edges": edges.get("possible"), "acting_edges": edges.get("acting")}
    if profile:
        found |= {key: profile.get(key) for key in ("parameters", "multiply_adds")}
        counted = profile.get("edges") or {}
        found |= {f"{key}_edges": counted[key] for key in ("possible", "acting", "live") if key in counted}
        wiring = (profile.get("wiring") or {}).get("", {})
        found |= {key: value for key, value in wiring.items() if key in QUANTITIES}
        if profile.get("nodes"):
            found["live_nodes"] = profile["nodes"]["live_nodes"]
    return {key: float(value) for key, value in found.items() if value is not None}


def mean_runs(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """Runs that differ in their seeds alone as one: means, and sample standard deviations; single ones as they are."""
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        groups.setdefault(_but_the_seed(run), []).append(run)
    return [group[0] if len(group) == 1 else _mean(group) for group in groups.values()]


def _but_the_seed(run: ComparedRun) -> str:
    left_out = {"seed", *FROM_DATA, *WITHOUT_EFFECT}
    kept = {key: value for key, value in run.settings.items() if key not in left_out}
    return json.dumps([run.measured_on, kept], sort_keys=True, default=str)


def _mean(runs: Sequence[ComparedRun]) -> ComparedRun:
    columns: dict[str, list[float]] = {}
    for run in runs:
        for key, value in run.figures.items():
            if key != "seed":
                columns.setdefault(key, []).append(value)
    full = {key: values for key, values in columns.items() if len(values) == len(runs)}
    return ComparedRun(
        name=_common_name([run.name for run in runs]),
        place=", ".join(run.place for run in runs),
        settings=runs[0].settings,
        figures={key: statistics.fmean(values) for key, values in full.items()},
        measured_on=runs[0].measured_on,
        spread={key: statistics.stdev(values) for key, values in full.items() if max(values) > min(values)},
        runs=len(runs),
    )


def _common_name(names: Sequence[str]) -> str:
    """What names have in common at their beginning, without a seed that was about to follow."""
    shortest = min(names, key=len)
    length = next((i for i, c in enumerate(shortest) if any(name[i] != c for name in names)), len(shortest))
    common = shortest[:length]
    for end in ("seed_", "seed ", "seed"):
        common = common.removesuffix(end)
    return common.rstrip("-_, ") or names[0]


def columns_of(runs: Iterable[ComparedRun]) -> list[str]:
    """The quantities that some run has."""
    known = {key for run in runs for key in run.figures}
    return [key for key in QUANTITIES if key in known]


def text_table(runs: Sequence[ComparedRun], columns: Sequence[str] | None = None) -> str:
    """A line a run for the terminal.

    Args:
        columns: of QUANTITIES; those of SHOWN that some run has where None.
    """
    columns = columns or [key for key in columns_of(runs) if key in SHOWN]
    several = any(run.runs > 1 for run in runs)
    rows = [["run", "wiring", *(["runs"] if several else []), "images", *(QUANTITIES[key].title for key in columns)]]
    for run in runs:
        first = [run.name, run.kind, *([str(run.runs)] if several else []), run.measured_on]
        rows.append([*first, *(run.shown(key) for key in columns)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = len(rows[0]) - len(columns)
    return "\n".join(_line(row[:left], row[left:], widths) for row in rows)


def _line(words: Sequence[str], figures: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(width) for cell, width in zip(words, widths, strict=False)]
    cells += [cell.rjust(width) for cell, width in zip(figures, widths[len(words) :], strict=True)]
    return "  ".join(cells).rstrip()


def csv_table(runs: Sequence[ComparedRun]) -> str:
    """A line a run with all that is known of it; <quantity>_std where several runs are one."""
    keys = columns_of(runs)
    spreads = [key for key in keys if any(key in run.spread for run in runs)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "kind", "runs", "measured_on", "place", *keys, *(f"{key}_std" for key in spreads)])
    for run in runs:
        first = [run.name, run.kind, run.runs, run.measured_on, run.place]
        figures = [run.figures.get(key, "") for key in keys] + [run.spread.get(key, "") for key in spreads]
        writer.writerow([*first, *figures])
    return text.getvalue()
