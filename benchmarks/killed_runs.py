"""Kills trainings, at random moments and at every write, and compares what they end in with one that nobody kills.

    python benchmarks/killed_runs.py [--random 30] [--writes [N]] [--seed 0] [--json FILE]

Each training is a process that is ended by SIGKILL; the same command (`--resume auto`) then brings it to its end. Its
weights, metrics, best and epoch files must equal those of the training that nobody killed, bit for bit but for
seconds, and no other file may be left. `--writes` kills it before each file is opened, renamed or removed, and with
half of a file written. The exit status is 2 where one differs. Linux only: the processes are forked after everything is
imported, with one thread each.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import torch

import runner
from benchmarks.conditions import conditions
from genutil.reports.logs import read_metrics
from genutil.saved import checkpoints

SETTINGS = {
    "model": "static",
    "wiring": "dnw",
    "prune_rate": 0.7,
    "dim": 60,
    "downsample_dim": 12,
    "feature_dim": 12,
    "layers": 4,
    "data": "digits",
    "image_size": 16,
    "in_channels": 1,
    "batch_size": 256,
    "only_batches": 3,
    "num_epochs": 2,
    "lr": 0.2,
    "log_interval": 2,
    "checkpoint_interval": 1,
    "checkpoint_minutes": 1e-9,
}
"""Of the training: the tiny classifier on real digits, with last.pt written at every step."""

OPEN_TO_WRITE = os.O_WRONLY | os.O_RDWR
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
"""Python's audit events of changes in a folder; the first argument is a path."""


class Writes:
    """Counts what a process changes in a folder, and kills it at the one with a number.

    Args:
        folder: of the training.
        fatal: counted from 1; 0 for none.
    """

    def __init__(self, folder: Path, fatal: int) -> None:
        self.count = 0
        self._folder = str(folder)
        self._fatal = fatal
        self._fsync = os.fsync

    def watch(self) -> None:
        """Begin; it lasts as long as the process."""
        sys.addaudithook(self._hear)
        os.fsync = self._sync

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (event == "open" and (arguments[2] or 0) & OPEN_TO_WRITE)
        if changes and isinstance(arguments[0], str | bytes | os.PathLike) and self._inside(arguments[0]):
            self._count(lambda: None)

    def _sync(self, file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        if self._inside(Path(f"/proc/self/fd/{descriptor}").readlink()):
            self._count(lambda: os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2))
        self._fsync(file)

    def _inside(self, path: str | bytes | os.PathLike) -> bool:
        return os.fsdecode(path).startswith(self._folder)

    def _count(self, before_death: Callable[[], object]) -> None:
        self.count += 1
        if self.count == self._fatal:
            with suppress(OSError):  # a folder cannot be cut
                before_death()
            os.kill(os.getpid(), signal.SIGKILL)


def words(folder: Path) -> list[str]:
    """The command line of the training in a folder."""
    app = folder.parent / "killed.yml"
    app.write_text("".join(f"{key}: {value}\n" for key, value in SETTINGS.items()))
    places = ["--save_dir", f"{folder}/checkpoints", "--log_dir", f"{folder}/runs", "--gpus", "[]"]
    return [f"app:{app}", "--resume", "auto", "--skip_profiling", *places]


def train(folder: Path, fatal_write: int = 0, fatal_second: float | None = None) -> tuple[int, int]:
    """Train in a process of its own, which may be killed. Its exit status, negative for a signal, and its writes."""
    folder.mkdir(exist_ok=True)
    given = words(folder)
    counted = folder.with_name(f"{folder.name}.writes")
    process = os.fork()
    if process == 0:
        status = 70
        try:
            with (folder.with_name(f"{folder.name}.txt")).open("a") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            writes = Writes(folder, fatal_write)
            writes.watch()
            status = runner.main(given)
            counted.write_text(str(writes.count))
        finally:
            os._exit(status)
    if fatal_second is not None:
        time.sleep(fatal_second)
        os.kill(process, signal.SIGKILL)  # one that has ended stays until it is waited for
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), int(counted.read_text()) if counted.exists() else 0


def outcome(folder: Path) -> dict[str, Any]:
    """All that a training leaves, as plain values, without seconds."""
    (log,) = sorted((folder / "runs").iterdir())[-1:]
    found: dict[str, Any] = {"metrics": [_timeless(record) for record in read_metrics(log)]}
    for path in sorted((folder / "checkpoints").rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = _plain(checkpoints.read(path)) if path.match("checkpoints/*/*.pt") else path.is_dir()
    return found


def _plain(value: Any) -> Any:
    """Contents of a checkpoint, tensors as bytes; sums without their seconds."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in _timeless(value).items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    """Without seconds, places, the machines that it ran on, and sums of bytes over them."""
    clocked = ("second", "save_dir", "log_dir", "pieces", "sha256", "checksum", "digest")
    return {key: value for key, value in record.items() if not any(part in str(key) for part in clocked)}


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """In what a training ended otherwise."""
    names = sorted(expected.keys() | found.keys())
    apart = [name for name in names if not name.endswith("settings.yml") and expected.get(name) != found.get(name)]
    return [f"{name} {'differs' if name in expected and name in found else 'is not in both'}" for name in apart]


def trial(folder: Path, expected: dict[str, Any], **fatal: Any) -> dict[str, Any]:
    """Kill a training, and bring it to its end by the same command."""
    status, _ = train(folder, **fatal)
    ended = train(folder)[0]
    wrong = differences(expected, outcome(folder)) if ended == 0 else [f"it ended with status {ended}"]
    return {**fatal, "killed": status == -signal.SIGKILL, "wrong": wrong}


def measure(folder: Path, randomly: int, every: int | None, seed: int) -> list[dict[str, Any]]:
    """Every trial, with what was wrong."""
    torch.set_num_threads(1)
    importlib.import_module("genutil.run")  # which the runner imports where it is needed
    train(folder / "first")  # whose files are not cached yet
    started = time.monotonic()
    status, writes = train(folder / "whole")
    seconds = time.monotonic() - started
    if status:
        raise SystemExit(f"The training ended with status {status}:\n{(folder / 'whole.txt').read_text()}")
    expected, draw = outcome(folder / "whole"), random.Random(seed)
    trials = [{"fatal_second": draw.uniform(0, seconds)} for _ in range(randomly)]
    trials += [{"fatal_write": number} for number in range(1, writes + 1, every)] if every else []
    found = []
    for number, fatal in enumerate(trials):
        found.append(trial(folder / str(number), expected, **fatal))
        if found[-1]["wrong"]:
            print(fatal, *found[-1]["wrong"], sep="\n  ", flush=True)
            print((folder / f"{number}.txt").read_text()[-2000:])
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Do what a command line asks for; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--random", type=int, default=30, help="trainings killed at random moments [30]")
    parser.add_argument("--writes", type=int, nargs="?", const=1, help="kill one at every write too, or every n-th")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--json", type=Path, help="file for what was found")
    args = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place).resolve(), args.random, args.writes, args.seed)
    for kind, name in (("fatal_second", "random moments"), ("fatal_write", "writes")):
        trials = [one for one in found if kind in one]
        killed = sum(one["killed"] for one in trials)
        good = sum(not one["wrong"] for one in trials)
        print(f"{name}: {good} of {len(trials)} ended as the one that nobody killed; {killed} were killed before it")
    if args.json:
        args.json.write_text(json.dumps({"trials": found, "measured": conditions()}, indent=2) + "\n")
    return 2 if any(one["wrong"] for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
