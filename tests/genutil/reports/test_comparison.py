from __future__ import annotations

import csv
import io
import json
import re

import pytest

from genutil.errors import UserError
from genutil.reports.comparison import ComparedRun, columns_of, csv_table, figures_of, mean_runs, text_table
from genutil.reports.page.comparison import render_comparison

DNW = {"model": "static", "wiring": "dnw", "prune_rate": 0.9, "num_epochs": 2}


def run(seed: int, top1: float, /, name: str = "tiny", measured_on: str = "test", **settings: object) -> ComparedRun:
    figures = {"top1": top1, "parameters": 1234.0, "clustering": 0.1 * (seed + 1), "seed": float(seed)}
    return ComparedRun(f"{name}-seed_{seed}", f"runs/{seed}", {**DNW, "seed": seed, **settings}, figures, measured_on)


def test_runs_that_differ_in_their_seeds_are_one_with_mean_and_deviation():
    (mean,) = mean_runs([run(0, 90.0, save_dir="a"), run(1, 91.0, save_dir="b"), run(2, 95.0)])
    assert (mean.name, mean.runs, mean.kind) == ("tiny", 3, "learned")
    assert mean.figures == {"top1": 92.0, "parameters": 1234.0, "clustering": pytest.approx(0.2)}
    assert mean.spread == {"top1": pytest.approx(7**0.5), "clustering": pytest.approx(0.1)}
    assert mean.shown("top1") == "92.00 ± 2.65"


@pytest.mark.parametrize("other", [{"lr": 0.2}, {"wiring": "random"}, {"measured_on": "validation"}])
def test_other_runs_stay_apart(other):
    assert len(mean_runs([run(0, 90.0, lr=0.1), run(1, 91.0, **{"lr": 0.1, **other})])) == 2


def test_a_figure_that_one_of_them_lacks_has_no_mean():
    lacking = ComparedRun("b", "b", {**DNW, "seed": 1}, {"top1": 90.0})
    assert set(mean_runs([run(0, 90.0), lacking])[0].figures) == {"top1"}


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"wiring": "dnw"}, "learned"),
        ({"wiring": "rigl"}, "learned"),
        ({"wiring": "random"}, "random"),
        ({"wiring": "complete", "model": "vgg"}, "fixed"),
        ({"wiring": "complete", "model": "randwire"}, "random"),
    ],
)
def test_kinds_of_wirings(settings, kind):
    assert ComparedRun("a", "a", settings, {}).kind == kind


def test_figures_of_a_profile_and_its_wiring():
    profile = {
        "parameters": 10,
        "multiply_adds": 20,
        "edges": {"possible": 9, "acting": 5, "live": 4},
        "nodes": {"nodes": 8, "live_nodes": 7},
        "wiring": {"": {"clustering": 0.5, "live_nodes": 6}, "stage": {"clustering": 0.9}},
    }
    assert figures_of(profile, None, {"wiring": "dnw", "prune_rate": 0.5, "seed": 3}) == {
        "parameters": 10.0,
        "multiply_adds": 20.0,
        "possible_edges": 9.0,
        "acting_edges": 5.0,
        "live_edges": 4.0,
        "live_nodes": 7.0,
        "clustering": 0.5,
        "prune_rate": 0.5,
        "seed": 3.0,
    }
    dense = figures_of({"parameters": 1, "multiply_adds": 2, "wiring": {}}, None, {"wiring": "complete", "seed": 0})
    assert dense == {"parameters": 1.0, "multiply_adds": 2.0, "seed": 0.0}


def test_the_table_has_a_line_a_run_and_the_columns_that_are_known():
    lines = text_table([run(0, 90.0), run(1, 91.5)]).splitlines()
    assert lines[0].split("  ")[0] == "run"
    assert "top-1, %" in lines[0]
    assert "multiply-adds" not in lines[0]
    assert "runs" not in lines[0].split()
    assert re.fullmatch(r"tiny-seed_1 +learned +test +91.50 +1,234 +0.2000", lines[2])
    assert text_table([run(0, 90.0)], ["parameters"]).splitlines()[1].split() == [
        "tiny-seed_0",
        "learned",
        "test",
        "1,234",
    ]


def test_csv_has_all_figures_and_their_deviations():
    runs = [*mean_runs([run(0, 90.0), run(1, 92.0)]), run(5, 80.0, name='odd, "name"', lr=1)]
    rows = list(csv.DictReader(io.StringIO(csv_table(runs))))
    assert [float(row["top1"]) for row in rows] == [91.0, 80.0]
    assert float(rows[0]["top1_std"]) == pytest.approx(2**0.5)
    assert rows[1]["top1_std"] == ""
    assert rows[1]["name"] == 'odd, "name"-seed_5'
    assert set(columns_of(runs)) <= set(rows[0])


def test_the_page_carries_every_run_and_needs_nothing_else():
    runs = [run(0, 90.0, name="</script><b>"), run(1, 91.0), run(0, 80.0, wiring="random")]
    page = render_comparison(runs, "clustering")
    carried = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert (carried["x"], carried["y"]) == ("clustering", "top1")
    assert [one["name"] for one in carried["runs"]] == [one.name for one in runs]
    assert [one["kind"] for one in carried["means"]] == ["learned", "random"]
    assert next(one["log"] for one in carried["quantities"] if one["key"] == "parameters")
    own = page.replace(page.partition("<script>/**")[2].partition("</script>")[0], "")  # plotly names addresses
    assert "http" not in own
    assert not re.search(r"<(link|script|img)[^>]+(src|href)=\"(?!data:)", own)


def test_a_quantity_that_no_run_has_is_named():
    with pytest.raises(UserError, match="No run has the quantity latency; they have top1, parameters, clust"):
        render_comparison([run(0, 90.0)], x="latency")
