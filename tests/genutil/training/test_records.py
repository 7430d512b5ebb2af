"""Records of steps and validations, from known sums."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning_fabric import Fabric
from torch import nn

from genutil.evaluation.scores import Scores
from genutil.reports.logs import RunLog, read_metrics
from genutil.training.progress import Progress, Totals
from genutil.training.records import Records
from genutil.training.schedules import MultiStep
from genutil.training.timetable import Timetable
from genutil.training.wiring_watch import WiringWatch
from tests.genutil.parts import SmallNet, recipe


def records(progress: Progress, network: nn.Module | None = None, log: RunLog | None = None, **more) -> Records:
    return Records(
        fabric=Fabric(accelerator="cpu", devices=1),
        progress=progress,
        timetable=Timetable(recipe(num_epochs=4), progress),
        schedule=MultiStep(0.1, (7,), 0.5),
        watch=WiringWatch(network or SmallNet()),
        log=log or RunLog(None),
        **{"say": lambda _: None, "validated_on": "test", "measured": False, **more},
    )


def trained_for(totals: Totals) -> Progress:
    return Progress(5, epoch=1, step=3, validated=5, totals=totals)


def scores(top1: float) -> Scores:
    return Scores(top1=top1, top5=90.0, loss=1.5, images=30, seconds=0.5)


def test_steps_are_means_since_the_last_note() -> None:
    progress = trained_for(Totals(loss=20.0, correct=4, images=10, seconds=2.0))
    noted = records(progress)
    noted.note_steps(in_metrics=True)
    progress.totals.loss, progress.totals.correct, progress.totals.images = 26.0, 9, 30
    noted.note_steps(in_metrics=True)
    place = {"epoch": 2, "step": 8, "lr": 0.05}
    assert progress.history == [
        place | {"train_loss": 2.0, "train_top1": 40.0},
        place | {"train_loss": 0.3, "train_top1": 25.0},
    ]


def test_steps_for_the_curve_alone_are_no_part_of_the_history(tmp_path: Path) -> None:
    progress = trained_for(Totals(loss=20.0, correct=4, images=10, seconds=2.0))
    with RunLog(tmp_path) as log:
        records(progress, log=log).note_steps(in_metrics=False)
    assert progress.history == read_metrics(tmp_path) == []
    assert progress.noted.images == 10


def test_a_validation_is_noted_and_the_sums_begin_anew() -> None:
    progress = trained_for(Totals(loss=20.0, correct=4, images=10, seconds=2.0))
    said: list[str] = []
    assert records(progress, say=said.append, validated_on="validation").note_validation(scores(50.0))
    (record,) = progress.history
    assert record == {
        "epoch": 2,
        "step": 8,
        "lr": 0.05,
        "train_loss": 2.0,
        "train_top1": 40.0,
        "validation_top1": 50.0,
        "validation_top5": 90.0,
        "validation_loss": 1.5,
        "validated_on": "validation",
        "images_per_second": 5.0,
        "seconds": 2.5,
    }
    assert said[0].startswith("epoch 2/4  loss 2.0000  top-1 40.00 %  validation 50.00 % (best 50.00)")
    assert said[0].endswith("0:00:10 left")
    assert (progress.validated, progress.totals, progress.noted, progress.acting) == (8, Totals(), Totals(), {})


@pytest.mark.parametrize(("top1", "better"), [(50.0, False), (49.0, False), (51.0, True)])
def test_only_a_higher_accuracy_is_better(top1: float, better: bool) -> None:
    progress = trained_for(Totals(loss=20.0, correct=4, images=10, seconds=2.0))
    before = progress.best = {"epoch": 1, "step": 5, "top1": 50.0, "loss": 1.0}
    assert records(progress).note_validation(scores(top1)) is better
    assert progress.best == ({"epoch": 2, "step": 8, "top1": 51.0, "loss": 1.5} if better else before)


def test_the_network_is_measured_where_asked_for() -> None:
    network = SmallNet()
    progress = trained_for(Totals(loss=20.0, correct=4, images=10, seconds=2.0))
    progress.acting = {name: ~edges for name, edges in WiringWatch(network).acting().items()}
    kept = network.graph.wiring.kept
    records(progress, network, measured=True).note_validation(scores(50.0))
    assert progress.history[0]["edges_swapped"] == kept
