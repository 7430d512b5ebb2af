"""Real runs, read to be compared, and `runner.py compare` on them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import runner
from genutil.compared_runs import read_runs
from genutil.run import run
from tests.genutil.runs import tiny


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoints`, `runs` and `results` of three short trainings."""
    folder = tmp_path_factory.mktemp("compare")
    short = {"num_epochs": 1, "threads": 1, "report": False, "results_dir": str(folder / "results")}
    for name, settings in {"a": {"seed": 0}, "b": {"seed": 1}, "r": {"wiring": "random"}}.items():
        run(tiny(folder, name=name, experiment="tiny", **{**short, **settings}))
    return folder


def compare(*words: str | Path, status: int = 0) -> None:
    assert runner.main(["compare", *map(str, words)]) == status


def test_folders_of_runs_and_files_of_results_say_the_same(runs):
    of_folders = {(one.settings["seed"], one.kind): one for one in read_runs([runs / "checkpoints"])}
    of_files = read_runs([runs / "results"])
    assert len(of_folders) == len(of_files) == 3
    for found in of_files:
        same = of_folders[found.settings["seed"], found.kind]
        own = {key: value for key, value in found.figures.items() if key != "seconds"}
        assert {key: pytest.approx(same.figures[key], rel=1e-5) for key in own} == own
        assert {"top1", "multiply_adds", "live_edges", "clustering", "path_length", "epochs"} <= set(own)


def test_a_table_csv_and_a_page(runs, tmp_path, capsys):
    compare(runs / "checkpoints", "--csv", tmp_path / "all.csv", "--html", tmp_path / "all.html", "--x", "clustering")
    out = capsys.readouterr().out
    assert "±" in out
    assert [line.split()[:3] for line in out.splitlines()[1:3]] == [["a", "learned", "2"], ["r", "random", "1"]]
    rows = list(csv.DictReader((tmp_path / "all.csv").open()))
    assert [row["runs"] for row in rows] == ["2", "1"]
    assert (tmp_path / "all.html").read_text().count("<html") == 1
    compare(runs / "checkpoints", "--each", "--columns", "seed", "depth")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["run", "a", "b", "r"]


def test_a_run_is_found_by_its_folders_and_taken_once(runs):
    (log,) = (runs / "runs").glob("a-*")
    found = read_runs([runs / "checkpoints" / "a", log, runs / "checkpoints" / "a" / "last.pt"])
    assert {run.figures["seed"] for run in found} == {0.0}
    assert found[0].name == "a"


def test_latency_is_measured_on_request(runs):
    (found,) = read_runs([runs / "checkpoints" / "a"], latency=True)
    assert found.figures["network_latency"] > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["missing"], "There is no missing."),
        (["empty"], "empty holds no runs"),
        (["{runs}", "--columns", "top11"], "There is no quantity top11; the nearest is top1."),
        (["{runs}", "--x", "latency", "--html", "x.html"], "No run has the quantity latency"),
        (["{runs}", "--csv", "missing/x.csv"], "cannot be written"),
        (["broken.json"], "cannot be read as a result"),
    ],
)
def test_mistakes_are_sentences_and_nothing_is_written(runs, tmp_path, monkeypatch, words, told, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{")
    before = sorted(tmp_path.iterdir())
    compare(*(word.format(runs=runs / "results") for word in words), status=2)
    assert told in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
