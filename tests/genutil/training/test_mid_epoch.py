"""last.pt by the clock: a run that is killed within an epoch goes on from it, equal to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data import record_writers
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.run import run
from genutil.saved import checkpoints
from genutil.training.loop import Training
from tests.genutil.parts import assert_equal, make_training, recipe, state
from tests.genutil.runs import noise_folders, tiny, weights
from tests.genutil.training.test_keeper import KilledError
from tests.genutil.training.test_loop import resumed

pytestmark = pytest.mark.usefixtures("one_thread")

AT_ONCE = 1e-9
"""Minutes that have always passed."""

STEPS = 6
"""Of an epoch of `images`."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with 60 images in three class folders, and the same as records."""
    folder = tmp_path_factory.mktemp("data")
    noise_folders(folder / "shapes", classes=3, train=20, test=4)
    record_writers.write_image_folders(folder / "shapes", folder / "shards", 2, processes=1)
    return folder


def experiment(folder: Path, images: Path, kind: str, workers: int, **settings: Any) -> Experiment:
    stated = {
        "wiring": "random" if kind == "shapes" else "dnw",
        "optimizer": "adam" if kind == "shards" else "sgd",
        "lr": 0.01,
        "lr_scheduler": "steps",
        "lr_values": [0.01, 0.003, 0.001],
        "lr_boundaries": [4, 9],
        "log_interval": 4,
        "skip_profiling": True,
        "checkpoint_interval": 1,
    }
    if kind != "digits":
        stated |= {"data": kind, "data_dir": str(images), "output_size": 3, "batch_size": 10, "workers": workers}
    else:
        stated |= {"only_batches": STEPS, "batch_size": 64}
    return tiny(folder, **{**stated, **settings})


def assert_same_runs(one: Path, other: Path) -> None:
    """That two folders have the same checkpoints, but for seconds."""
    names = {path.name for path in one.iterdir()}
    assert {path.name for path in other.iterdir()} == names
    for name in sorted(name for name in names if name.endswith(".pt")):
        assert_equal(weights(one / name), weights(other / name))
        first, second = (checkpoints.read(folder / name)["progress"] for folder in (one, other))
        for key in first.keys() - {"history", "totals", "noted", "acting"}:
            assert first[key] == second[key], f"{name}: {key}"
        assert_equal(first["acting"], second["acting"])
        without = [
            [{key: value for key, value in record.items() if "second" not in key} for record in progress["history"]]
            for progress in (first, second)
        ]
        assert without[0] == without[1]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["digits", "shapes", "shards"])
def test_a_run_killed_within_an_epoch_goes_on_bit_for_bit(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch, kind: str, workers: int
) -> None:
    if kind == "digits" and workers:
        pytest.skip("images in memory are read by no workers")
    run(experiment(tmp_path / "whole", images, kind, workers))
    update, done = Training.update, 0

    def until_killed(self: Training, *given: Any) -> Any:
        nonlocal done
        if done == STEPS + 3:
            raise KilledError
        done += 1
        return update(self, *given)

    monkeypatch.setattr(Training, "update", until_killed)
    with pytest.raises(KilledError):
        run(experiment(tmp_path / "killed", images, kind, workers, checkpoint_minutes=AT_ONCE))
    monkeypatch.setattr(Training, "update", update)
    folder = tmp_path / "killed" / "checkpoints" / "tiny"
    progress = checkpoints.read(folder / "last.pt")["progress"]
    assert (progress["epoch"], progress["step"]) == (1, 3)
    run(experiment(tmp_path / "killed", images, kind, workers, resume="auto"))
    assert_same_runs(tmp_path / "whole" / "checkpoints" / "tiny", folder)


@pytest.mark.parametrize("settings", [{}, {"val_interval": 4, "log_interval": 3}])
@pytest.mark.parametrize("step", [1, 4, 5, 7, 10, 13])
def test_every_step_can_be_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, settings: dict
) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = make_training(tmp_path / "whole", recipe(**settings))
    whole.run()
    killed = make_training(tmp_path / "killed", recipe(checkpoint_minutes=AT_ONCE, **settings))
    update = killed.update

    def until_killed(*given: Any) -> Any:
        if killed.progress.updates == step:
            raise KilledError
        return update(*given)

    monkeypatch.setattr(killed, "update", until_killed)
    with pytest.raises(KilledError):
        killed.run()
    continued = resumed(tmp_path / "killed" / "last.pt", **settings)
    assert continued.progress.updates == step
    continued.run()
    assert_equal(state(whole.network), state(continued.network))
    assert_same_runs(tmp_path / "whole", tmp_path / "killed")


def test_the_clock_says_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("genutil.training.loop.time.monotonic", lambda: now)
    training = make_training(tmp_path, recipe(num_epochs=2, checkpoint_minutes=2 / 60))
    update, written, write = training.update, [], checkpoints.write

    def a_second(*given: Any) -> Any:
        nonlocal now
        now += 1
        return update(*given)

    monkeypatch.setattr(training, "update", a_second)
    monkeypatch.setattr(
        checkpoints, "write", lambda path, contents: written.append((path.stem, now)) or write(path, contents)
    )
    training.run()
    assert [second for name, second in written if name == "last"] == [2, 4, 5, 7, 9, 10]


def test_without_the_key_there_is_none_within_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genutil.training.loop.time.monotonic", iter(range(0, 10**9, 10**6)).__next__)
    training = make_training(tmp_path, recipe(num_epochs=1))
    saved = []
    monkeypatch.setattr(training.keeper, "save", lambda *names: saved.append(names))
    training.run()
    assert len(saved) == 1


@pytest.mark.parametrize("minutes", [0, -1, "often"])
def test_minutes_are_a_number_above_0(tmp_path: Path, minutes: Any) -> None:
    with pytest.raises(UserError, match="checkpoint_minutes must be a number, above 0"):
        tiny(tmp_path, checkpoint_minutes=minutes)
