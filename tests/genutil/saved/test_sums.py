"""Damages of a checkpoint: each is told, none is silent."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from genutil.errors import UserError
from genutil.saved import checkpoints, sums
from genutil.saved.source import OwnCheckpoint, open_source
from tests.genutil.parts import saved

FLIPS = 200


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of ours."""
    folder = tmp_path_factory.mktemp("whole")
    return saved(folder / "last.pt", Fabric(accelerator="cpu", devices=1))


@pytest.fixture(scope="module")
def before_sums(whole: Path) -> Path:
    """The same as versions without a sum wrote it."""
    path = whole.with_name("old.pt")
    contents = whole.read_bytes()[: -sums.LENGTH]
    path.write_bytes(contents[:-2] + b"\0\0")
    return path


def flipped(path: Path, folder: Path, position: int, bit: int) -> Path:
    """A copy of a file in which a bit differs."""
    contents = bytearray(path.read_bytes())
    contents[position] ^= 1 << bit
    damaged = folder / "damaged.pt"
    damaged.write_bytes(contents)
    return damaged


def read(path: Path) -> dict[str, Any] | str:
    """What a checkpoint of ours holds, or the sentence that refuses it."""
    try:
        source = open_source(path)
    except UserError as error:
        return str(error)
    assert isinstance(source, OwnCheckpoint)
    return source.training_state()


def positions(size: int) -> list[int]:
    """Random ones, and all of the beginning and of the end."""
    draw = random.Random(0)
    return [*range(16), *range(size - sums.LENGTH - sums.END, size), *(draw.randrange(size) for _ in range(FLIPS))]


def test_any_flipped_bit_is_told(whole: Path, tmp_path: Path) -> None:
    draw = random.Random(1)
    for position in positions(whole.stat().st_size):
        with pytest.raises(UserError, match=r"damaged\.pt is damaged: its (SHA-256 sum|end)"):
            open_source(flipped(whole, tmp_path, position, draw.randrange(8)))


def test_a_flipped_bit_of_a_file_without_a_sum_is_told_or_harmless(before_sums: Path, tmp_path: Path) -> None:
    draw = random.Random(2)
    good = checkpoints.read(before_sums)
    told = 0
    for position in positions(before_sums.stat().st_size):
        path = flipped(before_sums, tmp_path, position, draw.randrange(8))
        found = read(path)
        if isinstance(found, str):
            assert str(path) in found
            told += 1
        else:
            assert str(found) == str(good)
            for name, value in good["network"].items():
                assert not isinstance(value, torch.Tensor) or torch.equal(found["network"][name], value)
    assert told > FLIPS


def test_a_file_without_a_sum_is_read(before_sums: Path) -> None:
    assert not sums.check(before_sums)
    assert checkpoints.read(before_sums)["progress"] == {"epoch": 3}


def test_torch_reads_a_file_with_a_sum(whole: Path) -> None:
    assert sums.check(whole)
    for mmap in (False, True):
        assert torch.load(whole, weights_only=True, mmap=mmap)["progress"] == {"epoch": 3}


@pytest.mark.parametrize("kept", [1, 3, 30, 1000, -1, -sums.LENGTH, -sums.LENGTH - 1, -200])
def test_a_file_that_was_cut_off_is_told(whole: Path, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"last\.pt (is damaged: its end is missing|cannot be read as a PyTorch)"):
        open_source(path)


def test_bytes_behind_the_end_are_told(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(whole.read_bytes() + b"\0")
    with pytest.raises(UserError, match=r"last\.pt is damaged: its end"):
        open_source(path)


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        (b"", r"a\.pt is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "pointer of Git LFS"),
        (b"<html><head><title>Sign in</title></head></html>", "is a web page"),
    ],
)
def test_what_was_fetched_instead_of_a_checkpoint_is_told(tmp_path: Path, contents: bytes, sentence: str) -> None:
    (tmp_path / "a.pt").write_bytes(contents)
    with pytest.raises(UserError, match=sentence):
        open_source(tmp_path / "a.pt")


@pytest.mark.parametrize("chunks", [[1] * 9, [9], [2, 7], [8, 1], [0, 3, 1, 5]])
def test_the_sum_is_of_all_bytes_however_they_are_written(tmp_path: Path, chunks: list[int]) -> None:
    body = b"PK\x03\x04efg\0\0"
    path = tmp_path / "a"

    def write(file) -> None:
        start = 0
        for length in chunks:
            file.write(body[start : start + length])
            start += length

    with path.open("wb") as file:
        sums.write_summed(file, write)
    assert path.read_bytes()[: -sums.LENGTH] == b"PK\x03\x04efg" + bytes([sums.LENGTH, 0])
    assert sums.check(path)
