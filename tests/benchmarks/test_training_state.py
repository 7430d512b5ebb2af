"""How far each training of a queue is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.training_list import listing
from benchmarks.training_process import Machine, command, only_one, waits_for
from benchmarks.training_queue import Entry, Run
from benchmarks.training_state import (
    DONE,
    FAULTY,
    FINISHED,
    MISSING,
    RUNNING,
    STARTED,
    Places,
    running,
)
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.run import run
from genutil.saved import checkpoints
from tests.genutil.runs import TINY

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {key: value for key, value in TINY.items() if key not in ("name", "gpus", "data", "image_size", "in_channels")}
SMALL |= {"num_epochs": 2, "image_size": 16}


@pytest.fixture(scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def entry() -> Entry:
    return Entry("quickstart", (0, 1), "small", {**SMALL, "checkpoint_interval": 1})


@pytest.fixture(scope="module")
def trained(entry: Entry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run of the queue was trained to its end, without a result."""
    folder = tmp_path_factory.mktemp("trained")
    settings = entry.resolved(0, folder / "checkpoints")
    places = {"save_dir": str(folder / "checkpoints"), "log_dir": str(folder / "logs"), "name": "small-0"}
    run(Experiment.from_settings({**settings, **places, "gpus": []}))
    return folder


@pytest.fixture
def places(trained: Path, tmp_path: Path) -> Places:
    """A copy of it."""
    shutil.copytree(trained, tmp_path / "folder")
    return Places(tmp_path / "folder", tmp_path / "results")


def test_a_run_goes_from_missing_to_done(places: Places, entry: Entry) -> None:
    first, second = places.states([Run(entry, 0), Run(entry, 1)])
    assert (first.what, second.what) == (FINISHED, MISSING)
    assert first.epochs == 2
    words = command(first, places, Machine(threads=1))
    assert {"--evaluate", "--results_dir"} <= set(words)
    given = {"resume": str(first.checkpoint), "evaluate": True, "gpus": [], "experiment": "quickstart"}
    saved = checkpoints.read(first.checkpoint)["settings"]
    run(Experiment.from_saved(saved, {**given, "results_dir": str(places.results)}))
    (done,) = places.states([Run(entry, 0)])
    assert (done.what, done.epochs) == (DONE, 2)
    other = Run(Entry("quickstart", (0,), "other", {**SMALL, "lr": 0.2}), 0)
    assert places.states([other])[0].what == MISSING, "a result with another rate is not its result"


def test_a_started_run_goes_on_from_its_last_checkpoint(places: Places, entry: Entry) -> None:
    folder = places.checkpoints / "small-0"
    shutil.move(folder / "epoch_1.pt", folder / "last.pt")
    (state,) = places.states([Run(entry, 0)])
    assert (state.what, state.epochs, state.checkpoint) == (STARTED, 1, folder / "last.pt")
    words = command(state, places, Machine())
    assert words[2:4] == ["--resume", str(folder / "last.pt")]
    assert "--evaluate" not in words
    (folder / "last.pt").unlink()
    (state,) = places.states([Run(entry, 0)])
    assert (state.what, state.epochs, state.checkpoint) == (STARTED, 0, folder / "init.pt")


def test_a_missing_run_states_its_settings(places: Places) -> None:
    entry = Entry("quickstart", (7,), "other", {"graph_param": [32, 4, 0], "lr_values": [], "nesterov": True})
    (state,) = places.states([Run(entry, 7)])
    words = command(state, places, Machine(2, 5, (3, 4), "data", verify=False), slot=3)
    told = " ".join(words[2:])
    assert told.startswith(
        "app:quickstart --graph_param 32 4 0 --lr_values [] --nesterov true --seed 7 --name other-7 "
    )
    assert told.endswith("--gpus 4 --threads 2 --data_dir data --verify false")


def test_a_checkpoint_of_another_training_is_not_gone_on_with(places: Places, entry: Entry) -> None:
    (state,) = places.states([Run(Entry("quickstart", (0,), "small", {**SMALL, "lr": 0.5}), 0)])
    assert state.what == FAULTY
    assert state.fault == f"{places.checkpoints / 'small-0' / 'last.pt'} has lr 0.1, not 0.5."
    (places.checkpoints / "small-0" / "last.pt").write_bytes(b"no checkpoint")
    (state,) = places.states([Run(entry, 0)])
    assert (state.what, "cannot be read as a PyTorch checkpoint" in str(state.fault)) == (FAULTY, True)


def test_trainings_that_somebody_started_by_hand_are_found(places: Places, entry: Entry, tmp_path: Path) -> None:
    (tmp_path / "runner.py").write_text("import time\ntime.sleep(60)\n")
    words = [sys.executable, "runner.py", "app:quickstart", "--name", "small-0", "--save_dir", "folder/checkpoints"]
    resumed = [sys.executable, "runner.py", "--resume", str(places.checkpoints / "small-1" / "last.pt")]
    started = [subprocess.Popen(one, cwd=tmp_path) for one in (words, resumed)]
    try:
        until = time.monotonic() + 20
        expected = {"small-0": started[0].pid, "small-1": started[1].pid}
        while running(places.checkpoints) != expected and time.monotonic() < until:
            time.sleep(0.05)
        assert running(places.checkpoints) == expected
        assert running(tmp_path) == {}
        first, second = places.states([Run(entry, 0), Run(entry, 1)])
        assert (first.what, first.process, first.epochs) == (RUNNING, started[0].pid, 2)
        assert (second.what, second.process) == (RUNNING, started[1].pid)
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert running(places.checkpoints) == {}


def test_entries_wait_for_their_machine_and_for_others(places: Places, entry: Entry) -> None:
    after = Entry("quickstart", (0, 1), "after", SMALL, after=entry)
    assert waits_for(Run(after, 0), places, Machine()) is None
    assert waits_for(Run(after, 1), places, Machine()) == "waits for small-1"
    on = {device: Run(Entry("quickstart", (0,), "x", {}, device), 0) for device in ("cpu", "gpu")}
    assert waits_for(on["gpu"], places, Machine()) == "waits for a GPU"
    assert waits_for(on["cpu"], places, Machine(gpus=(0,))) == "for a CPU alone"
    assert waits_for(on["gpu"], places, Machine(gpus=(0,))) is None


def test_the_list_tells_states_and_times_of_a_kind(places: Places, entry: Entry) -> None:
    shutil.move(places.checkpoints / "small-0" / "epoch_1.pt", places.checkpoints / "small-0" / "last.pt")
    unknown = Entry("cifar/resnet20_v1", (0,), "resnet20_v1")
    states = places.states([Run(entry, 0), Run(entry, 1), Run(unknown, 0)])
    pace = states[0].seconds_per_step * states[0].steps_per_epoch
    lines = [line.split() for line in listing(states, places, Machine(), 1).splitlines()]
    assert lines[1][:6] == ["small-0", "2", "epochs", "started", "1", f"{pace:.1f}"]
    assert lines[2][:5] == ["small-1", "2", "epochs", "missing", f"{pace:.1f}"]
    assert lines[3] == ["resnet20_v1-0", "64,000", "steps", "missing", "?", "?"]
    assert " ".join(lines[4]).startswith("0 of 3 trainings are done. Left here: 0:00:0")
    assert " ".join(lines[4]).endswith("and 1 of unknown length.")


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    with only_one(tmp_path / "folder"):
        refused = pytest.raises(UserError, match=f"Another queue works in .*: process {os.getpid()}")
        with refused, only_one(tmp_path / "folder"):
            pass
    with only_one(tmp_path / "folder"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"), only_one(tmp_path / "file"):
        pass
