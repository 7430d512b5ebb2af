"""TFRecord files: framed bytes with checksums, written whole, and read from any place.

A record is its length (uint64, little endian), the masked CRC32C of those 8 bytes, the bytes, and their masked CRC32C.
The `tfrecord` package serialises and writes records; it reads without looking at a checksum, so that reading is ours.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tfrecord import example_pb2
from tfrecord.writer import TFRecordWriter

from data.checksums import masked_crc32c
from data.wire_format import WireFormatError, fields, varint

HEAD, TAIL = 12, 4
Features = Mapping[str, tuple[Any, str]]
"""A record's features, each a value (or several) and its kind: byte, int or float."""


class Frame(NamedTuple):
    """Where a record's bytes lie in its file."""

    offset: int
    length: int


def frames(path: Path) -> Iterator[tuple[Frame, memoryview]]:
    """Every record of a file: its frame, and a view of its bytes that holds until the next one is asked for.

    The bytes are not checked here (`read_record` does), so that those of large records need not be read.
    Raises ValueError naming file and offset where the file is cut short or a length is damaged.
    """
    size = path.stat().st_size
    if not size:
        return
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    view = memoryview(mapped)
    try:
        start = 0
        while start < size:
            frame = _frame(path, view, start, size)
            with view[frame.offset : frame.offset + frame.length] as data:
                yield frame, data
            start = frame.offset + frame.length + TAIL
    finally:
        # an error on its way out may still hold a part of it, and ends it with itself
        with suppress(BufferError):
            view.release()
            mapped.close()


def _frame(path: Path, view: memoryview, start: int, size: int) -> Frame:
    if size - start < HEAD:
        raise ValueError(f"{path} is cut short: its last record begins at byte {start} and has {size - start} bytes")
    length, crc = struct.unpack_from("<QI", view, start)
    if masked_crc32c(bytes(view[start : start + 8])) != crc:
        what = "is no TFRecord file" if start == 0 else "is damaged"
        raise ValueError(f"{path} {what}: the length of the record at byte {start} does not fit its checksum")
    if start + HEAD + length + TAIL > size:
        missing = start + HEAD + length + TAIL - size
        raise ValueError(f"{path} is cut short: the record at byte {start} lacks {missing} bytes")
    return Frame(start + HEAD, length)


def read_record(path: str | Path, frame: Frame) -> bytes:
    """The bytes of a record. Raises ValueError naming file and offset where they do not fit their checksum."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123  called for every image
        data = os.pread(file.fileno(), frame.length + TAIL, frame.offset)
    whole = len(data) == frame.length + TAIL
    if not whole or masked_crc32c(memoryview(data)[:-TAIL]) != int.from_bytes(data[-TAIL:], "little"):
        raise ValueError(f"{path} is damaged: the record at byte {frame.offset - HEAD} does not fit its checksum")
    return data[:-TAIL]


def parse(data: bytes) -> dict[str, Any]:
    """The features of a record: bytes, or lists of int or float. Raises ValueError where it is no tf.train.Example."""
    try:
        example = example_pb2.Example.FromString(data)
    except Exception as error:  # protobuf's own errors differ between its implementations
        raise ValueError(f"it is no tf.train.Example ({error})") from error
    features: dict[str, Any] = {}
    for key, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        features[key] = values[0] if kind == "bytes_list" and len(values) == 1 else values
    return features


def find_int(data: memoryview, key: bytes) -> int | None:
    """The first integer of a feature, without reading the others; None where there is none of that name.

    Raises ValueError where the bytes are no tf.train.Example.
    """
    try:
        for field, features in fields(data):
            for entry_field, entry in fields(_message(features)) if field == 1 else ():
                parts = dict(fields(_message(entry))) if entry_field == 1 else {}
                if 1 in parts and bytes(_message(parts[1])) == key:
                    return _first_int(_message(parts[2]))
    except (WireFormatError, KeyError, TypeError, StopIteration) as error:
        raise ValueError("it is no tf.train.Example") from error
    return None


def _message(value: int | memoryview) -> memoryview:
    """A field's value that must be a message of its own. Raises TypeError where it is a number."""
    if isinstance(value, int):
        raise TypeError(f"the number {value} where a message belongs")
    return value


def _first_int(feature: memoryview) -> int:
    """Of a Feature whose kind is an Int64List (field 3), packed or not."""
    values = _message(dict(fields(feature))[3])
    kind, value = next(iter(fields(values)))
    if isinstance(value, memoryview):
        value, _ = varint(value, 0)
    if kind != 1:
        raise TypeError(f"the number {value} in field {kind}")
    return value - (1 << 64) if value >= 1 << 63 else value


def write_records(path: Path, records: Iterable[Features]) -> int:
    """Write a file of records under a temporary name in its folder, then rename it; the number of records.

    Whatever fails on the way, nothing appears under the final name, and what was there stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    count = 0
    try:
        writer = TFRecordWriter(str(temporary))
        try:
            for record in records:
                writer.write(dict(record))
                count += 1
            writer.file.flush()
            os.fsync(writer.file.fileno())
        finally:
            writer.close()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count
