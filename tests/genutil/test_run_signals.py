"""What asks a run to stop, and what happens to what it prints."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runner
from genutil.run import run
from genutil.saved import checkpoints
from genutil.training.loop import Training
from tests.genutil.parts import assert_equal
from tests.genutil.runs import command, environment, noise_folders, tiny, wait_for, weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Lets something happen before the n-th step of a training in this process, counted from 0."""

    def arrange(step: int, act: Callable[[], object]) -> None:
        update = Training.update

        def update_and_act(self: Training, *given: Any) -> Any:
            if self.progress.updates == step:
                act()
            return update(self, *given)

        monkeypatch.setattr(Training, "update", update_and_act)

    return arrange


def words(folder: Path, **settings: Any) -> list[str]:
    return command(folder, skip_profiling="true", only_batches=2, **settings)[2:]


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)]
)
def test_every_signal_saves_and_has_its_status(
    tmp_path: Path, at_step: Callable, capfd: pytest.CaptureFixture[str], number: int, status: int
) -> None:
    at_step(3, lambda: [os.kill(os.getpid(), number) for _ in range(1 if number == signal.SIGINT else 3)])
    assert runner.main(words(tmp_path, num_epochs=3)) == status
    progress = checkpoints.read(tmp_path / "checkpoints" / "tiny" / "last.pt")["progress"]
    assert (progress["epoch"], progress["step"]) == (1, 2)
    out, err = capfd.readouterr()
    assert "Go on with:" in out
    assert "Traceback" not in err


def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path, at_step: Callable) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        at_step(1, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert runner.main(words(tmp_path, num_epochs=1)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("settings", "number", "asked"),
    [
        ({"requeue": "true"}, signal.SIGUSR1, "requeue 71\n"),
        ({"requeue": "true"}, signal.SIGTERM, None),
        ({}, signal.SIGUSR1, None),
    ],
)
def test_a_job_is_requeued_where_that_is_asked_for(
    tmp_path: Path, at_step: Callable, monkeypatch: pytest.MonkeyPatch, settings: dict, number: int, asked: str | None
) -> None:
    program = tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@" >> "$0.asked"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    at_step(1, lambda: os.kill(os.getpid(), number))
    assert runner.main(words(tmp_path, num_epochs=2, **settings)) == 128 + number
    note = Path(f"{program}.asked")
    assert (note.read_text() if note.exists() else None) == asked
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")  # as SLURM starts it again
    assert runner.main(words(tmp_path, num_epochs=2, **settings)) == 0
    folder = tmp_path / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["tiny"]
    assert checkpoints.read(folder / "tiny" / "last.pt")["progress"]["epoch"] == 2


def test_a_disk_that_is_full_to_the_end_ends_in_a_sentence(
    tmp_path: Path, small_disk: Callable[[int], Path], at_step: Callable, capfd: pytest.CaptureFixture[str]
) -> None:
    disk = small_disk(1000)
    at_step(3, lambda: fill(disk))
    given = words(tmp_path, num_epochs=3, checkpoint_interval=1)
    given[given.index("--save_dir") + 1] = str(disk)
    assert runner.main(given) == 2
    out, err = capfd.readouterr()
    assert "epoch_2.pt: No space left on device. It is tried with the next checkpoint; training goes on." in out
    assert "epoch 3/3" in out
    assert err.splitlines()[-1].startswith(f"Cannot write {disk}/tiny/last.pt: No space left on device.")
    assert "Traceback" not in err
    assert checkpoints.read(disk / "tiny" / "last.pt")["progress"]["epoch"] == 1


def fill(disk: Path) -> None:
    with (disk / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def start(words: list[str], **options: Any) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, env=environment(), start_new_session=True, **{**pipes, **options})


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with images in ten class folders."""
    folder = tmp_path_factory.mktemp("data")
    noise_folders(folder / "shapes", classes=10, train=8, test=2)
    return folder


@pytest.mark.slow
def test_sigterm_to_all_processes_saves_and_the_run_goes_on(tmp_path: Path, images: Path) -> None:
    data = {"data": "shapes", "data_dir": str(images), "batch_size": 10, "lr_scheduler": "constant"}
    process = start(command(tmp_path, workers=2, num_epochs=1000, checkpoint_minutes=1e-9, **data))
    last = tmp_path / "checkpoints" / "tiny" / "last.pt"
    wait_for(last, process)
    os.killpg(process.pid, signal.SIGTERM)  # workers and their server too
    out, err = process.communicate(timeout=300)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert "Go on with:" in out
    progress = checkpoints.read(last)["progress"]
    steps = progress["epoch"] * progress["steps_per_epoch"] + progress["step"]
    data |= {"workers": 0, "num_steps": steps + 3}
    run(tiny(tmp_path, resume="auto", **data))
    whole = run(tiny(tmp_path / "whole", **data))
    assert_equal(weights(whole["checkpoint"]), weights(last))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_two_processes_end_with_a_sentence(tmp_path: Path, number: int) -> None:
    given = [word for word in command(tmp_path, num_epochs=2000, devices=2) if word not in ("--gpus", "[]")]
    process = start(given)
    last = tmp_path / "checkpoints" / "tiny" / "last.pt"
    wait_for(last, process)
    if number == signal.SIGKILL:
        os.kill(children(process.pid)[-1], signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err, err
    assert checkpoints.read(last)["progress"]["epoch"] < 2000
    if number == signal.SIGTERM:
        assert process.returncode == 143, err
        assert "--devices 2" in out
    else:
        assert process.returncode == 2, err
        assert "Process 2 of the run was ended from outside by SIGKILL, as the system does" in err


def children(process: int) -> list[int]:
    """The processes of a run that train, in their order."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            trains = b"spawn_main" in (path / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == process and trains:
            found.append(int(path.name))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["a closed pipe", "a full disk", "nowhere"])
def test_output_that_nobody_takes_does_not_end_a_training(tmp_path: Path, where: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    target = writing if where == "a closed pipe" else full
    given = command(tmp_path, num_epochs=1, only_batches=2, json=tmp_path / "results.json")
    if where == "nowhere":
        given = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *given]
    process = start(given, stdout=target, stderr=target)
    assert process.wait(300) == 0
    os.close(writing)
    os.close(full)
    assert (tmp_path / "results.json").exists()
    assert checkpoints.read(tmp_path / "checkpoints" / "tiny" / "last.pt")["progress"]["epoch"] == 1


@pytest.mark.slow
def test_a_terminal_that_closes_saves(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    given = command(tmp_path, num_epochs=1000)
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *given], env=environment(), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    last = tmp_path / "checkpoints" / "tiny" / "last.pt"
    wait_for(last, process)
    before = last.stat().st_mtime_ns
    os.close(ours)
    assert process.wait(300) == 129
    assert last.stat().st_mtime_ns > before
