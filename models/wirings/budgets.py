"""How the layers of a network share the edges that are kept. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.registry import Registry

Shapes = Sequence[tuple[int, ...]]


@dataclass(frozen=True)
class Budget:
    """A way to share the kept edges.

    Attributes:
        counts: from the shapes of the layers' weights and the prune rate to the edges that each layer keeps.
        description: a few words for help texts.
        joint: only the sum of the counts holds; which layer has them follows the weights.
    """

    counts: Callable[[Shapes, float], list[int]]
    description: str
    joint: bool = False


def uniform(shapes: Shapes, prune_rate: float) -> list[int]:
    """Every layer keeps the same share."""
    return [math.prod(shape) - int(prune_rate * math.prod(shape)) for shape in shapes]


def erdos_renyi_kernel(shapes: Shapes, prune_rate: float) -> list[int]:
    """A layer's share is proportional to the sum of its weight's sides over their product, and at most 1.

    Evci et al. 2020, arXiv 1911.11134.
    """
    sides = [sum(shape) for shape in shapes]
    sizes = [math.prod(shape) for shape in shapes]
    kept = sum(sizes) - int(prune_rate * sum(sizes))
    dense: set[int] = set()
    while True:
        left = kept - sum(sizes[i] for i in dense)
        scale = left / max(sum(s for i, s in enumerate(sides) if i not in dense), 1)
        full = {i for i in range(len(sizes)) if i not in dense and scale * sides[i] > sizes[i]}
        if not full:
            return _round([sizes[i] if i in dense else scale * sides[i] for i in range(len(sizes))], kept)
        dense |= full


def _round(edges: list[float], kept: int) -> list[int]:
    """Whole numbers with the sum `kept`: rounded down, and one more where the most was lost."""
    whole = [int(number) for number in edges]
    order = sorted(range(len(edges)), key=lambda i: whole[i] - edges[i])
    for i in order[: kept - sum(whole)]:
        whole[i] += 1
    return whole


def all_as_one(shapes: Shapes, prune_rate: float) -> list[int]:
    """The edges of all layers together, as the first layer's."""
    possible = sum(math.prod(shape) for shape in shapes)
    return [possible - int(prune_rate * possible), *[0] * (len(shapes) - 1)]


BUDGETS: Registry[Budget] = Registry(
    "budget",
    {
        "uniform": Budget(uniform, "equally"),
        "erk": Budget(erdos_renyi_kernel, "by Erdos-Renyi-kernel"),
        "global": Budget(all_as_one, "all as one", joint=True),
    },
)
"""Every budget by its name."""
