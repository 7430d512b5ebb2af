"""The checksum of TFRecord files, of LevelDB's tables, and of TensorFlow's checkpoints."""

from __future__ import annotations

from crc32c import crc32c


def masked_crc32c(data: bytes | memoryview) -> int:
    """The CRC32C of the data (RFC 3720), rotated by 15 bits and shifted by a constant, as LevelDB stores it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
