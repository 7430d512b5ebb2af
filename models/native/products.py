"""The gradient of the weights of edges, for all of them: a product of the nodes' gradient and the sources.

It is dense, for the rule moves edges that do not act too. But a node that leads nowhere has no gradient, and a node
that no edge reaches has the same plane for every image: their part of the product costs next to nothing. Such are about
half of the nodes of the published MobileNet-like network with 22.5 % of the edges.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from models.native.training import copy_rows, place, zero_rows

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
    gradient: Tensor, sources: Tensor, images: int, still: Tensor | None = None, rounded: Tensor | None = None
) -> Tensor:
    """The sum over positions of each node's gradient times each source.

    Args:
        gradient: [nodes, positions], a position being a place and an image; rows may lie apart.
        sources: [sources, positions], likewise.
        images: of a place; neighbours in memory.
        still: [sources], bool: rows that are the same for every image; none are unless given.
        rounded: the sources in bfloat16, where the product is to be made of such numbers; it sums in float32.

    Returns:
        [nodes, sources].
    """
    live = ~zero_rows(gradient)
    moving = torch.ones(len(sources), dtype=torch.bool) if still is None else ~still
    left = int(live.sum()) * int(moving.sum())
    if left > WORTH_COPYING * live.numel() * moving.numel():
        if rounded is not None:
            return (gradient.to(torch.bfloat16) @ rounded.t()).to(gradient.dtype)
        return gradient @ sources.t()
    rows, columns, fixed = (mask.nonzero().flatten() for mask in (live, moving, ~moving))
    if rounded is not None:
        return _rounded_product_of_rows(gradient, rows, sources, columns, fixed, images, rounded)
    return _product_of_rows(gradient, rows, sources, columns, fixed, images)


def _rounded_product_of_rows(
    gradient: Tensor, rows: Tensor, sources: Tensor, moving: Tensor, fixed: Tensor, images: int, rounded: Tensor
) -> Tensor:
    """As `_product_of_rows`, of numbers in bfloat16; those with sources that are the same for every image are exact."""
    given, summed = copy_rows(gradient, rows, images)
    of_moving = given.to(torch.bfloat16) @ rounded.index_select(0, moving).t()
    of_fixed = summed @ sources[:, ::images].index_select(0, fixed).t()
    result = gradient.new_zeros(len(gradient), len(sources))
    place(of_moving.to(gradient.dtype), result, rows, moving)
    place(of_fixed, result, rows, fixed)
    return result


def _product_of_rows(
    gradient: Tensor, rows: Tensor, sources: Tensor, moving: Tensor, fixed: Tensor, images: int
) -> Tensor:
    """The product of some rows of the gradient with the sources, of which `fixed` are the same for every image."""
    of_moving, of_fixed = (gradient.new_zeros(len(rows), len(columns)) for columns in (moving, fixed))
    fitting = COPIED_BYTES // (gradient.element_size() * max(1, len(rows) + len(moving)))
    run = max(1, fitting // images) * images
    for start in range(0, gradient.shape[1], run):
        part = slice(start, start + run)
        given, summed = copy_rows(gradient[:, part], rows, images)
        taken, _ = copy_rows(sources[:, part], moving)
        of_moving.addmm_(given, taken.t())
        of_fixed.addmm_(summed, sources[:, part][:, ::images].index_select(0, fixed).t())
    result = gradient.new_zeros(len(gradient), len(sources))
    place(of_moving, result, rows, moving)
    place(of_fixed, result, rows, fixed)
    return result
