"""The wire format of protocol buffers, by the examples of its description."""

from __future__ import annotations

import struct

import pytest

from data.wire_format import WireFormatError, fields, varint


@pytest.mark.parametrize(
    ("data", "number"),
    [(b"\x01", 1), (b"\x96\x01", 150), (b"\x7f", 127), (b"\x80\x01", 128), (b"\xff" * 9 + b"\x01", 2**64 - 1)],
)
def test_numbers(data: bytes, number: int) -> None:
    assert varint(b"x" + data + b"rest", 1) == (number, 1 + len(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends within a number"),
        (b"\x96", "ends within a number"),
        (b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (b"\xff" * 12, "more than 64 bits"),
    ],
)
def test_what_is_no_number_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WireFormatError, match=reason):
        varint(data, 0)


MESSAGE = b"\x08\x96\x01" + b"\x12\x07testing" + b"\x1d" + struct.pack("<I", 7) + b"\x21" + struct.pack("<Q", 2**63)


def test_fields_of_every_kind() -> None:
    assert list(fields(MESSAGE)) == [(1, 150), (2, b"testing"), (3, 7), (4, 2**63)]


def test_parts_of_a_view_are_views() -> None:
    (_, part) = list(fields(memoryview(MESSAGE)))[1]
    assert isinstance(part, memoryview)
    assert part == b"testing"


@pytest.mark.parametrize("end", [1, 2, 4, 6, 13, 18, 20])
def test_a_message_that_is_cut_within_a_field_is_refused(end: int) -> None:
    with pytest.raises(WireFormatError, match=r"it ends within a number|should end behind the end of its message"):
        list(fields(MESSAGE[:end]))


def test_groups_are_refused() -> None:
    with pytest.raises(WireFormatError, match="no known kind"):
        list(fields(b"\x0b"))
