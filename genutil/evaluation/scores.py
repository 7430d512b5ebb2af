"""Top-1, top-5 and loss of a network over a set of images."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from data import Batch
from genutil.errors import UserError
from genutil.system.distributed import over_devices, sum_over_processes
from genutil.system.one_process import Runtime
from models.inspection import evaluating


@dataclass(frozen=True)
class Scores:
    """Accuracies in percent, the mean cross entropy in nats, the number of images, and the time they took in seconds.

    `top5` is by min(5, classes) guesses.
    """

    top1: float
    top5: float
    loss: float
    images: int
    seconds: float

    def __str__(self) -> str:
        return f"top-1 {self.top1:.2f} %, top-5 {self.top5:.2f} %, loss {self.loss:.4f} on {self.images} images"


def evaluate(fabric: Runtime, network: nn.Module, batches: Iterable[Batch]) -> Scores:
    """Scores of a network, in evaluation mode, over all images that all processes are given together.

    Args:
        fabric: of the run; its precision is used.
        network: the plain one, on its device; every module of it is left in the mode that it was in.
        batches: of this process; they may be without images.

    Raises:
        UserError: there is no image.
    """
    started = time.perf_counter()
    sums = torch.zeros(4, dtype=torch.float64, device=fabric.device)
    with evaluating(network):
        forward = over_devices(fabric, network)
        for batch in batches:
            if len(batch.labels):
                with fabric.autocast():
                    logits = forward(batch.images)
                sums += _count(logits, batch.labels)
    loss, top1, top5, images = sum_over_processes(fabric, sums).tolist()
    if not images:
        raise UserError("There is no image to evaluate on.")
    seconds = time.perf_counter() - started
    return Scores(100 * top1 / images, 100 * top5 / images, loss / images, int(images), seconds)


def _count(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = logits.double()
    loss = F.cross_entropy(logits, labels, reduction="sum")
    guesses = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    return torch.stack([loss, guesses[:, 0].sum(), guesses.sum(), loss.new_tensor(len(labels))])
