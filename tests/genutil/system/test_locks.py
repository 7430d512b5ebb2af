from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from genutil.errors import UserError
from genutil.system import locks
from genutil.system.locks import LOCK, FolderInUseError, FolderLock
from tests.genutil.runs import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from genutil.system.locks import FolderLock
lock = FolderLock(Path(sys.argv[1]), "slurm 7")
print("held", flush=True)
time.sleep(600)
"""


def test_a_folder_has_one_holder_and_the_second_is_told_who(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    with pytest.raises(FolderInUseError, match=rf"^{tmp_path} is in use: process {os.getpid()} on .+ trains there\.$"):
        FolderLock(tmp_path)
    first.release()
    first.release()
    assert not list(tmp_path.iterdir())
    FolderLock(tmp_path).release()


def test_a_killed_holder_does_not_keep_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(FolderInUseError, match=f"process {process.pid} on"):
        FolderLock(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert locks.note(tmp_path)["job"] == "slurm 7"
    lock = FolderLock(tmp_path, "slurm 8")
    assert locks.note(tmp_path)["job"] == "slurm 8"
    lock.release(keep_note=True)
    assert locks.note(tmp_path)["process"] == os.getpid()
    FolderLock(tmp_path).release()


def test_a_file_that_was_removed_by_its_holder_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, flock = FolderLock(tmp_path), locks.lock

    def release_before_it_is_locked(file: int) -> None:
        holder.release()
        flock(file)

    monkeypatch.setattr(locks, "lock", release_before_it_is_locked)
    second = FolderLock(tmp_path)
    with pytest.raises(FolderInUseError):
        FolderLock(tmp_path)
    second.release()


def test_file_systems_without_locks_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    FolderLock(tmp_path)
    FolderLock(tmp_path).release()


@pytest.mark.parametrize("text", ["", "{", "[1]", json.dumps({"process": 3})])
def test_a_note_that_is_cut_off_names_nobody(tmp_path: Path, text: str) -> None:
    lock = FolderLock(tmp_path)
    (tmp_path / LOCK).write_text(text)
    with pytest.raises(FolderInUseError, match="another process trains there"):
        FolderLock(tmp_path)
    lock.release()


def test_a_lock_is_never_taken_through_a_link(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"Cannot write .*\.lock"):
        FolderLock(tmp_path)
    assert not (tmp_path / "elsewhere").exists()
