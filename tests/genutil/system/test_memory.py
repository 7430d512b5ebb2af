"""More memory than there is fails at once."""

from __future__ import annotations

import resource
import sys

import numpy as np
import pytest
import torch

from genutil.system import memory

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux bounds it")


@pytest.mark.parametrize("ask", [lambda: torch.empty(2**44), lambda: np.zeros(2**44), lambda: bytearray(2**44)])
def test_more_than_there_is_fails_at_once(ask) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises((RuntimeError, MemoryError)) as raised, memory.bounded():
        ask()
    assert memory.is_out_of_memory(raised.value)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_what_there_is_can_be_had() -> None:
    with memory.bounded():
        assert torch.zeros(10_000_000).sum() == 0
    assert not memory.is_out_of_memory(RuntimeError("sizes do not match"))
    assert 10**6 < (memory.available() or 0) < 2**50
