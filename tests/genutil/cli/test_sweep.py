"""Many trainings of one experiment, gone on with after an interruption, and shared among tasks."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import yaml

import runner
from genutil.cli import sweep
from genutil.cli.sweep import _chosen
from genutil.errors import UserError
from genutil.run import run
from tests.genutil.runs import TINY


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes an app file of the tiny experiment, and gives the words that name it."""
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)

    def write(**settings: Any) -> list[str]:
        quick = {"num_epochs": 1, "threads": 1, "report": False, "snapshots": 0, "skip_error_test": True}
        places = {"save_dir": str(tmp_path / "checkpoints"), "log_dir": str(tmp_path / "runs")}
        (tmp_path / "tiny.yml").write_text(yaml.safe_dump({**TINY, **quick, **places, **settings}))
        return [f"app:{tmp_path / 'tiny.yml'}"]

    return write


@pytest.fixture
def trained(monkeypatch):
    """The names of the experiments that are trained from now on; `stop` ends the one of that name."""
    names: list[str] = []

    def note(experiment):
        names.append(experiment.name)
        if experiment.name == note.stop:
            raise KeyboardInterrupt
        return run(experiment)

    note.stop = None
    monkeypatch.setattr(sweep, "run", note)
    note.names = names
    return note


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "checkpoints" / "tiny-results" / "tiny-summary.json").read_text())


def test_seeds_give_means_and_deviations(app, tmp_path, capsys):
    assert runner.main([*app(), "--seeds", "0", "1", "2", "--json", str(tmp_path / "all.json")]) == 0
    (mean,) = summary(tmp_path)["means"]
    runs = summary(tmp_path)["runs"]
    assert list(runs) == ["tiny-seed_0", "tiny-seed_1", "tiny-seed_2"]
    top1 = [run["figures"]["top1"] for run in runs.values()]
    assert len(set(top1)) > 1
    assert (mean["name"], mean["runs"]) == ("tiny", 3)
    assert mean["figures"]["top1"] == pytest.approx(statistics.fmean(top1))
    assert mean["spread"]["top1"] == pytest.approx(statistics.stdev(top1))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("tiny  learned"))
    assert f"{statistics.fmean(top1):.2f} ± {statistics.stdev(top1):.2f}" in line
    assert json.loads((tmp_path / "all.json").read_text()) == summary(tmp_path)
    assert (tmp_path / "checkpoints" / "tiny-seed_1" / "last.pt").exists()


def test_an_interrupted_grid_goes_on_where_it_stopped(app, trained, tmp_path, capsys):
    words = app(sweep={"lr": [0.1, 0.2], "wiring": ["dnw", "random"]}, seeds=[0, 1])
    cells = [f"tiny-lr_{lr}-wiring_{rule}" for lr in (0.1, 0.2) for rule in ("dnw", "random")]
    names = [f"{cell}-seed_{seed}" for cell in cells for seed in (0, 1)]
    trained.stop = names[3]
    assert runner.main(words) == 130
    assert trained.names == names[:4]
    assert f"{names[3]}: not finished" in capsys.readouterr().out
    assert summary(tmp_path)["unfinished"] == names[3:]
    trained.names.clear()
    trained.stop = None
    assert runner.main(words) == 0
    assert trained.names == names[3:]
    found = summary(tmp_path)
    assert found["unfinished"] == []
    assert [mean["name"] for mean in found["means"]] == cells
    assert [mean["kind"] for mean in found["means"]] == ["learned", "random"] * 2
    trained.names.clear()
    assert runner.main(words) == 0
    assert trained.names == []


def test_a_training_that_was_stopped_goes_on_from_its_checkpoint(app, trained, tmp_path, capsys):
    assert runner.main(app(num_epochs=2, checkpoint_interval=1, name="tiny-seed_4", seed=4)) == 0
    folder = tmp_path / "checkpoints" / "tiny-seed_4"
    (folder / "epoch_1.pt").replace(folder / "last.pt")
    assert runner.main([*app(num_epochs=3), "--seeds", "4"]) == 2
    assert "is of another training: num_epochs is 2 there and 3 here" in capsys.readouterr().err
    assert runner.main([*app(num_epochs=2), "--seeds", "4"]) == 0
    assert trained.names == ["tiny-seed_4"]
    (found,) = summary(tmp_path)["runs"].values()
    assert found["figures"]["epochs"] == 2
    folders = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert folders == ["tiny-results", "tiny-seed_4"]
    assert "epoch 1/2" not in capsys.readouterr().out


def test_a_failing_run_does_not_stop_the_others(app, trained, tmp_path, capsys):
    words = app(sweep={"lr": [1.0e30, 0.1]})
    assert runner.main(words) == 2
    assert len(trained.names) == 2
    assert len(summary(tmp_path)["runs"]) == 1
    assert "tiny-lr_1e+30: The loss is" in capsys.readouterr().err


def test_tasks_of_an_array_share_a_sweep(app, trained, tmp_path, monkeypatch):
    words = [*app(), "--seeds", "0", "1", "2"]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "6")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    assert runner.main(words) == 0
    assert trained.names == ["tiny-seed_1"]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    assert runner.main(words) == 0
    assert trained.names == ["tiny-seed_1", "tiny-seed_0", "tiny-seed_2"]
    assert summary(tmp_path)["means"][0]["runs"] == 3
    assert runner.main([*words, "--index", "1"]) == 0
    assert len(trained.names) == 3


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"ID": "0", "COUNT": "5"}, [0]),
        ({"ID": "2", "COUNT": "2", "MIN": "1"}, [1, 3]),
        ({"ID": "20", "COUNT": "3", "MIN": "10", "STEP": "5"}, [2]),
        ({"ID": "8", "COUNT": "9"}, []),
    ],
)
def test_each_task_takes_its_part(given, expected):
    environment = {f"SLURM_ARRAY_TASK_{key}": value for key, value in given.items()}
    assert _chosen(5, None, {"SLURM_ARRAY_TASK_MIN": "0", **environment}) == expected


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_all_tasks_together_take_every_run_once(count):
    found = [
        member
        for task in range(count)
        for member in _chosen(5, None, {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(count)})
    ]
    assert sorted(found) == list(range(5))


@pytest.mark.parametrize(
    "given", [{"ID": "7", "COUNT": "3"}, {"ID": "1", "COUNT": "2", "STEP": "2"}, {"ID": "x"}, {"ID": "0", "STEP": "0"}]
)
def test_an_odd_array_is_told(given):
    with pytest.raises(UserError, match="SLURM"):
        _chosen(3, None, {f"SLURM_ARRAY_TASK_{key}": value for key, value in given.items()})


@pytest.mark.parametrize(
    ("settings", "words", "told"),
    [
        ({}, ["--seeds", "1", "1"], "seeds names a value twice"),
        ({}, ["--seeds", "a"], "--seeds must be a list of whole numbers"),
        ({}, ["--seeds", "0", "1", "--index", "2"], "index counts the 2 runs from 0 to 1"),
        ({}, ["--seeds", "0", "--evaluate"], "leave out resume, evaluate and profile"),
        ({}, ["--seeds", "0", "--seed", "3"], "--seed is given"),
        ({}, ["--seeds", "0", "--only_batches", "2"], "only_batches tries a run out"),
        ({"sweep": {"seed": [1, 2]}}, ["--seeds", "0"], "seeds and sweep both say which seeds"),
        ({"sweep": {"lr": [0.1]}}, ["--lr", "0.3"], "--lr is given, and the runs of the sweep differ in it"),
        ({"sweep": {"lr": []}}, [], "must be keys with lists of values"),
        ({"sweep": [1, 2]}, [], "must be keys with lists of values"),
        ({"sweep": {"learning": [1, 2]}}, [], "learning is not a setting"),
        ({"sweep": {"lr": [0.1, "much"]}}, [], "must be a number"),
        ({"sweep": {"wiring": ["dnw", "dnw"]}}, [], "wiring names a value twice"),
    ],
)
def test_mistakes_are_sentences_and_nothing_is_written(app, settings, words, told, tmp_path, capsys):
    assert runner.main([*app(**settings), *words]) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yml"]


def test_several_experiments_in_a_file_take_no_seeds(app, tmp_path, capsys):
    words = app()
    text = (tmp_path / "tiny.yml").read_text()
    (tmp_path / "tiny.yml").write_text(f"{text}---\n{text}sweep: {{lr: [1, 2]}}\n")
    assert runner.main([*words, "--seeds", "0"]) == 2
    assert "single" in capsys.readouterr().err
