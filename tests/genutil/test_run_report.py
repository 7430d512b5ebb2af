from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import runner
from genutil.errors import UserError
from genutil.reports.page.document import read_data
from genutil.run import run
from genutil.run_report import write_report
from tests.genutil.runs import tiny

QUICK = {"snapshots": 4, "num_epochs": 2, "only_batches": 2, "checkpoint_interval": 1, "threads": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(tiny(folder, **QUICK))
    return folder


@pytest.fixture(scope="module")
def page(trained: Path) -> str:
    return write_report(trained / "checkpoints" / "tiny").read_text()


def test_a_page_has_the_run_in_it(page: str):
    data = read_data(page)
    assert data["moments"] == ["epoch 0", "epoch 0.5", "epoch 1.5", "epoch 2"]
    assert data["curve"]["epoch"] == [1, 2]
    (part,) = data["parts"]
    assert len(part["counts"]) == 4
    assert data["standing"][-1]["origin"] == "this run"
    for text in ("static on digits, wiring dnw", "Theory and measurement", 'class="architecture"', "prune_rate: 0.7"):
        assert text in page
    assert "not finished" not in page


def test_the_folder_of_the_log_leads_to_the_same_page(trained: Path, page: str, tmp_path: Path):
    (log,) = (trained / "runs").iterdir()
    out = write_report(log, tmp_path / "page.html")
    assert out == tmp_path / "page.html"
    assert read_data(out.read_text())["parts"] == read_data(page)["parts"]


def test_a_run_that_is_not_finished_says_so(trained: Path, tmp_path: Path):
    for name in ("epoch_1.pt", "snapshots"):
        source = trained / "checkpoints" / "tiny" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    page = write_report(tmp_path).read_text()
    assert "This run is not finished: 2 of 4 steps are behind it." in page
    assert read_data(page)["moments"][-1] == "epoch 1"


def test_a_run_before_its_first_epoch_has_a_page(trained: Path, tmp_path: Path):
    shutil.copy(trained / "checkpoints" / "tiny" / "init.pt", tmp_path)
    data = read_data(write_report(tmp_path).read_text())
    assert data["moments"] == ["epoch 0"]
    assert not data["curve"]
    assert not data["standing"]


def test_a_log_alone_gives_the_curves(trained: Path, tmp_path: Path):
    (log,) = (trained / "runs").iterdir()
    shutil.copy(log / "metrics.jsonl", tmp_path)
    page = write_report(tmp_path).read_text()
    assert "The checkpoints of this run are gone" in page
    assert read_data(page)["curve"]["epoch"] == [1, 2]
    assert not read_data(page)["parts"]


def test_a_log_without_a_validation_says_so(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    assert "stopped before its first validation" in write_report(tmp_path).read_text()


def test_a_folder_of_no_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert runner.main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path} is no folder of a run: it holds neither a checkpoint nor metrics.jsonl.\n"
    )
    assert runner.main(["report", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"There is no folder {tmp_path / 'nowhere'}.\n"
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_told(tmp_path: Path):
    (tmp_path / "last.pt").write_bytes(b"PK half a checkpoint")
    with pytest.raises(UserError, match=r"last\.pt"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_network_without_wiring_shows_its_architecture(tmp_path: Path):
    plain = {"model": "resnet", "depth": 8, "wiring": "complete", "prune_rate": 0.0, "num_steps": 2}
    run(tiny(tmp_path, **plain, only_batches=2))
    page = write_report(tmp_path / "checkpoints" / "tiny").read_text()
    assert 'class="architecture"' in page
    assert 'id="wiring"' not in page
    assert not read_data(page)["parts"]


def test_training_ends_with_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    results = run(tiny(tmp_path, **{**QUICK, "report": True}))
    page = tmp_path / "checkpoints" / "tiny" / "report.html"
    assert results["report"] == str(page)
    assert capsys.readouterr().out.rstrip().endswith(f"report: {page} (in any browser: {page.as_uri()})")
    assert read_data(page.read_text())["parts"]


def test_a_fault_of_the_page_does_not_take_the_results(tmp_path: Path, monkeypatch, capsys):
    def fail(_: Path) -> Path:
        raise RuntimeError("out of ink")

    monkeypatch.setattr("genutil.run_report.write_report", fail)
    results = run(tiny(tmp_path, **{**QUICK, "report": True}))
    assert results["report"] is None
    assert results["top1"] > 0
    assert "There is no report: RuntimeError: out of ink. Try: python runner.py report" in capsys.readouterr().err
