"""Memory of planes: what nobody holds is taken again, what nobody wants goes back to the system."""

from __future__ import annotations

import torch

from models.native.buffers import STALE_AFTER, Buffers
from models.native.training import row_length


def test_memory_is_taken_again_once_nobody_holds_it():
    buffers = Buffers()
    first = buffers.take(10, 100, torch.float32)
    address = first.rows.data_ptr()
    assert first.rows.shape == (10, row_length(100, torch.float32))
    second = buffers.take(10, 100, torch.float32)
    assert second.rows.data_ptr() != address
    del first
    others = buffers.take(10, 100, torch.float64), buffers.take(2, 100, torch.float32)  # another type; a fifth of it
    assert address not in [other.rows.data_ptr() for other in others]
    again = buffers.take(8, 100, torch.float32)
    assert again.rows.data_ptr() == address
    assert len(again.rows) == 8


def test_the_smallest_piece_that_fits_is_taken():
    buffers = Buffers()
    large, small = buffers.take(9, 100, torch.float32), buffers.take(6, 100, torch.float32)
    address = small.rows.data_ptr()
    del large, small
    assert buffers.take(5, 100, torch.float32).rows.data_ptr() == address


def test_what_nobody_wants_goes_back():
    buffers = Buffers()
    buffers.take(100, 100, torch.float32)
    assert buffers.free_bytes == 100 * 4 * row_length(100, torch.float32)
    for _ in range(STALE_AFTER):
        buffers.take(1, 1, torch.float64)
    assert buffers.free_bytes == 8 * row_length(1, torch.float64)


def test_all_that_is_free_can_go_back():
    buffers = Buffers()
    held = buffers.take(4, 100, torch.float32)
    buffers.take(4, 100, torch.float32)
    buffers.clear()
    assert buffers.free_bytes == 0
    del held
    assert buffers.free_bytes > 0


def test_memory_taken_in_inference_can_be_written_in_training():
    buffers = Buffers()
    with torch.inference_mode():
        address = buffers.take(3, 10, torch.float32).rows.data_ptr()
    rows = buffers.take(3, 10, torch.float32).rows
    assert rows.data_ptr() == address
    rows.zero_()


def test_all_that_is_free_can_be_given_back():
    buffers = Buffers()
    held, free = (buffers.take(2, 100, torch.float32) for _ in range(2))
    del free
    assert buffers.free_bytes > 0
    buffers.clear()
    assert buffers.free_bytes == 0
    del held
    assert buffers.free_bytes > 0
