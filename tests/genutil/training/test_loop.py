"""The training loop: what it ends with, saves, and goes on from."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genutil.errors import UserError
from genutil.evaluation.scores import evaluate
from genutil.reports.logs import RunLog, read_metrics
from genutil.saved import checkpoints, loading
from genutil.saved.source import open_source
from genutil.system.interruption import Interrupted, StopRequest
from genutil.training.progress import Totals
from tests.genutil.parts import (
    Batch,
    Data,
    MemoryLoader,
    SmallNet,
    assert_equal,
    make_data,
    make_training,
    recipe,
    state,
)

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 5
"""Training steps of an epoch of `make_data`."""


def whole(tmp_path: Path, **settings) -> dict[str, Tensor]:
    """The weights of a run that nothing stopped."""
    training = make_training(make(tmp_path / "whole"), recipe(**settings))
    training.run()
    return state(training.network)


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def resumed(path: Path, folder: Path | None = None, **settings):
    """A training resumed from a checkpoint."""

    def prepare(network, optimizer, progress, fabric) -> None:
        progress.restore(loading.resume(open_source(path), fabric, network, optimizer), path)

    return make_training(
        folder or path.parent, recipe(**{**settings, "seed": settings.get("seed", 0)}), prepare=prepare
    )


class StopAfter(MemoryLoader):
    """Sends this process a signal while the given batch of an epoch is loaded."""

    def __init__(self, loader: MemoryLoader, epoch: int, batch: int) -> None:
        super().__init__(loader.images, loader.labels, loader.batch_size, loader.shuffle)
        self.at = epoch, batch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(super().epoch(epoch, start), start):
            if (epoch, number) == self.at:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch


def interrupted(tmp_path: Path, data: Data, **settings) -> Path:
    """The last.pt of a run that a signal of its data stopped."""
    folder = make(tmp_path / "interrupted")
    with StopRequest() as stop:
        training = make_training(folder, recipe(**settings), data=data, stop=stop)
        with pytest.raises(Interrupted):
            training.run()
    return folder / "last.pt"


def test_it_learns(tmp_path: Path) -> None:
    training = make_training(tmp_path, recipe(num_epochs=8, lr=0.2))
    scores = training.run()
    assert scores.top1 > 85
    assert training.progress.history[-1]["train_loss"] < 0.6 * training.progress.history[0]["train_loss"]


def test_runs_of_one_seed_are_equal_and_of_another_differ(tmp_path: Path) -> None:
    first = whole(make(tmp_path / "1"))
    assert_equal(first, whole(make(tmp_path / "2")))
    assert not torch.equal(first["conv.weight"], whole(make(tmp_path / "3"), seed=1)["conv.weight"])


@pytest.mark.parametrize("settings", [{}, {"lr_scheduler": "multistep", "multistep_lr_milestones": [2]}])
@pytest.mark.parametrize("name", ["init", "epoch_1", "epoch_2", "last", "best"])
def test_every_checkpoint_resumes_to_the_weights_of_a_run_that_never_stopped(
    tmp_path: Path, name: str, settings: dict
) -> None:
    expected = whole(tmp_path, **settings)
    folder = make(tmp_path / "run")
    training = make_training(folder, recipe(checkpoint_interval=1, **settings))
    training.save("init")
    training.experiment.num_epochs = 2  # as if killed after its second epoch
    training.run()
    continued = resumed(folder / f"{name}.pt", make(tmp_path / "continued"), **settings)
    continued.run()
    assert_equal(expected, state(continued.network))


@pytest.mark.parametrize("at", [(0, 0), (0, 3), (1, 0), (2, 4)])
def test_a_run_stopped_within_an_epoch_resumes_bit_for_bit(tmp_path: Path, at: tuple[int, int]) -> None:
    expected = make_training(make(tmp_path / "whole"))
    expected.run()
    data = make_data()
    data.train = StopAfter(data.train, *at)
    path = interrupted(tmp_path, data)
    saved = checkpoints.read(path)["progress"]
    assert (saved["epoch"], saved["step"]) == at
    continued = resumed(path)
    continued.run()
    assert_equal(state(expected.network), state(continued.network))
    for one, other in zip(expected.progress.history, continued.progress.history, strict=True):
        for record in (one, other):
            record.pop("seconds"), record.pop("images_per_second")
        assert one == other
    assert expected.progress.best == continued.progress.best


def test_a_run_stopped_while_it_evaluates_resumes_there(tmp_path: Path) -> None:
    expected = whole(tmp_path)
    data = make_data()
    data.test = StopAfter(data.test, 0, 2)
    path = interrupted(tmp_path, data)
    saved = checkpoints.read(path)["progress"]
    assert (saved["epoch"], saved["step"]) == (0, STEPS)
    continued = resumed(path)
    continued.run()
    assert_equal(expected, state(continued.network))


def test_a_checkpoint_within_an_epoch_of_other_length_is_refused(tmp_path: Path) -> None:
    data = make_data()
    data.train = StopAfter(data.train, 0, 3)
    path = interrupted(tmp_path, data)
    training = make_training(None, data=make_data(batch_size=32))
    with pytest.raises(UserError, match="epoch of 5 steps, and an epoch has 3 now"):
        training.progress.restore(checkpoints.read(path)["progress"], path)


def test_the_rate_follows_the_schedule_through_a_resume(tmp_path: Path) -> None:
    training = make_training(tmp_path, recipe(lr_scheduler="cosine", checkpoint_interval=1))
    training.run()
    rates = [record["lr"] for record in training.progress.history]
    assert rates == pytest.approx([0.025 * (1 + math.cos(math.pi * t / 15)) for t in (5, 10, 15)], abs=1e-15)
    continued = resumed(tmp_path / "epoch_1.pt", lr_scheduler="cosine")
    continued.run()
    assert [record["lr"] for record in continued.progress.history] == rates


def test_best_is_the_epoch_of_highest_accuracy_on_the_validation_images(tmp_path: Path) -> None:
    data = make_data()
    data.validation = MemoryLoader(data.train.images[:40], data.train.labels[:40], 16, shuffle=False)
    training = make_training(tmp_path, recipe(num_epochs=4, lr=0.3, checkpoint_interval=1), data=data)
    training.run()
    accuracies = [record["validation_top1"] for record in training.progress.history]
    assert training.progress.best["top1"] == max(accuracies)
    assert training.progress.best["epoch"] == accuracies.index(max(accuracies)) + 1
    assert {record["validated_on"] for record in training.progress.history} == {"validation"}
    best = checkpoints.read(tmp_path / "best.pt")
    assert best["progress"]["epoch"] == training.progress.best["epoch"]
    network = SmallNet()
    loading.load_weights(open_source(tmp_path / "best.pt"), network)
    scores = evaluate(training.fabric, network, data.validation.epoch(0))
    assert scores.top1 == max(accuracies)


def test_the_files_of_a_run(tmp_path: Path) -> None:
    training = make_training(tmp_path, recipe(num_epochs=4, checkpoint_interval=2))
    training.save("init")
    training.run()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"init.pt", "last.pt", "best.pt", "epoch_2.pt", "epoch_4.pt", "snapshots"}
    assert checkpoints.read(tmp_path / "epoch_2.pt")["progress"]["epoch"] == 2


class Explodes(SmallNet):
    """Its output is not finite from the given training step on."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def forward(self, x: Tensor) -> Tensor:
        self.left -= self.training
        return super().forward(x) * (math.inf if self.left < 0 else 1)


def test_a_loss_that_is_not_finite_stops_with_a_sentence_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    training = make_training(tmp_path, recipe(lr_scheduler="constant"), network=Explodes(STEPS + 2))
    with pytest.raises(UserError) as raised:
        training.run()
    message = str(raised.value)
    assert "step 3 of epoch 2, with a learning rate of 0.05" in message
    assert message.startswith("The loss is nan")
    assert str(tmp_path / "last.pt") in message
    saved = checkpoints.read(tmp_path / "last.pt")
    assert saved["progress"]["epoch"] == 1
    assert all(value.isfinite().all() for value in saved["network"].values() if isinstance(value, Tensor))


def test_without_a_checkpoint_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        make_training(tmp_path, network=Explodes(0)).run()
    assert "checkpoint" not in str(raised.value)


def test_the_record_of_an_epoch(tmp_path: Path) -> None:
    lines: list[str] = []
    with RunLog(tmp_path) as log:
        training = make_training(tmp_path, recipe(num_epochs=2), log=log, say=lines.append)
        first = training.watch.acting()
        scores = training.run()
    records = read_metrics(tmp_path)
    assert records == training.progress.history
    last = records[-1]
    assert (last["epoch"], last["step"], last["validated_on"]) == (2, 2 * STEPS, "test")
    assert (last["validation_top1"], last["validation_top5"], last["validation_loss"]) == (
        scores.top1,
        scores.top5,
        scores.loss,
    )
    assert last["images_per_second"] > 0
    assert last["seconds"] > 0
    lines = [line for line in lines if "snapshots" not in line]
    assert len(lines) == 2
    assert "edges swapped" in lines[0]
    kept = int(first["graph"].sum())
    gone = int((first["graph"] & ~training.watch.acting()["graph"]).sum())
    assert 0 < gone <= sum(record["edges_swapped"] for record in records)
    assert training.watch.acting()["graph"].sum() == kept


def test_validations_every_few_steps_bring_the_checkpoints(tmp_path: Path) -> None:
    training = make_training(tmp_path, recipe(val_interval=4, num_epochs=3, lr=0.3, checkpoint_interval=1))
    scores = training.run()
    history = training.progress.history
    assert [(record["epoch"], record["step"]) for record in history] == [(1, 4), (2, 8), (3, 12), (3, 15)]
    assert history[-1]["validation_top1"] == scores.top1
    best = max(history, key=lambda record: record["validation_top1"])
    assert training.progress.best["step"] == best["step"]
    saved = checkpoints.read(tmp_path / "best.pt")["progress"]
    assert (saved["validated"], len(saved["history"])) == (best["step"], history.index(best) + 1)
    assert [checkpoints.read(tmp_path / f"epoch_{n}.pt")["progress"]["validated"] for n in (1, 2, 3)] == [4, 8, 15]


@pytest.mark.parametrize("interval", [None, 4])
def test_a_run_that_is_resumed_beyond_its_end_ends(tmp_path: Path, interval: int | None) -> None:
    data = make_data()
    data.train = StopAfter(data.train, 0, 3)
    continued = resumed(interrupted(tmp_path, data), num_steps=2, val_interval=interval)
    before = state(continued.network)
    continued.run()
    assert_equal(before, state(continued.network))
    assert continued.progress.epoch == 1


def test_validations_and_notes_change_no_weight(tmp_path: Path) -> None:
    expected = whole(tmp_path)
    often = make_training(make(tmp_path / "often"), recipe(val_interval=2, log_interval=1))
    often.run()
    assert_equal(expected, state(often.network))


@pytest.mark.parametrize("at", [(0, 1), (0, 4), (1, 0), (1, 3), (2, 4)])
def test_a_run_with_intervals_resumes_bit_for_bit(tmp_path: Path, at: tuple[int, int]) -> None:
    settings = {"val_interval": 4, "log_interval": 3}
    expected = make_training(make(tmp_path / "whole"), recipe(**settings))
    expected.run()
    data = make_data()
    data.train = StopAfter(data.train, *at)
    continued = resumed(interrupted(tmp_path, data, **settings), **settings)
    continued.run()
    assert_equal(state(expected.network), state(continued.network))
    one, other = (
        [{key: value for key, value in record.items() if "second" not in key} for record in training.progress.history]
        for training in (expected, continued)
    )
    assert one == other


@pytest.mark.parametrize("validation", [0, 1, 3])
def test_a_run_stopped_at_a_validation_between_epochs_resumes_there(tmp_path: Path, validation: int) -> None:
    class StopAtEvaluation(MemoryLoader):
        evaluations = 0

        def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
            if self.evaluations == validation:
                os.kill(os.getpid(), signal.SIGINT)
            self.evaluations += 1
            yield from super().epoch(epoch, start)

    expected = make_training(make(tmp_path / "whole"), recipe(val_interval=4))
    expected.run()
    data = make_data()
    data.test = StopAtEvaluation(data.test.images, data.test.labels, 8, False)
    path = interrupted(tmp_path, data, val_interval=4)
    assert len(checkpoints.read(path)["progress"]["history"]) == validation
    continued = resumed(path, val_interval=4)
    continued.run()
    assert_equal(state(expected.network), state(continued.network))
    steps = [[record["step"] for record in training.progress.history] for training in (expected, continued)]
    assert steps == [[4, 8, 12, 15]] * 2


def test_notes_of_steps_are_means_since_the_note_before(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        training = make_training(tmp_path, recipe(num_epochs=1, log_interval=1), log=log)
        training.run()
    *steps, epoch = read_metrics(tmp_path)
    assert [record["step"] for record in steps] == [1, 2, 3, 4, 5]
    sizes = [16, 16, 16, 16, 6]
    for name in ("train_loss", "train_top1"):
        mean = sum(size * record[name] for size, record in zip(sizes, steps, strict=True)) / 70
        assert mean == pytest.approx(epoch[name], rel=1e-9)
    assert len({record["train_loss"] for record in steps}) == 5


def test_train_figures_are_means_over_the_images_of_the_epoch() -> None:
    class Still(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.bias + torch.tensor([1.0, 0, 0, 0]) + 0 * x.sum()

    class Many(Still):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).expand(len(x), 4)

    data = make_data()
    training = make_training(None, recipe(num_epochs=1, lr=0.0), network=Many(), data=data)
    training.run()
    labels = data.train.labels
    (record,) = training.progress.history
    logits = torch.tensor([1.0, 0, 0, 0]).expand(len(labels), 4)
    assert record["train_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert record["train_top1"] == pytest.approx(100 * (labels == 0).double().mean().item())


def test_an_image_that_cannot_be_read_is_the_users_to_mend(tmp_path: Path) -> None:
    class Broken(MemoryLoader):
        def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
            raise ValueError("cat/7.png cannot be read")
            yield

    data = make_data()
    data.train = Broken(data.train.images, data.train.labels, 16, shuffle=True)
    with pytest.raises(UserError, match=r"cat/7\.png cannot be read"):
        make_training(tmp_path, data=data).run()


def test_nothing_left_to_train_returns_no_scores(tmp_path: Path) -> None:
    make_training(tmp_path).run()
    continued = resumed(tmp_path / "last.pt")
    assert continued.progress.totals == Totals()
    assert continued.run() is None
