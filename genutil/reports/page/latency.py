"""What one image costs in fact: the network and each engine, timed for a moment on this machine's processor."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.inspection import evaluating
from models.sparse import channel_graphs
from models.sparse.compile import compile_graph
from models.sparse.engines import ENGINES, UnavailableError
from models.sparse.equality import EngineError

SECONDS, CALLS = 0.2, 50
"""Of one engine's timing, at most."""


@dataclass(frozen=True)
class Latency:
    """The time of one image, alone in its batch.

    Attributes:
        engine: its name; "network" for the network as it is.
        milliseconds: the median of some calls; None where the engine did not run, and `note` says why.
    """

    engine: str
    milliseconds: float | None
    note: str = ""


def measure(network: nn.Module, image_size: int, in_channels: int) -> list[Latency]:
    """Time a network in evaluation mode on the CPU, and every engine that "auto" would try, if it has a wired part.

    Args:
        network: on the CPU.
        image_size, in_channels: of the image, which is noise.
    """
    image = torch.randn(1, in_channels, image_size, image_size)
    found = [Latency("network", _milliseconds(network, image))]
    if not channel_graphs(network):
        return found
    for engine in ENGINES.values():
        if not engine.measured or not engine.runs_on("cpu"):
            continue
        try:
            engine.require()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compiled = compile_graph(network, engine.name, image_size=image_size)
            found.append(Latency(engine.name, _milliseconds(compiled, image)))
        except (UnavailableError, EngineError, ValueError) as error:
            found.append(Latency(engine.name, None, str(error)))
    return found


def _milliseconds(network: nn.Module, image: Tensor) -> float:
    with evaluating(network):
        first = _timed(lambda: network(image))
        until = time.perf_counter() + SECONDS
        times: list[float] = []
        while len(times) < CALLS and (time.perf_counter() < until or not times):
            times.append(_timed(lambda: network(image)))
            if first > SECONDS:
                break
    return 1000 * statistics.median(times)


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
