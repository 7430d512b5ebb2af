"""The benchmark of epochs: trainings of their own by this code and by another checkout, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import epochs, results_tables
from benchmarks.results_page import Figures


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_an_epoch_is_trained_by_both_states(monkeypatch, tmp_path, capsys) -> None:
    path = tmp_path / "epochs.json"
    other = {"experiment": "another", "now": {"images_per_second": 7.0}}
    path.write_text(json.dumps({"rows": [other, {"experiment": "quickstart", "before": {"images_per_second": 1.0}}]}))
    words = ["--before", str(epochs.ROOT), "--steps", "2", "--only", "quickstart", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["epochs.py", *words, "--json", str(path), "--add"])
    epochs.main()
    found = json.loads(path.read_text())
    kept, row = found["rows"]
    assert kept == other
    assert row["settings"] == {}
    assert row["before"]["step"] == 2
    assert row["now"]["step"] > 2
    assert row["before"]["images_per_second"] > 0
    assert row["now"]["images_per_second"] > 0
    assert row["before"]["state"] == row["now"]["state"] == epochs.state(epochs.ROOT)
    assert row["now"]["measured"]["threads"] == 1
    assert "times as fast" in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", ["epochs.py", *words[4:], "--json", str(path), "--add"])
    epochs.main()  # this code alone: what the earlier state did stays
    again = json.loads(path.read_text())["rows"][1]
    assert again["before"] == row["before"]
    assert again["now"] != row["now"]


def test_a_row_without_an_earlier_state_is_in_the_table(tmp_path) -> None:
    rows = [{"experiment": "a/b", "settings": {"solver": "rk4"}, "now": {"images_per_second": 1234.0}}]
    (tmp_path / "epochs.json").write_text(json.dumps({"rows": rows}))
    figures = Figures(tmp_path, epochs.ROOT / "results", epochs.ROOT / "benchmarks" / "queue.yml")
    assert results_tables.epochs(figures).splitlines()[2] == "| `a/b`, solver rk4 |  |  | 1,234 |  |"


def test_a_training_that_fails_is_told(capfd) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        epochs.trained(epochs.ROOT, "small_scale/no_such_experiment", [])
    assert "no_such_experiment" in capfd.readouterr().err


def test_an_earlier_state_without_a_runner_is_refused(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["epochs.py", "--before", str(tmp_path)])
    with pytest.raises(SystemExit):
        epochs.main()
    assert "there is no runner.py" in capsys.readouterr().err


def test_adding_needs_a_file(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["epochs.py", "--add"])
    with pytest.raises(SystemExit):
        epochs.main()
    assert "--add is for the file of --json" in capsys.readouterr().err


def test_a_folder_outside_git_has_no_state(tmp_path: Path) -> None:
    assert epochs.state(tmp_path) == "unknown"
