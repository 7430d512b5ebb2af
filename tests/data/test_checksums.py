from __future__ import annotations

from data.checksums import masked_crc32c


def test_crc32c_is_that_of_the_standard() -> None:
    # RFC 3720, B.4: CRC32C of 32 zero bytes is 8a9136aa; then LevelDB's mask
    crc = 0x8A9136AA
    assert masked_crc32c(bytes(32)) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32
