"""A reader of TFRecord files that shares nothing with the project's: framing by tensorboard, protobuf by hand."""

from __future__ import annotations

from pathlib import Path

from tensorboard.compat.tensorflow_stub.errors import OutOfRangeError
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New


def records(path: Path) -> list[dict]:
    """The features of every record, checksums verified."""
    reader, found = PyRecordReader_New(str(path)), []
    while True:
        try:
            reader.GetNext()
        except OutOfRangeError:
            return found
        found.append(_example(reader.record()))


def _example(data: bytes) -> dict:
    features = {}
    for number, entry in _fields(dict(_fields(data))[1]):
        assert number == 1
        parts = dict(_fields(entry))
        features[parts[1].decode()] = _feature(parts[2])
    return features


def _feature(data: bytes):
    ((kind, values),) = _fields(data)
    items = [value for _, value in _fields(values)]
    if kind == 1:
        return items[0] if len(items) == 1 else items
    numbers = []
    for item in items:
        if isinstance(item, int):
            numbers.append(item)
        while isinstance(item, bytes) and item:
            number, used = _varint(item)
            numbers.append(number)
            item = item[used:]
    return numbers[0] if len(numbers) == 1 else numbers


def _fields(data: bytes):
    while data:
        tag, used = _varint(data)
        data = data[used:]
        value, used = _varint(data)
        if tag & 7 == 2:
            yield tag >> 3, data[used : used + value]
            data = data[used + value :]
        else:
            yield tag >> 3, value
            data = data[used:]


def _varint(data: bytes) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(data):
        value += (byte & 127) << 7 * place
        if byte < 128:
            return value, place + 1
    raise AssertionError("a number without an end")
