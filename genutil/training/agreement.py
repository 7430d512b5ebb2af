"""That all processes of a run start from the same place and train the same wiring."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from genutil.config import Experiment
from genutil.errors import UserError
from genutil.system.one_process import Runtime

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def digest(mask: Tensor) -> int:
    """63 bits of a hash (BLAKE2b) of a mask of edges, [possible], on any device."""
    packed = np.packbits(mask.cpu().numpy())
    return int.from_bytes(hashlib.blake2b(packed.tobytes(), digest_size=8).digest(), "little") >> 1


def same_start(fabric: Runtime, experiment: Experiment) -> Experiment:
    """The experiment as all processes of a run train it: where one of them goes on from a checkpoint, all do.

    An agent of torchrun counts its own restarts. Where a machine has been replaced, the processes of the new one do not
    know that they stand for others.

    Args:
        fabric: launched.
        experiment: of this process.
    """
    if fabric.world_size == 1 or not experiment.trains:
        return experiment
    everyones: list[str | None] = [None] * fabric.world_size
    dist.all_gather_object(everyones, experiment.resume)
    first = next(filter(None, everyones), None)
    return experiment if first == experiment.resume else experiment.but(resume=first, init_from=None)


def require_same_edges(fabric: Fabric, acting: Mapping[str, Tensor], epoch: int) -> None:
    """Check that the same edges act in every process; 8 bytes a graph are exchanged.

    Args:
        fabric: launched.
        acting: masks of the edges that act in this process, by the names of their graphs.
        epoch: that has just ended, counted from 1.

    Raises:
        UserError: they differ, with the graphs that they differ in; in every process.
    """
    if fabric.world_size == 1 or not acting:
        return
    own = torch.tensor([digest(mask) for mask in acting.values()], dtype=torch.int64)
    bounds = fabric.all_reduce(torch.stack([own, -own]).to(fabric.device), reduce_op="max")
    assert isinstance(bounds, Tensor)
    largest, smallest = bounds[0], -bounds[1]
    differing = [name for name, differs in zip(acting, (largest != smallest).tolist(), strict=True) if differs]
    if differing:
        raise UserError(
            f"The processes no longer have the same edges after epoch {epoch} (in {', '.join(differing)}): their "
            "weights have drifted apart. Go on from the last checkpoint, which is the first process's."
        )
