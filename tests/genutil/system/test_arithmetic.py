"""The precision of matrix products is a training's own."""

from __future__ import annotations

import pytest
import torch

from genutil.system.arithmetic import matmul_precision, suitable_precision


@pytest.mark.parametrize("name", ["highest", "high", "medium"])
def test_the_precision_lasts_as_long_as_the_block(name):
    before = torch.get_float32_matmul_precision()
    with matmul_precision(name):
        assert torch.get_float32_matmul_precision() == name
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ZeroDivisionError), matmul_precision(name):
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(("name", "allowed"), [("highest", False), ("high", True)])
def test_convolutions_have_the_same_precision(name: str, allowed: bool) -> None:
    before = torch.backends.cudnn.allow_tf32
    with matmul_precision(name):
        assert torch.backends.cudnn.allow_tf32 == allowed
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize(
    ("name", "device", "chosen"),
    [(None, "cpu", "highest"), (None, "cuda", "high"), ("medium", "cpu", "medium"), ("highest", "cuda", "highest")],
)
def test_gpus_use_tf32_unless_told_otherwise(name: str | None, device: str, chosen: str) -> None:
    assert suitable_precision(name, torch.device(device)) == chosen
