"""How threads of OpenMP wait for one another. Needs no torch, and must be told before torch is imported."""

from __future__ import annotations

import os

LOOKS = 2_000
"""How often a waiting thread looks before it sleeps: about a tenth of a millisecond on a server's processor."""
SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def sleep_soon() -> None:
    """Let waiting threads sleep soon, in this process and those that it starts, unless the user chose otherwise.

    GNU's OpenMP, which torch brings, looks 300,000 times by default. Where other programs work on the machine that
    keeps a processor from the very thread that is waited for.
    """
    if not any(name in os.environ for name in SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = str(LOOKS)
