"""Whether an engine computes what its network computes, and where it begins to differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.inspection import Call, evaluating, recorded_calls
from models.sparse.compiled import LOW_PRECISION, CompiledGraph, evaluated
from models.sparse.graph import compute_planes

TOLERANCE_FLOAT32, TOLERANCE_LOW = 1e-4, 3e-2
"""Largest difference from the network, relative to its largest output: in float32, and in 16 bits."""


class EngineError(RuntimeError):
    """An engine does not compute what the network computes."""


def check_equal(network: nn.Module, parts: Mapping[str, CompiledGraph], images: Tensor) -> None:
    """Compare compiled parts of a network with what they stand for, while the images go through the network.

    Args:
        network: as it was compiled.
        parts: by the names of the modules that they stand for.
        images: that suit the network.

    Raises:
        EngineError: a part differs too much; it names the stage.
    """
    with full_float32():
        with evaluating(network), recorded_calls(network, parts) as calls:
            network(images)
        for name, part in parts.items():
            if name in calls:  # else the network has this part, and does not use it
                _compare(network, name, part, calls[name][0])
    for part in parts.values():
        part.forget_recordings()  # what was recorded just now is not what the user's settings would give


@contextmanager
def full_float32() -> Iterator[None]:
    """Convolutions on a GPU without TensorFloat-32: an engine and its network would round different weights."""
    cudnn = torch.backends.cudnn
    with cudnn.flags(
        enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
    ):
        yield


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest magnitude expected; infinite where a value is not finite."""
    difference = (found.double() - expected.double()).abs().max().item()
    largest = expected.double().abs().max().item()
    ratio = difference / largest if largest else difference
    return ratio if ratio == ratio else float("inf")


def _compare(network: nn.Module, name: str, part: CompiledGraph, call: Call) -> None:
    """Raises EngineError where a part differs from the module of that name in one of its calls."""
    given, expected = call.given, call.result
    if part.graph.takes_vectors:
        given, expected = (values.reshape(-1, values.shape[-1]) for values in (given, expected))
    tolerance = TOLERANCE_LOW if (part.dtype or given.dtype) in LOW_PRECISION else TOLERANCE_FLOAT32
    tolerance = max(tolerance, part.entry.tolerance or 0.0)
    try:
        found = evaluated(part, given)
    except OverflowError as error:
        beyond = next(image for image in given.split(1) if overflows(part, image))
        stage = _first_wrong_stage(network, name, part, beyond, tolerance)
        raise EngineError(
            f"The engine {part.engine} cannot run this network: from stage {stage} on, {error}."
        ) from error
    difference = relative_difference(found, expected)
    if not difference <= tolerance:
        stage = _first_wrong_stage(network, name, part, given, tolerance)
        raise EngineError(
            f"The engine {part.engine} differs from the network by {difference:.1e} of its largest output, "
            f"more than {tolerance:.0e}, from stage {stage} on."
        )


def overflows(engine: nn.Module, images: Tensor) -> bool:
    """A number on the way is beyond those that the engine computes with."""
    try:
        evaluated(engine, images)
    except OverflowError:
        return True
    return False


def _first_wrong_stage(network: nn.Module, name: str, part: CompiledGraph, given: Tensor, tolerance: float) -> str:
    """The first stage whose planes are wrong: in the channel graph if it is, else in the engine."""
    graph, first = part.graph, given[:1]
    image = first.double().cpu()
    array = image.numpy() if image.dim() == 4 else image.numpy()[:, :, None, None]
    if not name:  # inside a part of a network, nothing can be probed
        planes = compute_planes(graph, array[0])
        probes = [(i, *level.probe) for i, level in enumerate(graph.levels) if level.probe is not None]
        with evaluating(network), recorded_calls(network, [probe for _, probe, _ in probes]) as calls:
            network(first)
        for i, probe, number in probes:
            made = calls.get(probe, [])
            if len(made) > number:
                difference = relative_difference(torch.from_numpy(planes[i]), made[number].result[0].cpu())
                if difference > tolerance:
                    return graph.levels[i].stage or name
    size = array.shape[2:]
    pruned = graph.pruned(size)
    expected = compute_planes(pruned, array[0])
    for i in range(1, len(pruned.levels)):
        like = first.to(part.dtype or first.dtype)
        try:
            found = evaluated(part.make_engine(pruned.upto(i), size, like), like).cpu()
        except OverflowError:
            return pruned.levels[i].stage or name
        if relative_difference(found[0].flatten(1), torch.from_numpy(expected[i]).flatten(1)) > tolerance:
            return pruned.levels[i].stage or name
    return graph.levels[-1].stage or name
