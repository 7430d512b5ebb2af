"""A reader of TensorFlow-2 checkpoints that needs no TensorFlow.

A checkpoint `prefix` is a file prefix.index and shards prefix.data-00000-of-0000N. The index is a table of the
LevelDB kind (https://github.com/google/leveldb/blob/main/doc/table_format.md): blocks of keys and values in the order
of the keys, a block that lists them, a footer. Its values are protocol-buffer messages (tensor_bundle.proto): under
the empty key what holds for the whole, under a tensor's name its type, shape, place and CRC32C. Nothing in the files
is executed, no length in them is believed before it is compared with what is there, and every checksum is verified.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.checksums import masked_crc32c
from data.wire_format import WireFormatError, fields, varint

MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
TRAILER_BYTES = 5
"""After every block: one byte that names its compression, four of checksum."""
LARGEST_INDEX = 64 << 20
"""Bytes of an index, and of all its names, beyond which it is taken for something else."""
STRING = 7
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    17: np.dtype("<u2"),
    19: np.dtype("<f2"),
    22: np.dtype("<u4"),
    23: np.dtype("<u8"),
}
"""TensorFlow's numbers of the types that are read (types.proto)."""


class CheckpointError(ValueError):
    """The file is damaged, or holds what this reader does not read; one sentence says which."""


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: number of its type, shape, shard, first byte, bytes, masked CRC32C, whether in slices."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


class TensorFlowCheckpoint(Mapping[str, np.ndarray]):
    """The tensors of a checkpoint by name; a tensor is read, and its checksum verified, when it is asked for.

    Raises FileNotFoundError for an absent file and CheckpointError for anything that does not agree.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.prefix = str(prefix)
        path = Path(f"{self.prefix}.index")
        if not path.is_file():
            raise FileNotFoundError(f"There is no TensorFlow checkpoint {self.prefix}: {path} does not exist.")
        if path.stat().st_size > LARGEST_INDEX:
            raise CheckpointError(f"The file {path} is too large to be the index of a checkpoint.")
        try:
            self.shards, self.entries = _read_index(path.read_bytes())
        except (CheckpointError, WireFormatError) as error:
            raise CheckpointError(f"The index {path} of a TensorFlow checkpoint cannot be read: {error}.") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        try:
            return _to_array(entry, self._bytes(entry))
        except CheckpointError as error:
            raise CheckpointError(f"Tensor {name} of checkpoint {self.prefix} cannot be read: {error}.") from None

    def _bytes(self, entry: TensorEntry) -> bytes:
        _check_size(entry)
        path = Path(f"{self.prefix}.data-{entry.shard:05}-of-{self.shards:05}")
        if not path.is_file():
            raise FileNotFoundError(f"Checkpoint {self.prefix} is incomplete: {path} does not exist.")
        with path.open("rb") as shard:
            if entry.offset + entry.size > path.stat().st_size:
                raise CheckpointError(f"it should end behind the end of {path.name}")
            shard.seek(entry.offset)
            return shard.read(entry.size)


def _check_size(entry: TensorEntry) -> None:
    """Refuses a type that is not read, and a size that is not that of the shape."""
    if entry.sliced:
        raise CheckpointError("it is stored in slices, which this reader does not read")
    if entry.dtype == STRING:
        raise CheckpointError("it holds text, which this reader does not read")
    if entry.dtype not in DTYPES:
        raise CheckpointError(f"this reader does not know its type, number {entry.dtype}")
    if math.prod(entry.shape) * DTYPES[entry.dtype].itemsize != entry.size:
        raise CheckpointError(f"{entry.size} bytes are not those of the shape {list(entry.shape)}")


def _to_array(entry: TensorEntry, data: bytes) -> np.ndarray:
    if masked_crc32c(data) != entry.checksum:
        raise CheckpointError("its checksum does not agree with its bytes")
    return np.frombuffer(data, DTYPES[entry.dtype]).reshape(entry.shape)


def _read_index(data: bytes) -> tuple[int, dict[str, TensorEntry]]:
    """Number of shards, and the entry of every tensor."""
    entries: dict[str, TensorEntry] = {}
    shards = names = 0
    for key, value in _table(data):
        names += len(key)
        if names > LARGEST_INDEX:
            raise CheckpointError("its names are too long to be true")
        if not key:
            shards = _header(value)
            continue
        if not shards:
            raise CheckpointError("its header is missing")
        try:
            name = key.decode()
        except UnicodeDecodeError:
            raise CheckpointError("a name in it is no text") from None
        entries[name] = _entry(value, shards)
    if not shards:
        raise CheckpointError("its header is missing")
    return shards, entries


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table, in strictly rising order of the keys."""
    if len(data) < FOOTER_BYTES or struct.unpack("<Q", data[-8:])[0] != MAGIC:
        raise CheckpointError("it does not end as one, so it is cut off or something else")
    footer, body = data[-FOOTER_BYTES:-8], data[:-FOOTER_BYTES]
    _, position = _handle(footer, 0)  # the block of meta data is empty
    index, _ = _handle(footer, position)
    last: bytes | None = None
    behind = 0
    for _, value in _block(body, *index):
        (offset, size), end = _handle(value, 0)
        if end != len(value):
            raise CheckpointError("the place of a block is not two numbers")
        if offset < behind:
            raise CheckpointError("its blocks overlap")
        behind = offset + size + TRAILER_BYTES
        for key, entry in _block(body, offset, size):
            if last is not None and key <= last:
                raise CheckpointError("its names are not in order")
            last = key
            yield key, entry


def _block(body: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block; a key is stored as what it shares with the one before, and the rest."""
    end = offset + size
    if end + TRAILER_BYTES > len(body):
        raise CheckpointError("a block in it should end behind its end")
    kind, checksum = struct.unpack("<BI", body[end : end + TRAILER_BYTES])
    if masked_crc32c(body[offset : end + 1]) != checksum:
        raise CheckpointError("the checksum of a block does not agree with its bytes")
    if kind == 1:
        raise CheckpointError("its blocks are compressed with Snappy, which this reader does not read")
    if kind != 0:
        raise CheckpointError(f"this reader does not know the compression of its blocks, number {kind}")
    block = body[offset:end]
    if size < 4:
        raise CheckpointError("a block in it is too short")
    stop = size - 4 * (1 + struct.unpack("<I", block[-4:])[0])
    if stop < 0:
        raise CheckpointError("a block in it has more restarts than bytes")
    position, key = 0, b""
    while position < stop:
        shared, position = varint(block, position)
        fresh, position = varint(block, position)
        length, position = varint(block, position)
        if shared > len(key) or position + fresh + length > stop:
            raise CheckpointError("an entry in it should end behind the end of its block")
        key = key[:shared] + block[position : position + fresh]
        position += fresh + length
        yield key, block[position - length : position]


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and where the next thing begins."""
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return (offset, size), position


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise CheckpointError("a field that should be a number is not")
    return value


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise CheckpointError("a field that should be a message is a number")
    return value


def _header(message: bytes) -> int:
    """Number of shards (BundleHeaderProto)."""
    shards = 0
    for number, value in fields(message):
        if number == 1:
            shards = _number(value)
        elif number == 2 and _number(value) != 0:
            raise CheckpointError("it was written by a big-endian machine, which this reader does not read")
    if not 1 <= shards <= 99999:
        raise CheckpointError(f"it cannot have {shards} shards")
    return shards


def _entry(message: bytes, shards: int) -> TensorEntry:
    """BundleEntryProto."""
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: tuple[int, ...] = ()
    sliced = False
    for number, value in fields(message):
        if number in numbers:
            numbers[number] = _number(value)
        elif number == 2:
            shape = _shape(_message(value))
        elif number == 7:
            sliced = True
    if numbers[3] >= shards:
        raise CheckpointError(f"a tensor lies in shard {numbers[3]} of {shards}")
    return TensorEntry(numbers[1], shape, numbers[3], numbers[4], numbers[5], numbers[6], sliced)


def _shape(message: bytes) -> tuple[int, ...]:
    """TensorShapeProto: a message for each axis, whose first field is its length."""
    shape = []
    for number, value in fields(message):
        if number == 3 and _number(value):
            raise CheckpointError("a tensor has no shape")
        if number == 2:
            lengths = [_number(length) for field, length in fields(_message(value)) if field == 1]
            shape.append(lengths[-1] if lengths else 0)
    if len(shape) > 32 or any(length >= 1 << 31 for length in shape):
        raise CheckpointError("the shape of a tensor is too large to be true")
    return tuple(shape)
