"""The benchmark of engines on a checkpoint's test images: a row each, and none for what cannot be evaluated."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import real_images
from genutil.run import run
from tests.genutil.runs import tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def measure(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["real_images.py", *map(str, words)])
    real_images.main()


def test_an_engine_predicts_what_the_network_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = run(tiny(tmp_path, num_epochs=1))
    found = tmp_path / "found.json"
    measure(monkeypatch, "--resume", trained["checkpoint"], "--engines", "csr", "--json", found)
    written = json.loads(found.read_text())
    (row,) = written["rows"]
    assert row["engine"] == "csr"
    assert row["images"] > 100
    assert row["top1"] == trained["top1"]
    assert row["same_predictions"] + row["near_ties"] >= row["images"]
    assert min(row["engine_images_per_second"], row["network_images_per_second"]) > 0
    assert written["measured"]["threads"] == 1
    assert "engine csr" in capsys.readouterr().out


def test_no_evaluation_at_all_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found.json"
    with pytest.raises(SystemExit, match="No evaluation succeeded"):
        measure(monkeypatch, "--resume", tmp_path / "none.pt", "--engines", "csr", "--json", found)
    assert "none.pt" in capfd.readouterr().err
    assert not found.exists()
