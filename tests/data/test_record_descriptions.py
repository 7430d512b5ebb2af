"""What is noted beside record files: read where it is as our writer notes it, a sentence where it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import data
from data.record_descriptions import DESCRIPTION, Description
from tests.data.record_pieces import write_raw


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """A --data-dir with records of five classes in one file each, and a description of them."""
    write_raw(tmp_path / "squares" / "train.tfrecord", range(40))
    write_raw(tmp_path / "squares" / "test.tfrecord", range(40, 50))
    describe(tmp_path, {})
    return tmp_path


def describe(folder: Path, changes: dict[str, Any]) -> None:
    noted = {"class_names": list("abcde"), "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3], "pad": 2, "flip": False}
    content = {"files": ["train", "test"], "image_size": 8, "made_by": "a later version", **noted, **changes}
    (folder / "squares" / DESCRIPTION).write_text(json.dumps(content))


def test_what_is_noted_is_used(squares: Path):
    loaded = data.load("squares", squares)
    assert (loaded.class_names, loaded.mean, loaded.std) == (tuple("abcde"), (0.1, 0.2, 0.3), (1, 2, 3))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": "abcde"}, "class_names: Input should be a valid array"),
        ({"class_names": [1, 2, 3, 4, 5]}, "class_names.0: Input should be a valid string"),
        ({"class_names": ["a"]}, "labels outside of the 1 classes"),
        ({"mean": 0.5}, "mean: Input should be a valid array"),
        ({"mean": ["a", "b", "c"]}, "mean.0: Input should be a valid number"),
        ({"mean": [0.5, 0.5]}, "notes 2 channels, and the images have 3"),
        ({"std": [1, 1, 0]}, "std.2: Input should be greater than 0"),
        ({"std": [1, 1, float("nan")]}, "std.2: Input should be (a finite number|greater than 0)"),
        ({"pad": -1}, "pad: Input should be greater"),
        ({"pad": 2.5}, "pad: Input should be a valid integer"),
        ({"pad": 10**12}, "pad: Input should be less"),
        ({"flip": "yes"}, "flip: Input should be a valid boolean"),
        ({"image_size": "8"}, "image_size: Input should be a valid integer"),
        ({"image_size": 10**9}, "image_size: Input should be less"),
        ({"files": {"train": 1}}, "files: Input should be a valid array"),
        ({"files": [None]}, "files.0: Input should be a valid string"),
    ],
)
def test_odd_types_and_sizes_are_told(changes: dict[str, Any], words: str, squares: Path):
    describe(squares, changes)
    with pytest.raises(ValueError, match=words) as caught:
        data.load("squares", squares)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[1]", b"7", b"\xff\xfe", b"{", b"[" * 100_000, b'"' + b"a" * 10_000 + b'"'])
def test_what_is_no_object_is_told_in_a_sentence(text: bytes, squares: Path):
    (squares / "squares" / DESCRIPTION).write_bytes(text)
    with pytest.raises(ValueError, match=r"records\.json (is no JSON|does not describe records)") as caught:
        data.load("squares", squares)
    assert len(str(caught.value)) < 300 + len(str(squares))


def test_a_folder_or_too_large_a_file_is_told(squares: Path):
    place = squares / "squares" / DESCRIPTION
    with place.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(ValueError, match="is too large to be a description"):
        data.load("squares", squares)
    place.unlink()
    place.mkdir()
    with pytest.raises(ValueError, match="is a folder, not a regular file"):
        data.load("squares", squares)


def test_one_figure_holds_for_every_channel():
    assert Description(mean=[0.5]).normalisation((0.1, 0.2), (1, 2)) == ((0.5, 0.5), (1, 2))
