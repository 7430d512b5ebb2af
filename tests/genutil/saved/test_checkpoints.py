from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from genutil.errors import UserError
from genutil.saved import checkpoints
from tests.genutil.parts import SmallNet, saved


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def test_a_checkpoint_needs_no_code_to_be_read(tmp_path: Path, fabric: Fabric) -> None:
    path = saved(tmp_path / "last.pt", fabric, gpus=[0], name=None)
    contents = torch.load(path, weights_only=True)
    assert contents["settings"] == {"lr": 0.1, "gpus": [0], "name": None}
    assert checkpoints.read(path)["settings"] == contents["settings"]


def test_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no checkpoint .*absent\.pt"):
        checkpoints.read(tmp_path / "absent.pt")
    with pytest.raises(UserError, match="There is no checkpoint"):
        checkpoints.read(tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 1000, -10])
def test_files_that_are_cut_off_are_told(tmp_path: Path, fabric: Fabric, kept: int) -> None:
    path = saved(tmp_path / "last.pt", fabric)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"last\.pt"):
        checkpoints.read(path)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    trap = Trap(tmp_path / "sprung")
    torch.save({"format": checkpoints.FORMAT, "version": 1, "settings": trap}, path)
    assert checkpoints.read_file(path) == (False, None)
    with pytest.raises(UserError, match="no checkpoint of this program"):
        checkpoints.read(path)
    torch.save({"settings": trap}, path, _use_new_zipfile_serialization=False)
    assert checkpoints.read_file(path) == (False, None)
    path.write_bytes(pickle.dumps(trap, protocol=2))
    with pytest.raises(UserError, match="cannot be read as a PyTorch checkpoint"):
        checkpoints.read_file(path)
    assert not trap.path.exists()


def test_foreign_checkpoints_cannot_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    torch.save({"model": SmallNet().state_dict(), "last_epoch": 3}, path)
    assert not checkpoints.read_file(path).ours
    with pytest.raises(UserError, match=r"training cannot go on from it.*--evaluate.*--init_from"):
        checkpoints.read(path)


def test_a_later_format_is_told(tmp_path: Path) -> None:
    path = tmp_path / "later.pt"
    torch.save({"format": checkpoints.FORMAT, "version": 99}, path)
    with pytest.raises(UserError, match="later version of this program"):
        checkpoints.read(path)


ODD = [None, "text", [1], {1: 2}, torch.ones(2), -1, True]


def test_members_that_are_missing_or_odd_are_told(tmp_path: Path, fabric: Fabric) -> None:
    whole = torch.load(saved(tmp_path / "last.pt", fabric), weights_only=True)
    path = tmp_path / "odd.pt"
    later = {"images", "average"}
    for name in whole.keys() - {"format", *later}:
        torch.save({key: value for key, value in whole.items() if key != name}, path)
        with pytest.raises(UserError, match=rf"odd\.pt is damaged: it has no {name}"):
            checkpoints.read(path)
    for name in (whole.keys() | later) - {"format"}:
        for odd in ODD:
            torch.save({**whole, name: odd}, path)
            with pytest.raises(UserError, match=rf"odd\.pt is damaged: its {name} is of no kind"):
                checkpoints.read(path)
    for odd in ({}, {"state": [], "param_groups": []}, {"state": {}, "param_groups": [{"lr": 1}]}):
        torch.save({**whole, "optimizer": odd}, path)
        with pytest.raises(UserError, match="its optimizer is of no kind"):
            checkpoints.read(path)
