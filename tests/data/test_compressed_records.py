"""Records that TensorFlow compressed are read as the others are; what only looks like records is told as such."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

import data
from data.compressed_records import plain_file
from data.records import make_index, record_files
from tests.data.record_pieces import write_raw


def two_members(content: bytes) -> bytes:
    return gzip.compress(content[:1000]) + gzip.compress(content[1000:])


WAYS = [gzip.compress, zlib.compress, lambda content: zlib.compress(content, 1), two_members]


@pytest.mark.parametrize("compress", WAYS)
@pytest.mark.parametrize("ending", ["tfrecord", "tfrecord.gz"])
def test_compressed_records_are_those_within(compress: Callable[[bytes], bytes], ending: str, tmp_path: Path):
    for name, numbers in (("train", range(40)), ("test", range(40, 60))):
        write_raw(tmp_path / "plain" / f"{name}.tfrecord", numbers)
        content = (tmp_path / "plain" / f"{name}.tfrecord").read_bytes()
        (tmp_path / "small").mkdir(exist_ok=True)
        (tmp_path / "small" / f"{name}.{ending}").write_bytes(compress(content))
    expected, found = (next(iter(data.load(name, tmp_path).test.epoch(0))) for name in ("plain", "small"))
    assert found.images.equal(expected.images)
    assert found.labels.equal(expected.labels)
    again = next(iter(data.load("small", tmp_path).test.epoch(0)))
    assert again.images.equal(expected.images)
    assert len(list((tmp_path / "small").glob(".*.plain"))) == 2
    assert not list((tmp_path / "small").glob("*.tmp"))


def test_shards_with_an_ending_are_one_set(tmp_path: Path):
    for shard in range(2):
        path = tmp_path / f"train-{shard:05d}-of-00002.tfrecord"
        write_raw(path, range(5 * shard, 5 * shard + 5))
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert len(make_index(record_files(tmp_path))) == 10


@pytest.fixture
def small(tmp_path: Path) -> Path:
    write_raw(tmp_path / "plain.tfrecord", range(10))
    path = tmp_path / "a.tfrecord.gz"
    path.write_bytes(gzip.compress((tmp_path / "plain.tfrecord").read_bytes()))
    return path


def test_a_file_that_changed_is_inflated_anew(small: Path):
    first = plain_file(small)
    write_raw(small.parent / "other.tfrecord", range(3))
    small.write_bytes(gzip.compress((small.parent / "other.tfrecord").read_bytes()))
    second = plain_file(small)
    assert second != first
    assert second.read_bytes() == (small.parent / "other.tfrecord").read_bytes()


def damaged(content: bytes) -> bytes:
    return content[:100] + bytes(10) + content[110:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[:-20], "is cut short: its compressed contents have no end"),
        (damaged, "is damaged"),
        (lambda _: gzip.compress(bytes(10_000_000)), "inflates to more than 100 times its size"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "is a pointer of Git LFS"),
        (lambda _: b"<!DOCTYPE html><html><body>Not found</body></html>", "is a web page"),
        (lambda _: b"nothing of the kind", "is no TFRecord file"),
    ],
)
def test_what_cannot_be_read_is_told_and_leaves_nothing(change: Callable[[bytes], bytes], words: str, small: Path):
    small.write_bytes(change(small.read_bytes()))
    with pytest.raises(ValueError, match=rf"a\.tfrecord\.gz .*{words}"):
        make_index([small])
    assert sorted(path.name for path in small.parent.iterdir()) == ["a.tfrecord.gz", "plain.tfrecord"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(small: Path):
    small.parent.chmod(0o500)
    assert plain_file(small).read_bytes() == (small.parent / "plain.tfrecord").read_bytes()


def test_where_nothing_can_be_kept_a_temporary_folder_serves(small: Path, monkeypatch: pytest.MonkeyPatch):
    from data import compressed_records

    inflated = compressed_records._inflated

    def refused(path: Path, target: Path) -> Path:
        if target.parent == small.parent:
            raise OSError(errno.EROFS, "read-only")
        return inflated(path, target)

    monkeypatch.setattr(compressed_records, "_inflated", refused)
    found = plain_file(small)
    assert found.parent != small.parent
    assert found.read_bytes() == (small.parent / "plain.tfrecord").read_bytes()
    shutil.rmtree(found.parent)
    compressed_records._temporary_folder.cache_clear()
