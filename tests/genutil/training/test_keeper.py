"""Checkpoints in their order, and on disks that refuse them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genutil.saved import checkpoints
from genutil.system.files import WriteError
from genutil.training.keeper import Keeper
from tests.genutil.parts import assert_equal, make_training, recipe, state
from tests.genutil.training.test_loop import resumed

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 40_000
"""Numbers in the tensor of a checkpoint here, which so has about 160 KB."""


class Run:
    """A keeper, the state that it keeps, and what it said."""

    def __init__(self, folder: Path) -> None:
        self.step = 0
        self.said: list[str] = []
        self.tensor = torch.zeros(SIZE)
        self.keeper = Keeper(folder, self._contents, self.said.append)
        self.folder = folder

    def _contents(self) -> dict:
        self.tensor.fill_(self.step)
        head = {"format": checkpoints.FORMAT, "version": checkpoints.VERSION}
        return {**head, "settings": {}, "progress": {"step": self.step}, "network": {"weight": self.tensor}}

    def save(self, *names: str) -> None:
        self.step += 1
        self.keeper.save(*names)

    def steps(self) -> dict[str, int]:
        """Of each checkpoint, the step that it is of."""
        found = {}
        for path in self.folder.glob("*.pt"):
            saved = torch.load(path, weights_only=True)
            assert (saved["network"]["weight"] == saved["progress"]["step"]).all()
            found[path.stem] = saved["progress"]["step"]
        return found


def fill(disk: Path) -> Path:
    """Take all the room that a disk has left; the file that takes it."""
    path = disk / "filling"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return path


class KilledError(BaseException):
    """Ends a run where it is, as SIGKILL does: nothing of it is caught."""


@pytest.mark.parametrize("writes", range(10))
def test_a_run_killed_between_two_checkpoints_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    settings = {"checkpoint_interval": 1, "lr": 0.3}
    (tmp_path / "whole").mkdir()
    (tmp_path / "run").mkdir()
    whole = make_training(tmp_path / "whole", recipe(**settings))
    whole.save("init")
    whole.run()
    left, write = writes, checkpoints.write

    def until_killed(*given) -> None:
        nonlocal left
        if left == 0:
            raise KilledError
        left -= 1
        write(*given)

    monkeypatch.setattr(checkpoints, "write", until_killed)
    run = make_training(tmp_path / "run", recipe(**settings))
    try:
        run.save("init")
        run.run()
    except KilledError:
        assert left == 0
    monkeypatch.setattr(checkpoints, "write", write)
    last, init = tmp_path / "run" / "last.pt", tmp_path / "run" / "init.pt"
    begun = last if last.exists() else init
    if begun.exists():
        continued = resumed(begun, **settings)
    else:
        continued = make_training(tmp_path / "run", recipe(**settings))
        continued.save("init")
    continued.run()
    assert_equal(state(whole.network), state(continued.network))
    names = {path.name for path in (tmp_path / "whole").glob("*.pt")}
    assert {path.name for path in (tmp_path / "run").glob("*.pt")} == names
    for name in names:
        one, other = (checkpoints.read(tmp_path / run / name) for run in ("whole", "run"))
        assert one["progress"]["step"] == other["progress"]["step"]
        assert one["progress"]["epoch"] == other["progress"]["epoch"]
        for key, value in one["network"].items():
            assert not torch.is_tensor(value) or torch.equal(value, other["network"][key])


def test_last_is_written_behind_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(checkpoints, "write", lambda path, contents: written.append(path.stem))
    Run(tmp_path).save("last", "best", "epoch_3")
    assert written == ["best", "epoch_3", "last"]


def test_a_full_disk_is_told_and_tried_again(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(1100)
    run = Run(disk)
    run.save("last", "best")
    filling = fill(disk)
    run.save("last", "best")
    assert [line.split(":")[0] for line in run.said] == [f"Cannot write {disk}/{name}.pt" for name in ("best", "last")]
    assert "No space left on device" in run.said[0]
    assert "training goes on" in run.said[1]
    assert run.steps() == {"last": 1, "best": 1}
    filling.unlink()
    run.save("last")
    assert run.steps() == {"last": 3, "best": 2}
    assert len(run.said) == 2
    run.keeper.end()
    assert {path.name for path in disk.iterdir()} == {"last.pt", "best.pt"}


def test_a_disk_that_is_full_to_the_end_fails_the_run_where_last_cannot_be_written(
    small_disk: Callable[[int], Path],
) -> None:
    disk = small_disk(700)
    run = Run(disk)
    run.save("last")
    fill(disk)
    run.save("last")
    with pytest.raises(WriteError, match=r"last\.pt: No space left on device\. What was .* --resume .*last\.pt"):
        run.keeper.end()
    assert run.steps() == {"last": 1}


def test_a_checkpoint_beside_last_that_cannot_be_written_does_not_fail_the_run(
    small_disk: Callable[[int], Path],
) -> None:
    disk = small_disk(500)  # room for two of them
    run = Run(disk)
    run.save("last")
    run.save("last", "best")
    run.save("last")
    run.keeper.end()
    assert run.steps() == {"last": 3, "best": 2} or run.steps() == {"last": 3}
    assert all("best.pt" in line or "last.pt" in line for line in run.said)


def test_a_read_only_disk_is_told_as_such(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(2000)
    run = Run(disk)
    run.save("last")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    run.save("last", "best")
    assert all("Read-only file system" in line for line in run.said)
    with pytest.raises(WriteError, match="Read-only file system"):
        run.keeper.end()
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    run.keeper.end()
    assert run.steps() == {"last": 2, "best": 2}


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    run = Run(folder)
    folder.rmdir()
    run.save("last")
    assert "No such file or directory" in run.said[0]
    folder.mkdir()
    run.keeper.end()
    assert run.steps() == {"last": 1}


def test_few_checkpoints_wait_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = Run(folder)
    for epoch in range(1, 5):
        run.save(f"epoch_{epoch}", "last")
    assert [line for line in run.said if "given up" in line] == [
        f"epoch_{epoch}.pt is given up: the disk has refused later ones too." for epoch in (1, 2)
    ]
    folder.mkdir()
    run.keeper.end()
    assert run.steps() == {"epoch_3": 3, "epoch_4": 4, "last": 4}


def test_in_other_processes_nothing_is_written() -> None:
    said: list[str] = []
    keeper = Keeper(None, lambda: pytest.fail("contents were made"), said.append)
    keeper.save("last", "best")
    keeper.end()
    keeper.require_last()
    assert not said
