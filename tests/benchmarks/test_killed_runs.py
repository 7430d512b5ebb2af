"""Trainings that are killed end as one that nobody kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import killed_runs
from tests.genutil.runs import ROOT, environment


def test_writes_are_counted_and_one_of_them_is_fatal(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from benchmarks.killed_runs import Writes
from genutil.system.files import write_text
folder, fatal = Path(sys.argv[1]), int(sys.argv[2])
writes = Writes(folder, fatal)
writes.watch()
write_text(folder / "a", "12345678")
write_text(folder.parent / "elsewhere", "12")
(folder / "b").mkdir()
print(writes.count)
"""

    def run(fatal: int) -> tuple[int, str, set[str]]:
        folder = tmp_path / str(fatal)
        folder.mkdir()
        words = [sys.executable, "-c", program, str(folder), str(fatal)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        left = {"half" if name.endswith(".tmp") and size == 4 else name for name, size in sizes.items()}
        return done.returncode, done.stdout.strip(), left

    assert run(0) == (0, "6", {"a", "b"})  # removed, opened, synced, renamed, the folder synced; made
    assert run(3) == (-signal.SIGKILL, "", {"half"})
    assert run(5) == (-signal.SIGKILL, "", {"a"})
    assert run(6) == (-signal.SIGKILL, "", {"a"})


def test_every_difference_is_found() -> None:
    expected = {"metrics": [1], "checkpoints/last.pt": {"a": 1}, "checkpoints/settings.yml": "one"}
    assert not killed_runs.differences(expected, {**expected, "checkpoints/settings.yml": "other"})
    found = {"metrics": [2], "checkpoints/last.pt": {"a": 1}, "checkpoints/.last.pt.7.tmp": ""}
    wrong = killed_runs.differences(expected, found)
    assert wrong == ["checkpoints/.last.pt.7.tmp is not in both", "metrics differs"]


@pytest.mark.slow
def test_trainings_killed_at_random_and_at_writes_end_alike(tmp_path: Path) -> None:
    words = ["benchmarks/killed_runs.py", "--random", "5", "--writes", "10", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    trials = json.loads((tmp_path / "found.json").read_text())["trials"]
    assert not [trial for trial in trials if trial["wrong"]]
    at_writes = [trial for trial in trials if "fatal_write" in trial]
    assert len(trials) - len(at_writes) == 5
    assert len(at_writes) >= 10
    assert all(trial["killed"] for trial in at_writes)
