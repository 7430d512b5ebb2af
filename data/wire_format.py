"""The wire format of protocol buffers (https://protobuf.dev/programming-guides/encoding), without their schemas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

Part = TypeVar("Part", bytes, memoryview)
"""Of a memoryview the parts are views as well: nothing is copied."""


class WireFormatError(ValueError):
    """The bytes are no message; says why, as the second half of a sentence about it."""


def varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """A number of at most 64 bits, seven in a byte, lowest first; and where the next thing begins.

    Raises:
        WireFormatError: it has no end, or more bits.
    """
    number = shift = 0
    try:
        while shift < 70:
            byte = data[position]
            number |= (byte & 0x7F) << shift
            position, shift = position + 1, shift + 7
            if byte < 0x80:
                if number >> 64:
                    break
                return number, position
    except IndexError:
        raise WireFormatError("it ends within a number") from None
    raise WireFormatError("a number in it has more than 64 bits")


def fields(message: Part) -> Iterator[tuple[int, int | Part]]:
    """Numbers and values of a message's fields: numbers as int (unsigned), anything with a length as its bytes.

    Raises:
        WireFormatError: at the first field that is none.
    """
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = varint(message, position)
            yield number, value
            continue
        if kind == 2:
            length, position = varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise WireFormatError("a field in it is of no known kind")
        if position + length > len(message):
            raise WireFormatError("a field in it should end behind the end of its message")
        content = message[position : position + length]
        position += length
        yield number, content if kind == 2 else int.from_bytes(content, "little")
