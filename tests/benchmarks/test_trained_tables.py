"""The table of trainings beside published figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.results_page import ROOT, Figures
from benchmarks.trained_tables import (
    Kind,
    headlines,
    kind_of,
    last_edges,
    learned_and_random,
    mobilenets,
    read_published,
    sources,
    summaries,
    trained,
    whole,
)
from genutil.settings.app_files import app_name, experiments
from tests.genutil.runs import tiny

PUBLISHED = {
    "sources": {"paper": "Somebody 2019, Table 1"},
    "figures": [
        {"experiment": "quickstart", "top1": 99.0, "spread": 0.5, "epochs": 30, "chosen_on": "test", "source": "paper"},
        {"experiment": "cifar/resnet20_v1", "top1": 91.25, "steps": 64000, "source": "paper", "headline": True},
    ],
}


def result(experiment: str, seed: int, top1: float, **changes: Any) -> dict[str, Any]:
    """A result of the quickstart, with other settings."""
    return {
        "version": 1,
        "experiment": experiment,
        "seed": seed,
        "last": {"top1": top1},
        "best": {"test_top1": top1 + 1, "chosen_on": "test"},
        "settings": {**changes, "seed": seed},
    }


@pytest.fixture
def figures(tmp_path: Path) -> Figures:
    """Two seeds whole, one shorter, one with another rate; of these the shorter one in the queue."""
    (tmp_path / "published.yml").write_text(yaml.safe_dump(PUBLISHED))
    (tmp_path / "queue.yml").write_text(
        yaml.safe_dump(
            [
                {"experiment": "quickstart", "settings": {"num_epochs": 4}},
                {"experiment": "cifar/resnet20_v1"},
                {"experiment": "cifar/resnet32_v1", "device": "gpu"},
            ]
        )
    )
    runs = [
        result("quickstart", 0, 98.0, num_epochs=30, lr=0.1),
        result("quickstart", 1, 99.0, num_epochs=30, lr=0.1),
        result("quickstart", 0, 90.0, num_epochs=4, lr=0.1),
        result("quickstart", 0, 95.0, num_epochs=30, lr=0.2),
        result("quickstart", 0, 95.5, num_epochs=40, lr=0.1),
    ]
    for number, run in enumerate(runs):
        (tmp_path / f"{number}.json").write_text(json.dumps(run))
    return Figures(ROOT / "benchmarks" / "results", tmp_path, tmp_path / "queue.yml")


def test_runs_share_a_row_only_where_they_differ_in_their_seed_alone(figures: Figures) -> None:
    text, _, left = trained(figures).rpartition("\n\n")
    assert text.splitlines()[2:] == [
        "| `quickstart` | 99.0 ± 0.5† | 90.00 | -9.00 | 91.00† | 1 | 4 of 30 epochs |",
        "| `cifar/resnet20_v1` | 91.25 | not run |  |  |  | 64,000 steps |",
        "| `quickstart` | 99.0 ± 0.5† | 98.50 ± 0.71 | -0.50 | 99.50 ± 0.71† | 2 | 30 epochs |",
        "| `quickstart`, lr 0.2 |  | 95.00 |  | 96.00† | 1 | 30 epochs |",
        "| `quickstart` | 99.0 ± 0.5† | 95.50 | -3.50 | 96.50† | 1 | 40 epochs, published: 30 |",
    ]
    assert left == "1 more experiments of the queue were not run; `published.yml` has no figure for them."


def test_best_weights_chosen_on_validation_images_have_no_mark(figures: Figures) -> None:
    for run in figures.trained:
        run["best"]["chosen_on"] = "validation"
    assert "| 98.50 ± 0.71 | -0.50 | 99.50 ± 0.71 | 2 |" in trained(figures)
    figures.trained[0]["best"] = None
    assert "| 98.50 ± 0.71 | -0.50 |  | 2 |" in trained(figures)


def test_headlines_are_the_longest_run_of_each(figures: Figures) -> None:
    assert headlines(figures).splitlines()[2:] == ["| `cifar/resnet20_v1` | 91.25 | not run |  | 64,000 steps |"]


def test_summaries_are_of_trainings_as_their_app_files_have_them(figures: Figures) -> None:
    assert figures.value("trained/quickstart/top1") == [98.0, 99.0]
    assert figures.fill("{{spread trained/quickstart/top1}}") == "98.50 ± 0.71"
    assert figures.value("trained/quickstart/published") == "99.0 ± 0.5†"
    run = {**result("small_scale/static_dnw", 0, 80.0, num_epochs=160), "edges": {"acting": 3, "possible": 7}}
    assert summaries([run, {**run, "last": {}}], {}) == {}  # of one the accuracy is not known
    expected = {"top1": [80.0, 80.0], "seeds": 2, "acting": 3, "possible": 7}
    assert summaries([run, run], {}) == {"small_scale": {"static_dnw": expected}}


def test_courses_of_trainings_leave_epochs_empty_that_a_curve_lacks(figures: Figures) -> None:
    for seed, top1 in enumerate(([40.0, 50.0, 80.0], [42.0, 52.0, None])):
        curve = {"epoch": [1, 10, 160], "top1": top1}
        figures.trained.append({**result("small_scale/static_dnw", seed, 80.0, num_epochs=160), "curve": curve})
    assert learned_and_random(figures).splitlines()[2:] == [
        "| `small_scale/static_dnw` | 41.0 ± 1.4 |  | 51.0 ± 1.4 |  |  |  |  |  | 2 |",
        "| `small_scale/static_random_graph` |  |  |  |  |  |  |  |  | 0 |",
    ]


def test_costs_and_courses_of_mobilenets_are_those_of_shortened_trainings(figures: Figures) -> None:
    for experiment, epochs, changes in (
        ("medium_scale/mobilenetv1_dnw_x225", 40, {}),
        ("medium_scale/mobilenetv1_dnw_x225", 160, {}),
        ("medium_scale/mobilenetv1_dnw_x225", 40, {"wiring": "dnw_near"}),
        ("small_scale/static_dnw", 40, {}),
    ):
        curve = {"epoch": [1, 10, 20, 30, epochs], "top1": [30.0, 50.0, 60.0, None, 90.0]}
        profile = {"live_parameters": 1000, "live_multiply_adds": 20000}
        run = result(experiment, 0, 90.0, num_epochs=epochs, **{"wiring": "dnw", **changes})
        figures.trained.append({**run, "curve": curve, "profile": profile})
    assert mobilenets(figures).splitlines()[2:] == [
        "| `medium_scale/mobilenetv1_dnw_x225` | 1,000 | 20,000 | 30.0 | 50.0 | 60.0 |  | 90.0 |",
        "| `medium_scale/mobilenetv1_dnw_x225`, wiring dnw_near | 1,000 | 20,000 | 30.0 | 50.0 | 60.0 |  | 90.0 |",
    ]


def test_last_edges_are_told_after_common_epochs_and_those_asked_for(figures: Figures) -> None:
    moments = ({0: 0.1, 15: 0.4, 160: 1.0}, {0: 0.2, 1: 0.25, 2: 0.27, 15: 0.5, 80: 0.75, 160: 1.0}, {0: 1.0})
    figures.files["learned_wirings"] = {
        "runs": [
            {
                "wiring": "dnw" if len(shares) > 1 else "random",
                "seed": seed,
                "swapped": [9, 4] if len(shares) > 1 else [0, 0],
                "there": [{"epoch": float(epoch), "share": share} for epoch, share in shares.items()],
            }
            for seed, shares in enumerate(moments)
        ]
    }
    assert last_edges(figures).splitlines() == [
        "| after epoch | 0 | 1 | 15 | 80 | 160 |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `dnw`, seed 0 | 10.0 % |  | 40.0 % |  | 100.0 % |",
        "| `dnw`, seed 1 | 20.0 % | 25.0 % | 50.0 % | 75.0 % | 100.0 % |",
    ]


def test_sources_list_their_experiments(figures: Figures) -> None:
    assert sources(figures) == "- Somebody 2019, Table 1: `quickstart`, `cifar/resnet20_v1`"


def test_a_run_elsewhere_is_of_the_kind_of_its_app(tmp_path: Path) -> None:
    settings = {key: value for key, value in tiny(tmp_path).to_saved().items() if key in ("num_epochs", "num_steps")}
    assert kind_of("quickstart", {**settings, "save_dir": "a", "workers": 0}) == Kind("quickstart", epochs=2)
    assert kind_of("quickstart", {**settings, "num_steps": 7}) == Kind("quickstart", steps=7)
    assert kind_of("of/nobody", {**settings, "lr": 3.0}) == Kind("of/nobody", epochs=2)


def test_published_figures_are_of_experiments_and_say_where_from() -> None:
    published = read_published(ROOT / "results" / "published.yml")
    names = {app_name(path) for path in experiments()}
    assert set(published) <= names
    for name, figure in published.items():
        assert 50 < figure.top1 < 100, name
        assert figure.source, name
        kind = whole(name)
        assert kind is not None
        if figure.steps or figure.epochs:
            assert bool(figure.steps) == bool(kind.steps), f"{name}: its app file counts otherwise"
    assert sum(figure.headline for figure in published.values()) <= 4
