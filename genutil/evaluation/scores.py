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
from genutil.system.distributed import over_devices, say, sum_over_processes
from genutil.system.one_process import Runtime
from models.inspection import evaluating


@dataclass(frozen=True)
class Scores:
    """Accuracies in percent, the mean cross entropy in nats, the number of images, and the time they took in seconds.

    `top5` is by min(5, classes) guesses. `non_finite` counts the images of which some logit is infinite or no number:
    nothing is predicted for them, so that they count as wrong.
    """

    top1: float
    top5: float
    loss: float
    images: int
    seconds: float
    non_finite: int = 0

    def __str__(self) -> str:
        return f"top-1 {self.top1:.2f} %, top-5 {self.top5:.2f} %, loss {self.loss:.4f} on {self.images} images"


def evaluate(fabric: Runtime, network: nn.Module, batches: Iterable[Batch]) -> Scores:
    """Scores of a network, in evaluation mode, over all images that all processes are given together.

    Logits that are not finite are told of in a line.

    Args:
        fabric: of the run; its precision is used.
        network: the plain one, on its device; every module of it is left in the mode that it was in.
        batches: of this process; they may be without images.

    Raises:
        UserError: there is no image.
    """
    started = time.perf_counter()
    sums = torch.zeros(5, dtype=torch.float64, device=fabric.device)
    with evaluating(network):
        forward = over_devices(fabric, network)
        for batch in batches:
            if len(batch.labels):
                with fabric.autocast():
                    logits = forward(batch.images)
                sums += _count(logits, batch.labels)
    loss, top1, top5, images, non_finite = sum_over_processes(fabric, sums).tolist()
    if not images:
        raise UserError("There is no image to evaluate on.")
    seconds = time.perf_counter() - started
    if non_finite:
        say(
            fabric,
            f"The logits of {non_finite:.0f} of {images:.0f} images are not finite, so that these count as wrong: "
            "the weights are damaged, or training has diverged.",
        )
    return Scores(100 * top1 / images, 100 * top5 / images, loss / images, int(images), seconds, int(non_finite))


def _count(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    logits = logits.double()
    loss = F.cross_entropy(logits, labels, reduction="sum")
    finite = logits.isfinite().all(dim=1)
    guesses = (logits.topk(min(5, logits.shape[1])).indices == labels[:, None]) & finite[:, None]
    images = loss.new_tensor(len(labels))
    return torch.stack([loss, guesses[:, 0].sum(), guesses.sum(), images, (~finite).sum()])
