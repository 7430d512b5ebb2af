"""The gradient of a batch that processes share: every image weighs the same, whoever has it and in whichever part."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import Batch
from genutil.config import Experiment
from genutil.system.arithmetic import matmul_precision, suitable_precision
from genutil.system.distributed import sum_over_processes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

IMAGES_A_PART = 2
"""At least, in every process: a batch norm has no deviation of one."""


class Shares(NamedTuple):
    """How a batch is shared: its images in all processes together, and the fewest that one of them has."""

    total: int
    fewest: int


def shares(fabric: Fabric, batch: Batch, uncertain: bool) -> Shares:
    """How a batch is shared among the processes.

    Args:
        fabric: launched.
        batch: of this process.
        uncertain: each process may have left images out, so that they have to tell each other.
    """
    if fabric.world_size == 1:
        return Shares(batch.total, len(batch.labels))
    if not uncertain:
        return Shares(batch.total, batch.total // fabric.world_size)  # `data.steps.Steps` cuts evenly
    counts = torch.zeros(fabric.world_size, dtype=torch.int64, device=fabric.device)
    counts[fabric.global_rank] = len(batch.labels)
    everyones = sum_over_processes(fabric, counts)
    return Shares(int(everyones.sum()), int(everyones.min()))


def backward(fabric: Fabric, module: nn.Module, batch: Batch, experiment: Experiment) -> tuple[Tensor, Tensor]:
    """Add the gradient of the mean loss over the whole batch, of all processes, to that of the parameters.

    The batch is computed in `experiment.accumulate` parts, or in as many as leave two images a part in every process;
    the processes exchange gradients once, after the last part.

    Args:
        fabric: launched.
        module: as Fabric set it up for training.
        batch: of this process.
        experiment: `accumulate`, `label_smoothing`, `matmul_precision` and `skip_unreadable` count.

    Returns:
        The summed loss in nats, and the number of correct guesses, of this process's images.
    """
    total, fewest = shares(fabric, batch, uncertain=experiment.skip_unreadable)
    parts = max(1, min(experiment.accumulate, fewest // IMAGES_A_PART))
    losses, correct = [], []
    images, labels = batch.images.tensor_split(parts), batch.labels.tensor_split(parts)
    for number, (own_images, own_labels) in enumerate(zip(images, labels, strict=True), 1):
        with (
            matmul_precision(suitable_precision(experiment.matmul_precision, fabric.device)),
            _without_exchange(fabric, module, number < parts),
        ):
            logits = module(own_images)
            loss = F.cross_entropy(logits, own_labels, label_smoothing=experiment.label_smoothing, reduction="sum")
            fabric.backward(loss * (fabric.world_size / total))  # DDP takes the mean over processes
        losses.append(loss.detach())
        correct.append((logits.detach().argmax(1) == own_labels).sum())
    return torch.stack(losses).sum(), torch.stack(correct).sum()


def _without_exchange(fabric: Fabric, module: nn.Module, wished: bool) -> AbstractContextManager[None]:
    """Gradients stay in their process within it."""
    if not wished or fabric.world_size == 1:
        return nullcontext()
    return fabric.no_backward_sync(module)  # type: ignore[arg-type]  # it is what Fabric set up
