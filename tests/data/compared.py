"""Batches as a whole."""

from __future__ import annotations

import torch

import data


def joined(batches: list[data.Batch]) -> tuple[torch.Tensor, torch.Tensor]:
    """The images and the labels of some batches."""
    return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])


def same(one: list[data.Batch], other: list[data.Batch]) -> bool:
    """Whether two lists of batches are equal to the last bit."""
    return len(one) == len(other) and all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) and a.total == b.total
        for a, b in zip(one, other, strict=True)
    )
