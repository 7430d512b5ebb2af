"""Pages without a training: an untrained network, and earlier states drawn at random."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

import models
from genutil.model_profiling import profile
from genutil.reports.page import standing, wiring
from genutil.reports.page.document import Content
from models.wirings.rules import graphs


def network(edges: int, dim: int = 800) -> nn.Module:
    """A static tiny classifier in which so many edges act, for images of 1 x 32 x 32."""
    torch.manual_seed(0)
    options = {"classes": 10, "image_size": 32, "in_channels": 1, "dim": dim, "feature_dim": dim // 8, "wiring": "dnw"}
    return models.build_network("static", **options, prune_rate=1 - edges / dim**2).eval()


def earlier(of: nn.Module, count: int = 3) -> list[dict[str, Tensor]]:
    """Other states: of the acting edges a third, two thirds, ... are others, drawn at random."""
    torch.manual_seed(1)
    states = []
    for i in range(count):
        masks = {}
        for name, graph in graphs(of):
            acting = graph.acting().clone()
            edges = torch.nonzero(acting)[:, 0]
            moved = edges[torch.randperm(len(edges))[: math.ceil(len(edges) * (count - i) / (count + 1))]]
            free = torch.nonzero(~acting)[:, 0]
            acting[moved] = False
            acting[free[torch.randperm(len(free))[: len(moved)]]] = True
            masks[name] = acting
        states.append(masks)
    return states


def content(edges: int) -> Content:
    """A page with the wiring of `network` in four states."""
    of = network(edges)
    history = range(1, 31)
    curve = {
        "epoch": list(history),
        "step": [21 * i for i in history],
        "lr": [0.1 * (1 - i / 30) for i in history],
        "train_loss": [2 / i for i in history],
        "loss": [2.2 / i for i in history],
        "train_top1": [100 - 60 / i for i in history],
        "top1": [100 - 64 / i for i in history],
        "edges_swapped": [9000 // i for i in history],
        "live_nodes": [800 - i for i in history],
    }
    own = standing.Standing("sample", "digits", "learned", "this run", 20_000, 1_250_000, 97.9)
    return Content(
        name="sample",
        summary="static on digits",
        facts={"live nodes": "800"},
        curve=curve,
        steps_per_epoch=21,
        moments=["epoch 0", "epoch 10", "epoch 20", "epoch 30"],
        parts=wiring.picture(of, earlier(of)),
        profile=profile(of, 32, 1),
        standing=[*standing.published(), own],
    )
