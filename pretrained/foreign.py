"""What a reader of foreign weights hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Foreign:
    """A network with foreign weights, and what its experiment needs to know to use them as they were trained.

    model, arguments: name and keyword arguments that build the network. mean, std: normalisation of each channel of
    images in 0..1. verified: whether published weights of this form gave the published accuracy; else only names and
    shapes were compared.
    """

    network: nn.Module
    model: str
    arguments: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    verified: bool = True
