"""The folders of a run: its own alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from genutil.run import run
from genutil.system.locks import LOCK, FolderInUseError, FolderLock
from tests.genutil.parts import assert_equal
from tests.genutil.runs import weights
from tests.genutil.training.killed_runs import damage, names, quick

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_damaged_last_checkpoint_blocks_none_beside_it(
    killed: Path, whole: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(killed / "last.pt")
    run(quick(tmp_path, num_epochs=3, resume=str(killed / "epoch_2.pt")))
    assert_equal(whole, weights(killed / "last.pt"))
    assert "put aside as last.damaged.pt" in capsys.readouterr().out
    assert (killed / "last.damaged.pt").exists()
    assert names(killed) == {"tiny"}


def test_a_run_that_was_killed_before_its_first_checkpoint_leaves_its_folder_free(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "tiny"
    folder.mkdir(parents=True)
    for name in ("settings.yml", LOCK, ".init.pt.7.tmp"):
        (folder / name).touch()
    assert run(quick(tmp_path, num_epochs=0))["checkpoint"] == str(folder / "last.pt")
    assert {path.name for path in folder.iterdir()} == {"settings.yml", "init.pt", "last.pt"}


def test_a_second_run_in_a_folder_is_told_and_writes_nothing(killed: Path, tmp_path: Path) -> None:
    lock = FolderLock(killed)
    before = {path.name: path.stat().st_mtime_ns for path in killed.iterdir()}
    for resume in ("auto", str(killed / "last.pt")):
        with pytest.raises(FolderInUseError, match=r"tiny is in use: process \d+ on .* trains there"):
            run(quick(tmp_path, resume=resume, num_epochs=3))
    assert {path.name: path.stat().st_mtime_ns for path in killed.iterdir()} == before
    assert not (tmp_path / "runs").exists()
    lock.release()


def test_two_new_runs_of_a_name_get_a_folder_each(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "tiny"
    folder.mkdir(parents=True)
    lock = FolderLock(folder)  # of a run that has written nothing yet
    assert run(quick(tmp_path, num_epochs=0))["checkpoint"] == str(tmp_path / "checkpoints" / "tiny-2" / "last.pt")
    lock.release()
