"""Which checkpoint a run goes on from where that is not said, and in which folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.run import run
from genutil.saved import checkpoints
from genutil.saved.sources import Sources
from genutil.system.locks import FolderLock
from genutil.training.going_on import resolved
from tests.genutil.parts import assert_equal
from tests.genutil.runs import weights
from tests.genutil.training.killed_runs import damage, names, quick

pytestmark = pytest.mark.usefixtures("one_thread")


def chosen(experiment: Experiment) -> tuple[str | None, list[str]]:
    """What is gone on from, and what was said."""
    said: list[str] = []
    return resolved(experiment, Sources(), said.append).resume, said


def test_auto_goes_on_from_the_last_checkpoint_in_its_folder(killed: Path, whole: dict, tmp_path: Path) -> None:
    results = run(quick(tmp_path, num_epochs=3, checkpoint_interval=1, resume="auto"))
    assert results["checkpoint"] == str(killed / "last.pt")
    assert_equal(whole, weights(killed / "last.pt"))
    assert checkpoints.read(killed / "epoch_3.pt")["progress"]["epoch"] == 3
    assert names(killed) == {"tiny"}


@pytest.mark.parametrize(
    ("damaged", "expected"),
    [
        (["last"], "epoch_2"),
        (["last", "epoch_2"], "epoch_1"),
        (["last", "epoch_1", "epoch_2", "best"], "init"),
        (["last", "epoch_1", "epoch_2", "best", "init"], None),
    ],
)
def test_auto_takes_the_furthest_good_one_and_tells_what_it_skips(
    killed: Path, tmp_path: Path, damaged: list[str], expected: str | None
) -> None:
    for name in damaged:
        damage(killed / f"{name}.pt")
    found, said = chosen(quick(tmp_path, resume="auto"))
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        progress = [checkpoints.read(path)["progress"]["epoch"] for path in (found, killed / f"{expected}.pt")]
        assert progress[0] == progress[1]
    skipped = [line for line in said if line.startswith("Skipped: ")]
    assert all(any(f"{name}.pt" in line for line in skipped) for name in damaged)
    assert len(skipped) == len(damaged)


def test_auto_starts_anew_where_there_is_no_run(tmp_path: Path) -> None:
    assert chosen(quick(tmp_path, resume="auto")) == (None, [])
    results = run(quick(tmp_path, num_epochs=1, resume="auto"))
    assert results["checkpoint"] == str(tmp_path / "checkpoints" / "tiny" / "last.pt")


def test_auto_starts_from_other_weights_until_there_is_a_checkpoint(killed: Path, tmp_path: Path) -> None:
    anew = resolved(quick(tmp_path / "other", resume="auto", init_from="w.pt"), Sources(), lambda _: None)
    assert (anew.resume, anew.init_from) == (None, "w.pt")
    going_on = resolved(quick(tmp_path, resume="auto", init_from="w.pt"), Sources(), lambda _: None)
    assert (going_on.resume, going_on.init_from) == (str(killed / "last.pt"), None)


def test_auto_takes_no_other_experiment(killed: Path, tmp_path: Path) -> None:
    found, said = chosen(quick(tmp_path, resume="auto", seed=3))
    assert found is None
    assert said[0] == f"Skipped: {killed / 'last.pt'} is of another experiment (seed is 0 there and 3 here)."
    assert chosen(quick(tmp_path, resume="auto", num_epochs=9))[0] == str(killed / "last.pt")


def test_auto_takes_the_run_that_was_written_last(killed: Path, tmp_path: Path) -> None:
    second = Path(run(quick(tmp_path, num_epochs=1))["checkpoint"])
    assert second.parent.name == "tiny-2"
    assert chosen(quick(tmp_path, resume="auto"))[0] == str(second)
    for path in killed.iterdir():
        os.utime(path, (2e9, 2e9))
    assert chosen(quick(tmp_path, resume="auto"))[0] == str(killed / "last.pt")


def test_auto_evaluates_the_newest(killed: Path, tmp_path: Path) -> None:
    assert run(quick(tmp_path, resume="auto", evaluate=True))["checkpoint"] == str(killed / "last.pt")
    with pytest.raises(UserError, match=r"^There is no checkpoint of tiny in .*empty/checkpoints\.$"):
        run(quick(tmp_path / "empty", resume="auto", evaluate=True))
    assert not (tmp_path / "empty").exists()


@pytest.mark.parametrize(
    "environment",
    [
        {"SLURM_JOB_ID": "71", "SLURM_RESTART_COUNT": "1", "SLURM_JOB_NAME": "bash"},
        {"TORCHELASTIC_RUN_ID": "r", "TORCHELASTIC_RESTART_COUNT": "1"},
    ],
)
def test_a_job_that_is_started_again_goes_on_with_its_own_run(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert chosen(quick(tmp_path))[0] is None  # the run is of somebody else
    job = "slurm 71" if "SLURM_JOB_ID" in environment else "torchrun r"
    FolderLock(killed, job).release(keep_note=True)
    assert chosen(quick(tmp_path))[0] == str(killed / "last.pt")
    assert chosen(quick(tmp_path, resume=str(killed / "init.pt")))[0] == str(killed / "last.pt")
    assert chosen(quick(tmp_path, resume="auto"))[0] == str(killed / "last.pt")
    init = str(killed / "init.pt")
    assert chosen(quick(tmp_path, resume=init, evaluate=True))[0] == init
