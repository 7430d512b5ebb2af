from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from genutil.errors import UserError
from genutil.system.files import (
    WriteError,
    claim_folder,
    claim_log_folder,
    remove_leftovers,
    to_json,
    write_text,
    write_whole,
)


def test_a_failure_while_writing_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    write_text(path, "old")

    def half(file) -> None:
        file.write(b"new, but not wh")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, half)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    def refuse(file) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"Cannot write .*last\.pt: No space left on device"):
        write_whole(tmp_path / "last.pt", refuse)
    assert not list(tmp_path.iterdir())


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    pipe, target, link = tmp_path / "pipe", tmp_path / "target", tmp_path / "link"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_text(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()
    link.symlink_to(target)
    write_text(link, "text")
    assert link.is_symlink()
    assert target.read_text() == "text"
    with pytest.raises(UserError, match="Is a directory"):
        write_text(tmp_path, "text")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="Linux has /dev/full")
def test_a_device_is_written_to() -> None:
    with pytest.raises(UserError, match="Cannot write /dev/full: No space left on device"):
        write_text(Path("/dev/full"), "text")
    write_text(Path("/dev/null"), "text")
    assert Path("/dev/full").is_char_device()
    assert Path("/dev/null").is_char_device()


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("old")
    (tmp_path / f".last.pt.{os.getpid()}.tmp").symlink_to(victim)
    write_text(tmp_path / "last.pt", "new")
    assert victim.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "victim"]


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory"):
        write_text(tmp_path / "absent" / "file", "text")


def test_written_files_can_be_read_by_others(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "text")
    (tmp_path / "plain").write_text("text")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_another_runs_folder_is_not_taken(tmp_path: Path) -> None:
    first = claim_folder(tmp_path / "checkpoints", "small_scale.static_dnw")
    assert first == tmp_path / "checkpoints" / "small_scale.static_dnw"
    assert claim_folder(tmp_path / "checkpoints", "small_scale.static_dnw") == first  # still empty
    (first / "init.pt").touch()
    second = claim_folder(tmp_path / "checkpoints", "small_scale.static_dnw")
    (second / "init.pt").touch()
    third = claim_folder(tmp_path / "checkpoints", "small_scale.static_dnw")
    assert [second.name, third.name] == ["small_scale.static_dnw-2", "small_scale.static_dnw-3"]


def test_a_file_in_the_folders_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").touch()
    with pytest.raises(UserError, match="Cannot make the folder"):
        claim_folder(tmp_path / "checkpoints", "run")


def test_log_folders_carry_the_time(tmp_path: Path) -> None:
    folder = claim_log_folder(tmp_path, "run")
    assert folder.parent == tmp_path
    assert folder.name.startswith("run-20")


def test_json_has_no_numbers_that_other_parsers_refuse() -> None:
    text = to_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": (2, "x")}})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [None, 1.5], "c": {"d": [2, "x"]}}


def test_what_the_system_says_stands_over_what_a_writer_makes_of_it(small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(64)
    with pytest.raises(WriteError, match=r"^Cannot write .*last\.pt: No space left on device\.$"):
        write_whole(disk / "last.pt", lambda file: torch.save({"weight": torch.zeros(100_000)}, file))
    assert not list(disk.iterdir())


def test_files_of_dead_writers_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead = tmp_path / f".last.pt.{os.getpid()}.tmp"  # a number may be given again
    for path in (dead, tmp_path / ".best.pt.4000000.tmp", tmp_path / ".other", tmp_path / "last.pt"):
        path.touch()
    (tmp_path / ".link.1.tmp").symlink_to(tmp_path / "last.pt")
    names = []

    def look(file: BinaryIO) -> None:
        remove_leftovers(tmp_path)
        names.extend(path.name for path in tmp_path.iterdir())

    write_whole(tmp_path / "epoch_1.pt", look)
    assert set(names) == {f".epoch_1.pt.{os.getpid()}.tmp", ".other", "last.pt", ".link.1.tmp"}
