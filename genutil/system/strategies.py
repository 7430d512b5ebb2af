"""How the processes of a run share its work, in Fabric's terms."""

from __future__ import annotations

import inspect
import os
from typing import Any

from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from genutil.config import Experiment
from genutil.errors import UserError


class SpawnedDDPStrategy(DDPStrategy):
    """DistributedDataParallel in processes that it starts itself, afresh."""


def make_strategy(experiment: Experiment, on_gpus: bool, processes: int) -> str | DDPStrategy:
    """The strategy of an experiment.

    Args:
        experiment: its `strategy` and `sync_batchnorm` count.
        on_gpus: whether its devices are GPUs.
        processes: of all machines.

    Raises:
        UserError: a strategy that these devices do not have.
    """
    if experiment.strategy == "dp":
        if on_gpus:
            return "dp"
        if processes > 1:
            raise UserError("strategy: dp spreads a batch over GPUs in one process; on the CPU use ddp.")
    if processes == 1:
        return "auto"
    started_outside = TorchElasticEnvironment.detect() or SLURMEnvironment.detect() or "LOCAL_RANK" in os.environ
    # torch renamed the option; the statistics of synchronised batch norm are equal everywhere already
    renamed = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    share: dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": not experiment.sync_batchnorm}
    return DDPStrategy(**share) if started_outside else SpawnedDDPStrategy(start_method="spawn", **share)
