"""A small writer of TensorFlow-2 checkpoints, written after the description of the format, not after our reader."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from crc32c import crc32c

NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bool": 10, "float16": 19}


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def entry_message(dtype: int, shape: tuple[int, ...], shard: int, offset: int, size: int, crc: int) -> bytes:
    axes = b"".join(b"\x12" + varint(len(axis)) + axis for axis in (b"\x08" + varint(n) for n in shape))
    message = b"\x08" + varint(dtype) + b"\x12" + varint(len(axes)) + axes
    for field, number in ((3, shard), (4, offset), (5, size)):
        message += varint(field << 3) + varint(number) if number else b""
    return message + b"\x35" + struct.pack("<I", crc)


def block(entries: list[tuple[bytes, bytes]], kind: int = 0, interval: int = 16) -> bytes:
    """A block with its trailer; keys share what they can with the one before, anew every `interval` entries."""
    out, restarts, last = bytearray(), [], b""
    for i, (key, value) in enumerate(entries):
        shared = 0
        if i % interval == 0:
            restarts.append(len(out))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    out += struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
    out.append(kind)
    return bytes(out) + struct.pack("<I", masked(bytes(out)))


def table(entries: list[tuple[bytes, bytes]], entries_a_block: int = 20, kind: int = 0) -> bytes:
    """A whole index."""
    out, handles = b"", []
    for start in range(0, len(entries), entries_a_block):
        part = entries[start : start + entries_a_block]
        made = block(part, kind)
        handles.append((part[-1][0], varint(len(out)) + varint(len(made) - 5)))
        out += made
    footer = b""
    for made in (block([]), block(handles, interval=1)):
        footer += varint(len(out)) + varint(len(made) - 5)
        out += made
    return out + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def write_checkpoint(prefix: Path, tensors: dict[str, np.ndarray], text: bytes = b"\x0a\x00") -> None:
    """Two shards, as Keras writes them: the graph of objects, a string, in the first, every tensor in the second."""
    entries = {b"": b"\x08\x02\x1a\x02\x08\x01"}
    entries[b"_CHECKPOINTABLE_OBJECT_GRAPH"] = entry_message(7, (), 0, 0, len(text), masked(text))
    data = b""
    for name, tensor in tensors.items():
        raw = tensor.tobytes()
        number = NUMBERS[tensor.dtype.name]
        entries[name.encode()] = entry_message(number, tensor.shape, 1, len(data), len(raw), masked(raw))
        data += raw
    Path(f"{prefix}.index").write_bytes(table(sorted(entries.items())))
    Path(f"{prefix}.data-00000-of-00002").write_bytes(text)
    Path(f"{prefix}.data-00001-of-00002").write_bytes(data)


@pytest.fixture(scope="session")
def writer() -> SimpleNamespace:
    """The pieces of the writer by name."""
    return SimpleNamespace(**{f.__name__: f for f in (masked, varint, entry_message, block, table, write_checkpoint)})
