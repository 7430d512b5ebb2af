"""The precision of matrix products is a training's own."""

from __future__ import annotations

import pytest
import torch

from genutil.system.arithmetic import matmul_precision


@pytest.mark.parametrize("name", ["highest", "high", "medium"])
def test_the_precision_lasts_as_long_as_the_block(name):
    before = torch.get_float32_matmul_precision()
    with matmul_precision(name):
        assert torch.get_float32_matmul_precision() == name
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ZeroDivisionError), matmul_precision(name):
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == before
