"""Where training stands, and the sums of what it did."""

from __future__ import annotations

import pytest
import torch

from genutil.errors import UserError
from genutil.training.progress import Meter, Progress, Totals


def test_progress_comes_back_as_it_was_saved() -> None:
    progress = Progress(
        5,
        epoch=2,
        step=3,
        validated=10,
        best={"epoch": 1, "step": 5, "top1": 50.0, "loss": 1.0},
        history=[{"epoch": 1}],
        totals=Totals(1.0, 2.0, 3.0, 4.0),
        noted=Totals(0.5, 1.0, 1.0, 0.0),
        acting={"graph": torch.tensor([True, False])},
    )
    other = Progress(5)
    other.restore(progress.to_saved(), "last.pt")
    assert other.updates == progress.updates == 13
    for name in ("epoch", "step", "validated", "best", "history", "totals", "noted"):
        assert getattr(other, name) == getattr(progress, name)
    assert torch.equal(other.acting["graph"], progress.acting["graph"])


def test_a_checkpoint_from_before_steps_were_noted_comes_back() -> None:
    saved = Progress(5, epoch=2).to_saved()
    del saved["noted"]
    progress = Progress(5)
    progress.restore(saved, "last.pt")
    assert (progress.epoch, progress.noted) == (2, Totals())


def test_epochs_of_another_length_go_on_at_their_beginning_alone() -> None:
    progress = Progress(3)
    progress.restore(Progress(5, epoch=2).to_saved(), "last.pt")
    assert (progress.steps_per_epoch, progress.updates) == (3, 6)
    with pytest.raises(UserError, match=r"last\.pt was saved within an epoch of 5 steps, and an epoch has 3 now"):
        progress.restore(Progress(5, epoch=2, step=1).to_saved(), "last.pt")


def test_a_piece_is_noted_where_the_machine_is_another_one() -> None:
    progress = Progress(5)
    progress.begin_piece({"cores": 2})
    progress.step = 3
    progress.begin_piece({"cores": 2})
    progress.begin_piece({"cores": 4})
    assert progress.pieces == [{"step": 0, "cores": 2}, {"step": 3, "cores": 4}]


def test_a_meter_adds_to_its_totals_only_when_it_is_read() -> None:
    totals = Totals(loss=1.0, correct=2.0, images=4.0, seconds=10.0)
    meter = Meter(totals)
    meter.add(torch.tensor(2.0), torch.tensor(1), 8)
    meter.add(torch.tensor(3.0), torch.tensor(5), 6)
    assert (totals.loss, totals.images) == (1.0, 4.0)
    assert meter.read() == [2.0, 3.0]
    assert (totals.loss, totals.correct, totals.images) == (6.0, 8.0, 18.0)
    assert totals.seconds > 10.0
    assert meter.read() == []
    totals.seconds = 2.0
    assert meter.summary(processes=2) == "loss 0.3333, top-1 44.44 %, 18 images/s"
