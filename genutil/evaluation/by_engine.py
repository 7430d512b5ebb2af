"""Evaluation by an engine that runs the live edges only, side by side with the network itself."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from data import Batch
from genutil.errors import UserError
from genutil.evaluation.scores import Scores, evaluate
from genutil.system.distributed import data_parallel, is_full_precision, sum_over_processes
from genutil.system.one_process import Runtime
from models.sparse.compile import compile_graph
from models.sparse.engines import ENGINES
from models.sparse.equality import TOLERANCE_FLOAT32, TOLERANCE_LOW, EngineError, full_float32

MOST_DIFFERING = 0.01
"""Share of the images, near ties left out, that an engine of less precision than the network may predict otherwise."""


@dataclass(frozen=True)
class Comparison:
    """What an engine gives, and how it compares with its network.

    Attributes:
        engine: its name.
        scores: of the engine's logits; `seconds` includes the network's time.
        images_per_second, network_images_per_second: of the engine and of the network, without loading.
        near_ties: images whose two best logits are no further apart than the engine's tolerance; they may be predicted
            either way. All others are predicted alike by an engine that computes as precisely as the network does.
        same: images that are predicted as the network does.
        exact: the engine computes as precisely as the network.
    """

    engine: str
    scores: Scores
    images_per_second: float
    network_images_per_second: float
    near_ties: int
    same: int
    exact: bool = True

    def to_dict(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "images_per_second": self.images_per_second,
            "network_images_per_second": self.network_images_per_second,
            "near_ties": self.near_ties,
            "same_predictions": self.same,
        }

    def __str__(self) -> str:
        ratio = self.images_per_second / self.network_images_per_second if self.network_images_per_second else 0.0
        alike = f"all but {self.near_ties} near ties"
        if not self.exact:
            share = 100 * self.same / max(1, self.scores.images)
            alike = f"{self.same} of {self.scores.images} images ({share:.2f} %), with {self.near_ties} near ties"
        return (
            f"fast_eval: engine {self.engine}, {self.images_per_second:.0f} images a second; the network as it is "
            f"{self.network_images_per_second:.0f} ({ratio:.1f} times); same prediction for {alike}"
        )


def evaluate_fast(
    fabric: Runtime, network: nn.Module, batches: Iterable[Batch], engine: str, image_size: int
) -> Comparison:
    """Evaluate a network by an engine, and check every prediction against the network's own.

    Args:
        fabric: of the run.
        network: on its device.
        batches: of this process.
        engine: see `models.sparse.compile_graph`.
        image_size: pixels.

    Raises:
        UserError: the engine cannot run this network here, or it does not compute what the network does.
    """
    if data_parallel(fabric):
        raise UserError("fast_eval runs on one device a process: leave out strategy dp.")
    try:
        compiled = compile_graph(network, engine, image_size=image_size)
    except (ValueError, ImportError, EngineError, OverflowError) as error:
        if name := _not_finite(network):
            raise UserError(
                f"fast_eval: {name} of the network holds values that are not finite, so that no engine can be "
                "compared with it: the weights are damaged, or training has diverged."
            ) from error
        raise UserError(f"fast_eval: {str(error).removesuffix('.')}.") from error
    name = str(compiled.engine)
    own = ENGINES[name].tolerance if name in ENGINES else None
    tolerance = max(TOLERANCE_FLOAT32 if is_full_precision(fabric) else TOLERANCE_LOW, own or 0.0)
    both = _SideBySide(network, compiled, tolerance)
    with full_float32():
        scores = evaluate(fabric, both, batches)
    counts = torch.tensor(
        [both.near_ties, both.differing, both.same, both.beyond], dtype=torch.float64, device=fabric.device
    )
    near_ties, differing, same, beyond = sum_over_processes(fabric, counts).tolist()
    if beyond:
        reason = both.reason or "another process says which numbers are too large"
        raise UserError(f"fast_eval: the engine {name} cannot run these images: {reason}.")
    if differing > (0 if own is None else MOST_DIFFERING * scores.images):
        raise UserError(
            f"The engine {name} predicts otherwise than the network for {differing:.0f} of {scores.images} "
            "images that are no near ties."
        )
    ours, theirs = (
        both.images / seconds if both.images else 0.0 for seconds in (both.engine_seconds, both.network_seconds)
    )
    return Comparison(name, scores, ours, theirs, int(near_ties), int(same), exact=own is None)


class _SideBySide(nn.Module):
    """Gives the engine's logits, and notes how they compare with the network's and how long either took."""

    def __init__(self, network: nn.Module, compiled: nn.Module, tolerance: float) -> None:
        super().__init__()
        self.network, self.compiled, self.tolerance = network, compiled, tolerance
        self.images = self.near_ties = self.differing = self.same = self.beyond = 0
        self.reason: str | None = None
        self.engine_seconds = self.network_seconds = 0.0

    def forward(self, images: Tensor) -> Tensor:
        try:
            if not self.images:  # what is only done for the first images is not timed
                self.network(images), self.compiled(images)
            expected, seconds = _timed(self.network, images)
            self.network_seconds += seconds
            logits, seconds = _timed(self.compiled, images)
            self.engine_seconds += seconds
        except OverflowError as error:  # told when all processes are done, which wait for one another
            self.beyond, self.reason = self.beyond + 1, str(error)
            return self.network(images)
        finite = expected.isfinite().all(dim=1)
        best = expected.float().topk(min(2, expected.shape[1])).values
        near = best[:, 0] - best[:, -1] <= self.tolerance * expected.abs().amax(dim=1)
        differs = (expected.argmax(dim=1) != logits.argmax(dim=1)) & finite | (finite != logits.isfinite().all(dim=1))
        self.near_ties += int((near & finite).sum())
        self.differing += int((differs & ~near).sum())
        self.same += int((~differs).sum())
        self.images += len(images)
        return logits


def _not_finite(network: nn.Module) -> str | None:
    """The name of an entry of a network's state that is not finite in every value."""
    state = ((name, value) for name, value in network.state_dict().items() if isinstance(value, Tensor))
    return next((name for name, value in state if not value.isfinite().all()), None)


def _timed(network: nn.Module, images: Tensor) -> tuple[Tensor, float]:
    start = time.perf_counter()
    logits = network(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return logits, time.perf_counter() - start
