"""Memory for planes that is kept from step to step, for fresh pages cost more than the arithmetic on them."""

from __future__ import annotations

import threading

import torch
from torch import Tensor

from models.native.training import row_length

STALE_AFTER = 1000
"""Times that memory is taken before a piece that none of them wanted is given back to the system: many steps."""


class Buffers:
    """Pieces of memory that are free to be taken; of one process, for all its threads."""

    def __init__(self) -> None:
        self._free: list[tuple[int, Tensor]] = []
        self._turn = 0
        self._lock = threading.Lock()

    def take(self, channels: int, positions: int, dtype: torch.dtype) -> Buffer:
        """Rows for the planes of channels; what they hold is undefined."""
        row = row_length(positions, dtype)
        with self._lock:
            self._turn += 1
            fitting = [
                (memory.numel(), index)
                for index, (_, memory) in enumerate(self._free)
                if memory.dtype == dtype and channels * row <= memory.numel() <= 2 * channels * row
            ]
            memory = self._free.pop(min(fitting)[1])[1] if fitting else None
            self._free = [entry for entry in self._free if self._turn - entry[0] < STALE_AFTER]
        if memory is None:
            with torch.inference_mode(False):  # what evaluation leaves behind must serve training
                memory = torch.zeros(channels * row, dtype=dtype)
        return Buffer(self, memory, memory[: channels * row].view(channels, row))

    def give(self, memory: Tensor) -> None:
        """Take memory back."""
        with self._lock:
            self._free.append((self._turn, memory))

    def clear(self) -> None:
        """Give all that is not in use back to the system."""
        with self._lock:
            self._free.clear()

    @property
    def free_bytes(self) -> int:
        """Memory that is kept and not in use."""
        return sum(memory.numel() * memory.element_size() for _, memory in self._free)


class Buffer:
    """Rows of planes that go back to where they were taken from when nobody holds them any more.

    Attributes:
        rows: [channels, row].
    """

    def __init__(self, owner: Buffers, memory: Tensor, rows: Tensor) -> None:
        self._owner, self._memory, self.rows = owner, memory, rows

    def __del__(self) -> None:
        self._owner.give(self._memory)


BUFFERS = Buffers()
