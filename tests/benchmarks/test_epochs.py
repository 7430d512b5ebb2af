"""The benchmark of epochs: trainings of their own by this code and by another checkout, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import epochs


@pytest.mark.slow
def test_an_epoch_is_trained_by_both_states(monkeypatch, tmp_path, capsys) -> None:
    path = tmp_path / "epochs.json"
    words = ["--before", str(epochs.ROOT), "--steps", "2", "--only", "quickstart", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", ["epochs.py", *words, "--json", str(path)])
    epochs.main()
    found = json.loads(path.read_text())
    (row,) = found["rows"]
    assert row["before"]["steps"] == 2
    assert row["now"]["step"] > 2
    assert row["before"]["images_per_second"] > 0
    assert row["now"]["images_per_second"] > 0
    assert found["before"] == epochs.state(epochs.ROOT)
    assert "times as fast" in capsys.readouterr().out


def test_a_training_that_fails_is_told(capfd) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        epochs.trained(epochs.ROOT, "small_scale/no_such_experiment", [])
    assert "no_such_experiment" in capfd.readouterr().err


def test_an_earlier_state_without_a_runner_is_refused(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["epochs.py", "--before", str(tmp_path)])
    with pytest.raises(SystemExit):
        epochs.main()
    assert "there is no runner.py" in capsys.readouterr().err


def test_a_folder_outside_git_has_no_state(tmp_path: Path) -> None:
    assert epochs.state(tmp_path) == "unknown"
