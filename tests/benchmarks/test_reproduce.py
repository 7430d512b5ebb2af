"""The queue at work: trains what is missing, in pieces, and survives that it or its trainings are killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import reproduce
from benchmarks.results_page import ROOT
from benchmarks.training_state import running

WAIT = 300
LONG = {"experiment": "quickstart", "settings": {"num_epochs": 1000, "workers": 0}}
QUICK = {"num_epochs": 3, "batch_size": 128, "workers": 0}


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    """A queue of two runs of the quickstart's network over three epochs."""
    path = tmp_path / "queue.yml"
    path.write_text(yaml.safe_dump([{"experiment": "quickstart", "seeds": [0, 1], "settings": QUICK}]))
    return path


def words(queue: Path, *more: str) -> list[str]:
    places = ["--folder", str(queue.parent / "folder"), "--results", str(queue.parent / "results")]
    return ["--queue", str(queue), *places, "--threads", "1", "--gpus", *more]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts queues as processes; what is left of them at the end is killed."""
    started: list[tuple[subprocess.Popen, Path]] = []

    def begin(queue: Path, *more: str) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "benchmarks" / "reproduce.py"), *words(queue, *more)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append((subprocess.Popen(command, **pipes), queue.parent / "folder" / "checkpoints"))
        return started[-1][0]

    yield begin
    for process, checkpoints in started:
        for left in running(checkpoints).values():
            os.kill(left, signal.SIGKILL)
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_for(condition: Callable[[], Any], process: subprocess.Popen) -> Any:
    until = time.monotonic() + WAIT
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def results(queue: Path) -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in (queue.parent / "results").rglob("*.json")}


@pytest.mark.slow
def test_a_queue_that_is_killed_loses_an_epoch_at_most_and_doubles_nothing(queue: Path, start, capsys) -> None:
    checkpoints = queue.parent / "folder" / "checkpoints"
    first = start(queue, "--only", "quickstart-0")
    wait_for((checkpoints / "quickstart-0" / "last.pt").exists, first)
    training = running(checkpoints)["quickstart-0"]
    os.kill(first.pid, signal.SIGKILL)
    os.kill(training, signal.SIGKILL)
    first.communicate()
    second = start(queue)
    said, _ = second.communicate(timeout=WAIT)
    assert second.returncode == 0, said
    assert re.search(r"quickstart-0: going on after [12] epochs", said), said
    assert sorted(path.name for path in checkpoints.iterdir()) == ["quickstart-0", "quickstart-1"]
    found = results(queue)
    assert sorted(found) == ["3_epochs-seed_0.json", "3_epochs-seed_1.json"]
    for seed, result in enumerate(found[name] for name in sorted(found)):
        assert (result["experiment"], result["seed"], result["curve"]["epoch"]) == ("quickstart", seed, [1, 2, 3])
    assert reproduce.main(words(queue)) == 0
    assert capsys.readouterr().out == ""
    assert results(queue) == found


@pytest.mark.slow
def test_trainings_of_a_killed_queue_stop_and_are_gone_on_with(queue: Path, start) -> None:
    checkpoints = queue.parent / "folder" / "checkpoints"
    first = start(queue, "--only", "quickstart-0")
    wait_for((checkpoints / "quickstart-0" / "last.pt").exists, first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    second = start(queue, "--only", "quickstart-0")
    said, _ = second.communicate(timeout=WAIT)
    assert second.returncode == 0, said
    assert "quickstart-0: going on after" in said
    assert results(queue)["3_epochs-seed_0.json"]["curve"]["epoch"] == [1, 2, 3]


@pytest.mark.slow
def test_two_trainings_at_once_and_never_two_queues(queue: Path, start) -> None:
    queue.write_text(yaml.safe_dump([{**LONG, "seeds": [0, 1]}]))
    checkpoints = queue.parent / "folder" / "checkpoints"
    first = start(queue, "--parallel", "2", "--niceness", "1")
    found = wait_for(lambda: len(now := running(checkpoints)) == 2 and now, first)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert {os.getpriority(os.PRIO_PROCESS, process) for process in found.values()} == {min(own + 1, 19)}
    second, listed = start(queue), start(queue, "--list")
    said, _ = second.communicate(timeout=WAIT)
    assert (second.returncode, said) == (2, f"Another queue works in {queue.parent / 'folder'}: process {first.pid}.\n")
    said, _ = listed.communicate(timeout=WAIT)
    assert all(f"running ({process})" in said for process in found.values()), said
    for name in found:
        wait_for((checkpoints / name / "last.pt").exists, first)
    first.terminate()
    said, _ = first.communicate(timeout=WAIT)
    assert first.returncode == 130, said
    assert all(f"{name}: stopped" in said for name in found), said
    assert not running(checkpoints)


@pytest.mark.slow
def test_a_piece_ends_after_its_minutes_and_saves(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue.write_text(yaml.safe_dump([LONG]))
    folder = queue.parent / "folder"
    assert reproduce.main(words(queue, "--minutes", "0.2")) == 0
    said = capsys.readouterr().out
    assert "quickstart-0: starting" in said
    assert said.endswith("quickstart-0: stopped\n")
    assert not running(folder / "checkpoints")
    assert reproduce.main(words(queue, "--list")) == 0
    listed = capsys.readouterr().out
    assert re.search(r"quickstart-0 +1,000 epochs +(started|missing)", listed)
    assert "0 of 1 trainings are done. Left here: " in listed


def test_a_training_that_fails_is_told_and_the_others_go_on(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absent = {"experiment": "quickstart", "name": "absent", "settings": {"data": "no_such_set"}}
    queue.write_text(yaml.safe_dump([absent, {"experiment": "quickstart", "settings": {**QUICK, "num_epochs": 1}}]))
    assert reproduce.main(words(queue, "--data_dir", str(queue.parent))) == 2
    told = capsys.readouterr()
    assert re.search(r"absent-0 failed: .*no_such_set", told.err), told.err
    assert "quickstart-0: done" in told.out
    assert list(results(queue)) == ["1_epochs-seed_0.json"]


def test_a_checkpoint_that_is_no_use_is_told_and_not_touched(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = queue.parent / "folder" / "checkpoints" / "quickstart-0" / "last.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nothing")
    assert reproduce.main(words(queue, "--only", "quickstart-0")) == 2
    assert f"quickstart-0 failed: {path} cannot be read as a PyTorch checkpoint" in capsys.readouterr().err
    assert path.read_bytes() == b"nothing"
    assert reproduce.main(words(queue, "--list")) == 0
    assert f"quickstart-0: {path} cannot be read as a PyTorch checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--minutes", "0"], "argument --minutes: 0 is no number above 0; --help lists the options.\n"),
        (["--parallel", "none"], "argument --parallel: none is no whole number from 1; --help lists the options.\n"),
        (["--gpus", "-1"], "--help lists the options.\n"),
        (["--niceness", "20"], "--help lists the options.\n"),
        (["--only", "quikstart"], "names no training of the queue; the nearest is quickstart.\n"),
        (["--queue", "absent.yml"], "The queue absent.yml cannot be read"),
    ],
)
def test_mistakes_are_told(queue: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(words(queue, *more)) == 2
    assert said in capsys.readouterr().err
    assert not (queue.parent / "folder").exists()


def test_only_some_are_trained(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(words(queue, "--list", "--only", "*-1")) == 0
    told = capsys.readouterr().out
    assert "quickstart-1" in told
    assert "quickstart-0" not in told
