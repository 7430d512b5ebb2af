"""An exponential moving average of a network's weights, which is evaluated and saved beside them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from genutil.errors import UserError


class Average:
    """The average of a network's weights over the updates of its training (Polyak, Juditsky 1992).

    The decay rises from 0.1 with min(decay, (1 + n) / (10 + n)) after n updates, as in TensorFlow's
    ExponentialMovingAverage, so that the initial weights are soon forgotten. Running statistics are averaged as well.
    A rule that computes its edges from the weights does so from the averaged ones; masks and counts that a rule keeps
    are copied.

    Args:
        network: the plain one, on its device, as it starts.
        decay: of the average, below 1.

    Attributes:
        network: a network like it, with the averaged weights, in evaluation mode.
        updates: that it has seen.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self._origin = network
        pairs = list(zip(_tensors(self.network), _tensors(network), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of the network after an update."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        own, theirs = ([pair[i].detach() for pair in self._averaged] for i in (0, 1))
        get_ema_multi_avg_fn(decay)(own, theirs, self.updates)
        self.updates += 1

    @torch.no_grad()
    def settled(self) -> nn.Module:
        """The averaged network, with the masks, counts and extra states that the network has now."""
        for own, theirs in self._copied:
            own.copy_(theirs)
        extra = {name: value for name, value in self._origin.state_dict().items() if not isinstance(value, Tensor)}
        self.network.load_state_dict(extra, strict=False)
        return self.network.eval()

    def to_saved(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"network": self.settled().state_dict(), "updates": self.updates}

    def restore(self, saved: Mapping[str, Any] | None, source: str | Path) -> None:
        """Take over what a checkpoint saved; where it has no average, start from the network's weights as they are.

        Raises:
            UserError: what it saved does not fit the network.
        """
        try:
            self.network.load_state_dict(self._origin.state_dict() if saved is None else saved["network"])
        except RuntimeError as error:
            raise UserError(f"The averaged weights in {source} do not fit the network.") from error
        self.updates = 0 if saved is None else saved["updates"]


def _tensors(network: nn.Module) -> list[Tensor]:
    """Parameters and buffers of a network, each once, in its order."""
    return [*network.parameters(), *network.buffers()]
