from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import runner
from genutil.errors import UserError
from genutil.reports import trackers
from genutil.reports.logs import RunLog, read_metrics
from genutil.reports.trackers import Trackers, follow, require
from genutil.run import run
from tests.genutil.runs import tiny

QUICK = {"num_epochs": 2, "only_batches": 2, "skip_profiling": True, "threads": 1}


class Remembers:
    """A service that keeps what it gets, and may fail."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, Any]) -> None:
        self.name, self.got, self.broken = name, [], False
        if name == "refused":
            raise RuntimeError("no login\nmany further lines")
        made.append(self)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        if self.broken:
            raise ConnectionError("the line is dead")
        self.got.append((step, dict(values)))

    def pictures(self, pictures: Mapping[str, torch.Tensor], step: int) -> None:
        self.got.append((step, sorted(pictures)))

    def close(self, finished: bool) -> None:
        self.got.append(finished)


made: list[Remembers] = []


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch) -> None:
    made.clear()
    monkeypatch.setitem(trackers.TRACKERS, "remembers", Remembers)


def record(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "step": 10 * epoch, "train_loss": 1 / epoch, "validated_on": "test"}


def test_they_get_what_tensorboard_gets(tmp_path: Path):
    with RunLog(tmp_path, [record(1)], Trackers(["remembers"], "run", tmp_path, {})) as log:
        log.steps({"epoch": 2, "step": 15, "train_loss": 0.7})
        log.epoch(record(2), {"adjacency/graph": torch.ones(2, 3)})
    assert made[0].got == [
        (10, {"epoch": 1, "train_loss": 1.0}),
        (15, {"step/train_loss": 0.7}),
        (20, {"epoch": 2, "train_loss": 0.5}),
        (20, ["adjacency/graph"]),
        True,
    ]


def test_a_run_that_fails_is_closed_as_such(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), RunLog(tmp_path, (), Trackers(["remembers"], "run", tmp_path, {})):
        raise KeyboardInterrupt
    assert made[0].got == [False]


def test_a_service_that_fails_is_told_of_once_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    both = Trackers(["remembers"], "run", tmp_path, {})
    made[0].broken = True
    with RunLog(tmp_path, (), both) as log:
        for epoch in (1, 2, 3):
            log.epoch(record(epoch))
    assert len(read_metrics(tmp_path)) == 3
    assert capsys.readouterr().err == "remembers fails, and training goes on without it: the line is dead\n"


def test_a_service_that_refuses_is_told_in_a_sentence(tmp_path: Path):
    with pytest.raises(UserError, match=r"^tracker: remembers does not begin: no login$"):
        Trackers(["remembers"], "refused", tmp_path, {})


def test_without_names_or_a_log_there_are_none(tmp_path: Path):
    assert follow([], "run", tmp_path, {}) is None
    assert follow(["remembers"], "run", None, {}) is None


def test_a_missing_package_is_told_before_anything_is_written(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"^tracker: wandb needs the package wandb, .*: pip install wandb\.$"):
        run(tiny(tmp_path, tracker=["wandb"]))
    assert not list(tmp_path.iterdir())
    require([])


def test_another_service_is_told(capsys: pytest.CaptureFixture[str]):
    assert runner.main(["app:quickstart", "--tracker", "diary"]) == 2
    assert capsys.readouterr().err == "--tracker must be a list of names out of wandb, mlflow, not ['diary'].\n"
    assert runner.main(["app:quickstart", "--tracker", "wandb", "wandb"]) == 2
    assert capsys.readouterr().err == "tracker names one twice: wandb, wandb.\n"


@pytest.mark.slow
def test_mlflow_keeps_a_run_in_its_local_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("mlflow", reason="needs the package mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store.db")
    results = run(tiny(tmp_path, tracker=["mlflow"], **QUICK))
    client = MlflowClient()
    (experiment,) = [one for one in client.search_experiments() if one.name == trackers.PROJECT]
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("tiny", "FINISHED")
    assert found.data.params["wiring"] == "dnw"
    curve = [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, "validation_top1")]
    assert curve == [(line["step"], line["validation_top1"]) for line in read_metrics(results["log"])]
    pictures = [file.path for file in client.list_artifacts(found.info.run_id, "adjacency/graph")]
    assert len(pictures) == 2


@pytest.mark.slow
def test_wandb_keeps_a_run_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb", reason="needs the package wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    results = run(tiny(tmp_path, tracker=["wandb"], **QUICK))
    (folder,) = (Path(results["log"]) / "wandb").glob("offline-run-*")
    (file,) = folder.glob("*.wandb")
    content = file.read_bytes()
    for name in (b"validation_top1", b"edges_swapped", b"adjacency/graph", b"prune_rate"):
        assert name in content
    assert len(list(folder.rglob("*.png"))) == 2
