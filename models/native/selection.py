"""The largest of many numbers in C++: two passes over them, where torch's operations take six."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from models.native.library import NoCompilerError
from models.native.training import NAMES, load_kernel


def keep_largest(weight: Tensor, k: int, low: float, high: float) -> Tensor | None:
    """Mask of the k entries of largest magnitude; of entries of equal magnitude those of lower index.

    Args:
        weight: [n], float32 or float64, on the CPU, without gaps.
        k: entries to keep, from 1 to n.
        low, high: a guess of what the magnitude of the k-th largest lies between.

    Returns:
        None where the guess is wrong, an entry is not a number, or there is no compiler.
    """
    try:
        kernel = load_kernel()
    except NoCompilerError:
        return None
    number = ctypes.c_float if weight.dtype == torch.float32 else ctypes.c_double
    mask = torch.empty(len(weight), dtype=torch.bool)
    found = getattr(kernel, f"wirings_keep_largest_{NAMES[weight.dtype]}")(
        ctypes.c_void_p(weight.data_ptr()),
        ctypes.c_int64(len(weight)),
        ctypes.c_int64(k),
        number(low),
        number(high),
        ctypes.c_void_p(mask.data_ptr()),
        torch.get_num_threads(),
    )
    return mask if found else None
