"""When validations come, epochs end, and a training is over."""

from __future__ import annotations

import pytest

from genutil.config import Experiment
from genutil.training.progress import Progress
from genutil.training.timetable import Timetable


def course(steps_per_epoch: int, **settings: int) -> tuple[list[int], list[int]]:
    """The updates after which validations come, and after which epochs end, of a whole training."""
    progress = Progress(steps_per_epoch)
    timetable = Timetable(Experiment(**settings), progress)
    validations, ends = [], []
    while progress.epoch < timetable.epochs:
        progress.step = timetable.next_halt
        if timetable.validation_due:
            validations.append(progress.updates)
            progress.validated = progress.updates
        if progress.step >= timetable.epoch_end:
            ends.append(progress.updates)
            progress.epoch, progress.step = progress.epoch + 1, 0
    return validations, ends


@pytest.mark.parametrize(
    ("settings", "validations", "ends"),
    [
        ({"num_epochs": 3}, [5, 10, 15], [5, 10, 15]),
        ({"num_epochs": 0}, [], []),
        ({"num_steps": 12}, [5, 10, 12], [5, 10, 12]),
        ({"num_steps": 10}, [5, 10], [5, 10]),
        ({"num_epochs": 2, "val_interval": 4}, [4, 8, 10], [5, 10]),
        ({"num_epochs": 2, "val_interval": 5}, [5, 10], [5, 10]),
        ({"num_steps": 12, "val_interval": 4}, [4, 8, 12], [5, 10, 12]),
        ({"num_steps": 7, "val_interval": 100}, [7], [5, 7]),
        ({"num_epochs": 1, "val_interval": 1}, [1, 2, 3, 4, 5], [5]),
    ],
)
def test_validations_and_epochs(settings: dict[str, int], validations: list[int], ends: list[int]) -> None:
    assert course(5, **settings) == (validations, ends)


def test_a_validation_that_was_done_is_not_due_again() -> None:
    progress = Progress(5, step=4)
    timetable = Timetable(Experiment(num_epochs=2, val_interval=4), progress)
    assert timetable.validation_due
    assert timetable.next_halt == 4  # nothing is trained before it
    progress.validated = 4
    assert not timetable.validation_due
    assert timetable.next_halt == 5


def test_positions_and_the_time_that_is_left() -> None:
    progress = Progress(5, epoch=1, step=3, validated=5)
    timetable = Timetable(Experiment(num_epochs=4), progress)
    assert timetable.position(2, 8) == "epoch 2/4"
    assert timetable.seconds_left(6.0) == 24.0  # 3 steps took them, and 12 are left
    by_steps = Timetable(Experiment(num_epochs=4, val_interval=2), progress)
    assert by_steps.position(2, 8) == "step 8/20"
