"""How exactly the processor computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def suitable_precision(name: str | None, device: torch.device) -> str:
    """The precision of float32 products where none (None) was asked for: "high" (TF32) on GPUs, else "highest"."""
    return name or ("high" if device.type == "cuda" else "highest")


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """In the block, products of float32 matrices are as exact as `torch.set_float32_matmul_precision(name)` says.

    So are the convolutions of cuDNN, for which torch has a switch of its own that allows TF32 unless told otherwise.
    """
    before, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(name)
    torch.backends.cudnn.allow_tf32 = name != "highest"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = convolutions
