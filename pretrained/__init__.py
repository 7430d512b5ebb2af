"""Published weights: what there is, where it lies, and readers of checkpoints that other code wrote."""

from __future__ import annotations

from pretrained.checkpoints import NAMED, ForeignCheckpoint, StateFile, open_named, trained_here

__all__ = ["NAMED", "ForeignCheckpoint", "StateFile", "open_named", "trained_here"]
