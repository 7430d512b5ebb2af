"""Every random draw of a run is a function of the experiment's seed and of where it is made: nothing need be saved."""

from __future__ import annotations

import hashlib

import torch


def reseed(seed: int, *place: str | int) -> None:
    """Set torch's generators, on all devices, to a function of `seed` and a place.

    Args:
        seed: the experiment's.
        place: what the draws are for and where, such as ("step", 17, rank). Different places get unrelated draws.
    """
    digest = hashlib.blake2b(repr((seed, *place)).encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little"))
