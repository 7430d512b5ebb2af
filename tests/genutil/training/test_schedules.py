from __future__ import annotations

import math

import pytest
import torch

from genutil.config import Experiment
from genutil.training.schedules import make_schedule


def rates(steps_per_epoch: int, count: int, **settings) -> list[float]:
    schedule = make_schedule(Experiment(**settings), steps_per_epoch)
    return [schedule.lr(step) for step in range(count)]


def test_constant() -> None:
    assert rates(3, 6, lr_scheduler="constant", lr=0.2, num_epochs=2) == [0.2] * 6


def test_multistep_counts_epochs_from_zero() -> None:
    found = rates(2, 8, lr_scheduler="multistep", lr=1.0, num_epochs=4, multistep_lr_milestones=[1, 3])
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("length", [{"num_epochs": 4}, {"num_steps": 8}])
def test_milestones_below_one_are_shares_of_the_training(length) -> None:
    settings = {"lr_scheduler": "multistep", "lr": 1.0, **length}
    found = rates(2, 8, **settings, multistep_lr_milestones=[0, 0.5, 0.75])
    assert found == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
    assert rates(2, 8, **settings, multistep_lr_milestones=[0.75, 1]) == pytest.approx([1, 1, *[0.1] * 4, 0.01, 0.01])


def test_exponential_falls_by_epoch() -> None:
    found = rates(2, 6, lr_scheduler="exponential", lr=1.0, num_epochs=3, exp_decaying_lr_gamma=0.5)
    assert found == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])


def test_linear_ends_at_zero() -> None:
    found = rates(2, 4, lr_scheduler="linear", lr=1.0, num_epochs=2)
    assert found == pytest.approx([0.75, 0.5, 0.25, 0])


def test_cosine_equals_torchs_stepped_before_each_update() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)
    expected = []
    optimizer.step()
    for _ in range(40):
        theirs.step()
        expected.append(theirs.get_last_lr()[0])
    assert rates(10, 40, lr_scheduler="cosine", lr=0.3, num_epochs=4) == pytest.approx(expected, abs=1e-12)


def test_cosine_closed_form() -> None:
    found = rates(5, 20, lr_scheduler="cosine", lr=0.1, num_epochs=4)
    assert found == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 20)) for t in range(1, 21)], abs=1e-15)
    assert found[-1] == 0


def test_warm_up_rises_to_the_rate_and_the_cosine_is_laid_over_the_rest() -> None:
    found = rates(4, 16, lr_scheduler="cosine", lr=0.8, num_epochs=4, warmup_epochs=1)
    assert found[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert found[4:] == pytest.approx([0.4 * (1 + math.cos(math.pi * t / 12)) for t in range(1, 13)], abs=1e-15)


@pytest.mark.parametrize("warm_up", [4, 0.25])
def test_warm_up_in_steps_or_as_a_share_of_the_training(warm_up) -> None:
    found = rates(4, 16, lr_scheduler="cosine", lr=0.8, num_epochs=4, warmup_steps=warm_up)
    assert found == rates(4, 16, lr_scheduler="cosine", lr=0.8, num_epochs=4, warmup_epochs=1)


def test_cosine_by_epoch_stays_for_an_epoch() -> None:
    found = rates(2, 10, lr_scheduler="cosine_by_epoch", lr=0.8, num_epochs=5, warmup_epochs=1)
    falling = [0.4 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]
    assert found == pytest.approx([0.4, 0.8, *(rate for rate in falling for _ in range(2))], abs=1e-15)


def test_warm_up_leaves_milestones_and_epochs_where_they_are() -> None:
    steps = rates(2, 8, lr_scheduler="multistep", lr=1.0, num_epochs=4, multistep_lr_milestones=[2], warmup_epochs=0.5)
    assert steps == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1])
    falling = rates(2, 6, lr_scheduler="exponential", lr=1.0, num_epochs=3, exp_decaying_lr_gamma=0.5, warmup_epochs=1)
    assert falling == pytest.approx([0.5, 1, 0.5, 0.5, 0.25, 0.25])


def test_epoch_len_takes_the_place_of_the_datas_steps() -> None:
    found = rates(5, 10, lr_scheduler="cosine", lr=1.0, num_epochs=2, epoch_len=10)
    assert found == pytest.approx([0.5 * (1 + math.cos(math.pi * t / 20)) for t in range(1, 11)])


def test_beyond_the_end_the_rate_stays() -> None:
    found = rates(5, 30, lr_scheduler="cosine", lr=1.0, num_epochs=2, epoch_len=3)
    assert found[6:] == [0] * 24


@pytest.mark.parametrize(
    "settings", [{"lr_scheduler": "cosine", "warmup_epochs": 1}, {"lr_scheduler": "constant"}], ids=str
)
def test_the_rate_grows_with_the_batch(settings: dict) -> None:
    own = make_schedule(Experiment(batch_size=256, lr=0.2, num_epochs=3, **settings), 10)
    scaled = make_schedule(Experiment(batch_size=256, lr=0.1, lr_batch_size=128, num_epochs=3, **settings), 10)
    assert [scaled.lr(step) for step in range(30)] == pytest.approx([own.lr(step) for step in range(30)])


def test_given_rates_grow_with_the_batch() -> None:
    steps = {"lr_scheduler": "steps", "lr_values": [0.4, 0.1], "lr_boundaries": [2]}
    schedule = make_schedule(Experiment(batch_size=64, lr_batch_size=128, **steps), 10)
    assert [schedule.lr(step) for step in range(4)] == pytest.approx([0.2, 0.2, 0.05, 0.05])
