"""The page of results says what was measured, and is found stale where it does not."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks import results_page
from benchmarks.results_page import pages, stale
from benchmarks.results_tables import spread
from tests.docs.pages import ROOT


@pytest.fixture
def copied(tmp_path):
    """A tree with pages, templates and measured figures."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    shutil.copy(ROOT / "benchmarks" / "queue.yml", tmp_path / "benchmarks")
    shutil.copytree(ROOT / "results", tmp_path / "results")
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def test_pages_are_fresh():
    assert [path.name for path in stale(ROOT)] == []


def test_another_figure_makes_both_pages_stale(copied, monkeypatch, capsys):
    path = copied / "benchmarks" / "results" / "train_step.json"
    measured = json.loads(path.read_text())
    measured["rows"]["mobilenet_32"]["ratio"]["median"] = 77.77
    path.write_text(json.dumps(measured))
    monkeypatch.setattr(results_page, "ROOT", copied)
    monkeypatch.setattr(results_page, "stale", lambda: stale(copied))
    monkeypatch.setattr("sys.argv", ["results_page.py", "--check"])
    assert results_page.main() == 1
    assert "docs/results.md is stale" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["results_page.py"])
    assert results_page.main() == 0
    assert "| 77.8 (" in (copied / "docs" / "results.md").read_text()
    assert "77.8 times" in (copied / "README.md").read_text().replace("\n  ", " ")
    assert not stale(copied)


def test_a_figure_that_is_not_there_is_named(copied):
    with (copied / "docs" / "templates" / "results.md").open("a") as file:
        file.write("{{train_step/rows/static/ratio/middle}}\n")
    with pytest.raises(KeyError, match=r"train_step/rows/static/ratio/middle: middle is not there"):
        pages(copied)


def test_every_measurement_says_how_and_where():
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        measured = json.loads(path.read_text())["measured"]
        assert {"command", "date", "hardware", "torch"} <= set(measured), path.name


def test_spread_is_that_of_a_sample():
    assert spread([1.0, 2.0, 3.0], ".2f") == "2.00 ± 1.00"
