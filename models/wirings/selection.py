"""Which edges are kept: the one function that chooses them, exact and without a full sort."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SAMPLE = 1 << 16
"""Entries looked at to guess the threshold; below four times as many, guessing costs more than it saves."""


def keep_largest(weight: Tensor, k: int) -> Tensor:
    """Mask of the k entries of largest magnitude.

    The same set as the first k of a stable sort by falling magnitude: of entries of equal magnitude those of
    lower index are kept.

    Args:
        weight: floating point, shape [n] or, to choose k in each row, [rows, n].
        k: entries to keep (of each row); below 0 counts as 0, above n as n.

    Returns:
        Boolean tensor of the shape of `weight` with exactly k true entries (in each row).
    """
    n = weight.shape[-1]
    if k <= 0 or k >= n:
        return torch.full_like(weight, k > 0, dtype=torch.bool)
    magnitude = weight.detach().abs()
    threshold = _kth_largest(magnitude, k).unsqueeze(-1)
    kept = magnitude >= threshold
    exported = torch.compiler.is_exporting()  # no branch may depend on values then
    if not exported and int(kept.count_nonzero()) == k * (weight.numel() // n):
        return kept
    above = magnitude > threshold
    tied = kept ^ above
    if weight.dim() == 1 and not exported:
        return above.index_fill_(0, tied.nonzero().squeeze(1)[: k - int(above.count_nonzero())], True)
    spare = k - above.count_nonzero(-1).unsqueeze(-1)
    return above | (tied & (tied.cumsum(-1, dtype=torch.int32) <= spare))


def _kth_largest(magnitude: Tensor, k: int) -> Tensor:
    """The k-th largest entry of each row."""
    n = magnitude.shape[-1]
    if magnitude.dim() == 1 and n >= 4 * _SAMPLE and not torch.compiler.is_exporting():
        candidates = _candidates(magnitude, k)
        if len(candidates) >= k:
            magnitude, n = candidates, len(candidates)
    if magnitude.is_cuda:  # kthvalue walks a row with one block there
        return magnitude.topk(k, sorted=False).values.amin(-1)
    return magnitude.kthvalue(n - k + 1).values


def _candidates(magnitude: Tensor, k: int) -> Tensor:
    """The entries above a guess of the threshold, read off an even sample and set safely low.

    Fewer than k entries come back where the guess was too high.
    """
    n = len(magnitude)
    sample = magnitude[:: n // _SAMPLE]
    expected = k / n * len(sample)
    rank = min(len(sample), math.ceil(expected + 6 * math.sqrt(expected) + 6))
    guess = sample.kthvalue(len(sample) - rank + 1).values
    return magnitude[magnitude >= guess]
