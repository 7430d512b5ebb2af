"""The benchmark of kept memory: both ways in processes of their own, in turns."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import keep_memory


@pytest.mark.slow
def test_both_ways_are_measured(monkeypatch, tmp_path, capsys) -> None:
    path = tmp_path / "memory.json"
    words = ["--only", "resnet20", "--repeats", "1", "--steps", "3", "--threads", "1", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["keep_memory.py", *words])
    keep_memory.main()
    (row,) = json.loads(path.read_text())["rows"]
    assert row["experiment"] == "cifar/resnet20_v1"
    for way in ("kept", "fresh"):
        (found,) = row[way]
        assert found["milliseconds"] > 0
        assert found["mebibytes"] > 100
    assert row["ratio"]["min"] == row["fresh"][0]["milliseconds"] / row["kept"][0]["milliseconds"]
    assert "resnet20 " in capsys.readouterr().out


def test_too_few_steps_are_refused(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["keep_memory.py", "--steps", "2"])
    with pytest.raises(SystemExit):
        keep_memory.main()
    assert "at least 3 steps" in capsys.readouterr().err
