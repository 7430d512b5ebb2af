"""What makes a run repeatable: draws that are functions of its seed, and the choice of algorithms.

Every random draw is a function of the experiment's seed and of where it is made, so that nothing need be saved of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from genutil.errors import UserError

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def reseed(seed: int, *place: str | int) -> None:
    """Set torch's generators, on all devices, to a function of `seed` and a place.

    Args:
        seed: the experiment's.
        place: what the draws are for and where, such as ("step", 17, rank). Different places get unrelated draws.
    """
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little"))


@contextmanager
def chosen_algorithms(deterministic: bool) -> Iterator[None]:
    """Within it torch's operations give the same bits every time, or are the fastest; then all is as it was before.

    On the CPU they repeat either way, for the same number of threads. On a GPU the fastest may not: cuDNN times several
    algorithms and takes the quickest of the moment, and sums may be taken in any order.

    Args:
        deterministic: cuBLAS takes a workspace of fixed size then, which works where the process has not used it
            before (see torch.use_deterministic_algorithms).

    Raises:
        UserError: an operation has no deterministic form.
    """
    benchmark = torch.backends.cudnn.benchmark
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(CUBLAS_WORKSPACE)
    try:
        torch.backends.cudnn.benchmark = not deterministic
        _use_deterministic(deterministic)
        if deterministic:
            os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
        yield
    except RuntimeError as error:
        if deterministic and "does not have a deterministic implementation" in str(error):
            operation = str(error).split(" does not have")[0]
            raise UserError(
                f"{operation} has no deterministic form on this device: leave out deterministic."
            ) from error
        raise
    finally:
        torch.backends.cudnn.benchmark = benchmark
        _use_deterministic(enabled, warn_only)
        if workspace is None:
            os.environ.pop(CUBLAS_WORKSPACE, None)


def _use_deterministic(mode: bool, warn_only: bool = False) -> None:
    """Only where this is a change: torch imports its compiler to tell it so, which takes half as long as torch."""
    now = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if now != (mode, warn_only):
        torch.use_deterministic_algorithms(mode, warn_only=warn_only)
