"""Pickles of plain values are read as Python and NumPy would; of anything else nothing is done."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import data
from data.plain_pickle import PickledArray, PlainPickleError, load


@pytest.fixture
def written(tmp_path: Path):
    """Writes a file and gives what is read from it."""

    def read(content: bytes) -> Any:
        (tmp_path / "a.pkl").write_bytes(content)
        return load(tmp_path / "a.pkl")

    return read


ARRAYS = [
    np.arange(12, dtype=np.uint8).reshape(3, 4),
    np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
    np.linspace(0, 1, 5).astype(">f4"),
    np.zeros((0, 3), bool),
]


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_arrays_are_those_of_numpy(array: np.ndarray, protocol: int, written):
    found = written(pickle.dumps({"data": array}, protocol))["data"].array()
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@pytest.mark.parametrize("protocol", range(5))
def test_plain_values_are_those_of_python(protocol: int, written):
    values = {"a": [1, -2, 2**70, 0.5, None, True], b"b": (b"", b"bytes \xff", "text ü"), "c": {"d": []}}
    assert written(pickle.dumps(values, protocol)) == values
    assert written(pickle.dumps([np.int64(3), np.float32(0.5)], protocol)) == [3, 0.5]


class Calls:
    """Pickled, it asks for a function to be called."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.asked = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.asked


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"data": Calls(os.mkdir, "made")}),
        pickle.dumps(Calls(eval, "open('made', 'w')"), 0),
        pickle.dumps(np.array([Calls(os.mkdir, "made")], dtype=object)),
        b"cnumpy\nload\n(S'made'\ntR.",
        b"c_codecs\nencode\n(S'made'\nS'zip'\ntR.",
        b"c_codecs\nencode\n}S'x'\nS'y'\nsb.",
        b"c_codecs\nencode\n(N}S'__new__'\ncnumpy\nndarray\nstb.",
        b"r\xff\xff\xff\x7f.",
        b"N\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"no pickle",
        b"",
    ],
)
def test_anything_else_is_refused_and_not_done(content: bytes, written, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlainPickleError):
        written(content)
    assert not (tmp_path / "made").exists()
    assert written(pickle.dumps(b"bytes", 2)) == b"bytes"


@pytest.mark.parametrize(
    "array", [np.array([("a", 1)], dtype=[("x", "U1"), ("y", "i4")]), np.array(["text"]), np.array(["now"], "M8[s]")]
)
def test_arrays_of_other_things_than_numbers_are_refused(array: np.ndarray, written):
    with pytest.raises(PlainPickleError, match="is of the type"):
        written(pickle.dumps(array)).array()


@pytest.mark.parametrize(
    "state", [None, (1, (2,), None, False, b"ab"), (1, "x", 2, 3, 4), (1, (-1,), 0, 0, b""), (1, (3,), 0, 0, b"ab")]
)
def test_arrays_whose_parts_do_not_fit_are_refused(state: Any):
    array = PickledArray()
    array.__setstate__(state)
    with pytest.raises(PlainPickleError, match="an array in it has"):
        array.array()


def test_damage_is_a_sentence_or_other_numbers(cifar10: Path):
    path = cifar10 / "cifar10" / "cifar-10-batches-py" / "data_batch_1"
    entry = pickle.loads(path.read_bytes())
    whole = pickle.dumps({"labels": entry["labels"][:4], "data": entry["data"][:4, :10]}, 2)
    draw = random.Random(0)
    seen = {"read": 0, "refused": 0}
    for _ in range(400):
        damaged = bytearray(whole)
        if draw.random() < 0.3:
            del damaged[draw.randrange(len(whole)) :]
        else:
            damaged[draw.randrange(len(whole))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            found = load(path)
            if isinstance(found, dict) and isinstance(found.get("data"), PickledArray):
                found["data"].array()
            seen["read"] += 1
        except PlainPickleError:
            seen["refused"] += 1
    assert seen["read"] > 20
    assert seen["refused"] > 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": "0123"}, r"labels of data_batch_3 is neither an array nor a list of whole numbers"),
        ({"labels": [0.5] * 12}, r"labels of data_batch_3 is neither an array"),
        ({"labels": [None] * 12}, r"labels of data_batch_3 is neither an array"),
        ({"labels": [[1]] * 12}, r"labels of data_batch_3 is neither an array"),
        ({"labels": [2**70] * 12}, r"labels of data_batch_3"),
        ({"labels": np.zeros((12, 2), int)}, r"labels of data_batch_3 are not one whole number for each of 12 images"),
        ({"labels": np.zeros(12)}, r"labels of data_batch_3 are not one whole number"),
        ({"labels": [0] * 11}, r"labels of data_batch_3 are not one whole number for each of 12 images"),
        ({"labels": [-1] * 12}, r"labels outside of the 10 classes"),
        ({"labels": [10] * 12}, r"labels outside of the 10 classes"),
        ({"data": np.zeros((12, 3071), np.uint8)}, r"data of data_batch_3 is no uint8 \[images, 3072\]"),
        ({"data": np.zeros((12, 3072), np.int16)}, r"data of data_batch_3 is no uint8"),
        ({"data": {}}, r"data of data_batch_3 is neither"),
        ([1, 2], r"data_batch_3 holds no dict"),
        ({"data": Calls(os.mkdir, "made")}, r"of data_batch_3: it asks for posix\.mkdir"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_odd_cifar_files_are_told_in_a_sentence(change: Any, words: str, cifar10: Path, monkeypatch):
    monkeypatch.chdir(cifar10)
    path = cifar10 / "cifar10" / "cifar-10-batches-py" / "data_batch_3"
    entry = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**entry, **change} if isinstance(change, dict) else change, 2))
    with pytest.raises(ValueError, match=words) as caught:
        data.load("cifar10", cifar10, verify=False)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(cifar10))
    assert not Path("made").exists()


@pytest.mark.parametrize("names", [None, "airplane", [1] * 10, [], [b"a"] * 10])
def test_odd_names_of_classes_are_told(names: Any, cifar10: Path):
    place = cifar10 / "cifar10" / "cifar-10-batches-py" / "batches.meta"
    place.write_bytes(pickle.dumps({"label_names": names}))
    with pytest.raises(ValueError, match=r"label_names of batches\.meta is no list of names"):
        data.load("cifar10", cifar10, verify=False)


def test_keys_may_be_bytes_and_labels_arrays(cifar10: Path):
    expected = data.load("cifar10", cifar10, verify=False)
    path = cifar10 / "cifar10" / "cifar-10-batches-py" / "test_batch"
    entry = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({b"data": entry["data"], b"labels": np.array(entry["labels"], np.uint8)}))
    found, known = (
        next(iter(loaded.test.epoch(0))) for loaded in (data.load("cifar10", cifar10, verify=False), expected)
    )
    assert found.labels.tolist() == known.labels.tolist()
    assert found.images.equal(known.images)
