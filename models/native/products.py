"""The gradient of the weights of edges, for all of them: a product of the nodes' gradient and the sources.

It is dense, for the rule moves edges that do not act too. But a node that leads nowhere has no gradient, and a node
that no edge reaches has the same number at every place of every image, the border aside, where its convolution reads
beyond the plane: their part of the product costs next to nothing. Such are about half of the nodes of the published
MobileNet-like network with 22.5 % of the edges.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from models.native.training import REGIONS, copy_rows, place, zero_rows

WORTH_COPYING = 0.8
"""Of the whole product: where less than this share of it is left, the rows that it needs are copied."""
COPIED_BYTES = 1 << 22
"""Of rows that are copied at a time, for the copies to be read from a cache."""


def rounding_pays(dtype: torch.dtype) -> bool:
    """Whether products are to be in bfloat16, as `torch.set_float32_matmul_precision("medium")` allows.

    That is so on processors that multiply vectors of bfloat16, on which torch leaves products of float32 as they are.
    On those that multiply tiles (AMX) it rounds float32 itself.
    """
    medium = torch.get_float32_matmul_precision() == "medium"
    return dtype == torch.float32 and medium and _multiplies_vectors()


@cache
def _multiplies_vectors() -> bool:
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch may lack it
    return bool(known.get("avx512_bf16")) and not known.get("amx_tile")


def product_over_planes(
    gradient: Tensor,
    sources: Tensor,
    size: tuple[int, int],
    still: Tensor | None = None,
    rounded: Callable[[], Tensor] | None = None,
) -> Tensor:
    """The sum over positions of each node's gradient times each source.

    Args:
        gradient: [nodes, positions]: (y, x, image); rows may lie apart.
        sources: [sources, positions], likewise.
        size: height and width.
        still: [sources], bool: planes that are the same for every image and, between their first and last row and
            column, in every place; none are unless given.
        rounded: gives the sources in bfloat16, where the product is to be made of such numbers. It sums in float32, and
            rounds the sums as well, those of a run of positions each where rows are copied.

    Returns:
        [nodes, sources].
    """
    live = ~zero_rows(gradient)
    moving = torch.ones(len(sources), dtype=torch.bool) if still is None else ~still
    left = int(live.sum()) * int(moving.sum())
    if left <= WORTH_COPYING * live.numel() * moving.numel():
        rows, columns, fixed = (mask.nonzero().flatten() for mask in (live, moving, ~moving))
        return _product_of_rows(gradient, rows, sources, columns, fixed, size, rounded is not None)
    if rounded is not None:
        return (gradient.to(torch.bfloat16) @ rounded().t()).to(gradient.dtype)
    return gradient @ sources.t()


def _product_of_rows(
    gradient: Tensor, rows: Tensor, sources: Tensor, moving: Tensor, fixed: Tensor, size: tuple[int, int], rounded: bool
) -> Tensor:
    """The product of some rows of the gradient with the sources, of which `fixed` are still.

    Where it is of rounded numbers, the part with fixed sources is exact nevertheless: it is small.
    """
    of_moving = gradient.new_zeros(len(rows), len(moving))
    sums = gradient.new_zeros(len(rows), REGIONS) if len(fixed) else None
    number = torch.bfloat16.itemsize if rounded else gradient.element_size()
    run = max(1, COPIED_BYTES // (number * max(1, len(rows) + len(moving))))
    for start in range(0, gradient.shape[1], run):
        part = slice(start, start + run)
        given = copy_rows(gradient, rows, size, part, rounded=rounded, sums=sums)
        taken = copy_rows(sources, moving, size, part, rounded=rounded)
        if rounded:
            of_moving.add_(given @ taken.t())
        else:
            of_moving.addmm_(given, taken.t())
    result = gradient.new_zeros(len(gradient), len(sources))
    place(of_moving, result, rows, moving)
    if sums is not None:
        numbers = _numbers_by_region(sources, size).index_select(0, fixed)
        of_fixed = gradient.new_zeros(len(rows), len(fixed))
        place(of_fixed.addmm_(sums, numbers.t()), result, rows, fixed)  # in place, that is in full under autocast
    return result


def _numbers_by_region(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """A number of each region of still planes [channels, positions], in the order of `copy_rows`: [channels, 9]."""
    rows, columns = (torch.tensor([0, min(1, length - 1), length - 1]) for length in size)
    images = planes.shape[1] // (size[0] * size[1])
    return planes[:, (size[1] * rows[:, None] + columns).flatten() * images]
