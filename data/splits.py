"""Parts held out of a data set: stratified by class, and the same for ever."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def stratified_split(labels: Tensor, share: float, seed: int, *, at_least: bool = False) -> tuple[Tensor, Tensor]:
    """Indices of the images that stay and of those held out, both ascending, from labels int64 [images].

    Of each class `share` is held out, rounded to the nearest number of images (up, where `at_least`), but one
    at least and never all. The choice depends on the labels and the seed only.
    """
    # RandomState's streams are frozen by numpy, those of its newer generators and of torch are not
    generator = np.random.RandomState(seed)
    held = []
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels.numpy() == label)
        exact = share * len(members)
        wanted = math.ceil(exact) if at_least else math.floor(exact + 0.5)
        count = min(max(wanted, 1), len(members) - 1)
        held.append(generator.permutation(members)[: max(count, 0)])
    held_out = np.sort(np.concatenate(held))
    stays = np.setdiff1d(np.arange(len(labels)), held_out)
    return torch.from_numpy(stays), torch.from_numpy(held_out)
