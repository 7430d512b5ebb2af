"""A run that is one process on the CPU in full precision, for which Fabric need not be imported."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeAlias

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Runtime: TypeAlias = "Fabric | OneProcess"
"""What tells a run which device and process it is in."""


class OneProcess:
    """Answers what profiles and evaluations ask of Fabric as `Fabric(accelerator="cpu", devices=1)` would.

    Importing Fabric takes half as long as importing torch, for it imports torch's compiler.
    """

    device = torch.device("cpu")
    global_rank = local_rank = 0
    world_size = 1

    def autocast(self) -> AbstractContextManager[None]:
        """Operations keep their precision."""
        return nullcontext()

    def barrier(self) -> None:
        """There is no other process to wait for."""
