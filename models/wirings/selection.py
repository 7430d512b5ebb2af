"""Which edges are kept: the one function that chooses them, exact and without a full sort."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.native import selection as native
from models.native.training import NAMES

SAMPLE = 1 << 14
"""Entries looked at to guess the threshold; below four times as many, guessing costs more than it saves."""
GOLDEN = (math.sqrt(5) - 1) / 2
"""Squares times it, less their whole parts, are spread as evenly as random numbers."""


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
    if torch.compiler.is_exporting():
        return _traced(weight.detach().abs(), min(max(k, 0), weight.shape[-1]))
    n = weight.shape[-1]
    if k <= 0 or k >= n:
        return torch.full_like(weight, k > 0, dtype=torch.bool)
    plain = weight.device.type == "cpu" and weight.dtype in NAMES and not torch.compiler.is_compiling()
    if plain and weight.dim() == 1 and n >= 4 * SAMPLE:
        kept = native.keep_largest(weight.detach().contiguous(), k, *_window(weight.detach(), k))
        if kept is not None:
            return kept
    magnitude = weight.detach().abs()
    threshold = _kth_largest(magnitude, k).unsqueeze(-1)
    kept = magnitude >= threshold
    if int(kept.count_nonzero()) == k * (weight.numel() // n):
        return kept
    above = magnitude > threshold
    tied = kept ^ above
    if weight.dim() == 1:
        return above.index_fill_(0, tied.nonzero().squeeze(1)[: k - int(above.count_nonzero())], True)
    return _fill_up(above, tied, k)


def _traced(magnitude: Tensor, k: int) -> Tensor:
    """The choice as an exported network makes it: without a branch that depends on values."""
    if k == 0:
        return torch.zeros_like(magnitude, dtype=torch.bool)
    threshold = magnitude.kthvalue(magnitude.shape[-1] - k + 1, keepdim=True).values
    return _fill_up(magnitude > threshold, magnitude == threshold, k)


def _fill_up(above: Tensor, tied: Tensor, k: int) -> Tensor:
    """`above`, and the first of the tied entries (of each row), k in all."""
    spare = k - above.count_nonzero(-1).unsqueeze(-1)
    return above | (tied & (tied.cumsum(-1, dtype=torch.int32) <= spare))


def _kth_largest(magnitude: Tensor, k: int) -> Tensor:
    """The k-th largest entry of each row."""
    n = magnitude.shape[-1]
    if magnitude.dim() == 1 and n >= 4 * SAMPLE:
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
    return magnitude[magnitude >= _window(magnitude, k)[0]]


def _window(weight: Tensor, k: int) -> tuple[float, float]:
    """Magnitudes that the k-th largest lies between, unless an even sample misleads."""
    sample = weight[_sampled(len(weight), weight.device)].abs()
    expected = k / len(weight) * len(sample)
    margin = 6 * math.sqrt(expected * (1 - k / len(weight))) + 6
    ranks = min(len(sample), math.ceil(expected + margin)), math.floor(expected - margin)
    low, high = (math.inf if rank < 1 else float(sample.kthvalue(len(sample) - rank + 1).values) for rank in ranks)
    return low, high


def _sampled(n: int, device: torch.device) -> Tensor:
    """Indices of the entries of n that are looked at.

    One of each of SAMPLE even parts, at no fixed place: entries a fixed distance apart may lie in a few columns of a
    matrix alone, and learned weights of some columns are larger than those of others.
    """
    part = torch.arange(SAMPLE, dtype=torch.float64, device=device)
    return (part + (part * part * GOLDEN).frac()).mul_(n / SAMPLE).long()
