"""TFRecord files are framed as others frame them, and read without believing what is damaged."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tfrecord.reader import tfrecord_loader
from tfrecord.writer import TFRecordWriter

from data.checksums import masked_crc32c
from data.record_files import find_int, frames, parse, read_record, write_records
from data.record_makers import raw_record
from tests.data import tfrecords
from tests.data.record_pieces import pixels


def test_checksums_are_those_of_the_format():
    # CRC32C of "123456789" is 0xe3069283 (RFC 3720, appendix B.4), masked as TFRecord does
    assert masked_crc32c(b"123456789") == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_written_files_are_read_by_others(raw):
    path = raw / "squares" / "train" / "train-00000-of-00005"
    independent = tfrecords.records(path)
    for number, (features, by_package) in enumerate(zip(independent, tfrecord_loader(str(path), None), strict=True)):
        assert features["image/raw"] == pixels(number).tobytes() == by_package["image/raw"]
        assert (features["height"], features["width"], features["label"]) == (8, 8, number % 5)
    ours = [parse(read_record(path, frame)) for frame, _ in frames(path)]
    assert [o["image/raw"] for o in ours] == [i["image/raw"] for i in independent]


@settings(deadline=None, max_examples=50)
@given(
    label=st.integers(-(2**63), 2**63 - 1),
    others=st.dictionaries(st.text(max_size=5), st.binary(max_size=300) | st.lists(st.floats(width=32)), max_size=4),
)
def test_labels_are_found_without_parsing_the_rest(label, others):
    features = {key: (value, "byte" if isinstance(value, bytes) else "float") for key, value in others.items()}
    record = TFRecordWriter.serialize_tf_example({**features, "image/class/label": (label, "int")})
    assert find_int(memoryview(record), b"image/class/label") == label
    assert find_int(memoryview(record), b"no such feature") is None


def test_no_flipped_bit_is_more_than_a_value_error():
    record = TFRecordWriter.serialize_tf_example({"label": (1, "int"), "other": (b"bytes", "byte")})
    for bit in range(8 * len(record)):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        with suppress(ValueError):
            label = find_int(memoryview(damaged), b"label")
            assert label is None or -(2**63) <= label < 2**63
    beyond = b"\n\x1a\n\x18\n\x05label\x12\x0f\x1a\x0d\n\x0b" + b"\xff" * 10 + b"\1"  # 2**77 - 1 in a record's form
    with pytest.raises(ValueError, match=r"no tf\.train\.Example"):
        find_int(memoryview(beyond), b"label")


def test_nothing_half_written_is_left(tmp_path):
    def records():
        yield raw_record(pixels(0), 1)
        raise ValueError("in the middle")

    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"what was there")
    with pytest.raises(ValueError, match="in the middle"):
        write_records(path, records())
    assert os.listdir(tmp_path) == ["a.tfrecord"]  # noqa: PTH208
    assert path.read_bytes() == b"what was there"
