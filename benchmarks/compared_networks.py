"""What engines are compared on: wirings with as many live edges and nodes as published ones, and dense networks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models import build_network
from models.networks.mobilenetv1_like import MobileNetV1Like
from models.sparse import channel_graph

PUBLISHED = {
    "x225": {"prune_rate": 0.775, "multiply_adds": 42.1e6, "parameters": 1.1e6, "accuracy": 60.9},
    "x3": {"prune_rate": 0.7, "multiply_adds": 66.7e6, "parameters": 1.3e6, "accuracy": 65.0},
    "x49": {"prune_rate": 0.51, "multiply_adds": 154e6, "parameters": 1.8e6, "accuracy": 70.4},
}


class DenseNetwork(NamedTuple):
    """A network of the zoo, with its published top-1 accuracy on ImageNet in percent."""

    words: str
    accuracy: float
    model: str
    arguments: dict[str, Any]

    def build(self) -> nn.Module:
        """The network, untrained, for 1000 classes."""
        return build_network(self.model, classes=1000, **self.arguments).eval()


DENSE = {
    "mobilenetv1_x025": DenseNetwork("MobileNetV1 x0.25", 50.6, "mobilenetv1", {"width_mult": 0.25, "image_size": 224}),
    "mobilenetv1_x05": DenseNetwork("MobileNetV1 x0.5", 63.7, "mobilenetv1", {"width_mult": 0.5, "image_size": 224}),
    "shufflenetv2_x05": DenseNetwork("ShuffleNetV2 x0.5", 60.3, "shufflenetv2", {"width_mult": 0.5}),
    "shufflenetv2_x1": DenseNetwork("ShuffleNetV2 x1", 69.4, "shufflenetv2", {"width_mult": 1.0}),
    "shufflenetv2_x15": DenseNetwork("ShuffleNetV2 x1.5", 72.6, "shufflenetv2", {"width_mult": 1.5}),
}
"""Dense networks for images of 224x224 pixels (arXiv 1704.04861, table 7; arXiv 1807.11164, table 8)."""


def published_wiring(name: str, classes: int = 1000, image_size: int = 224, seed: int = 0) -> MobileNetV1Like:
    """A MobileNetV1-like network with random edges and weights, and as many live edges and nodes as a published one.

    The edges are as many as its budget. The same share of every group of nodes is alive, chosen so that the live
    multiply-adds at 224 pixels are the published ones; the outputs of the last stage follow from the parameters.
    """
    target = PUBLISHED[name]
    low, high = 0.2, 1.0
    for _ in range(12):
        share = (low + high) / 2
        torch.manual_seed(seed)
        network = MobileNetV1Like(classes, image_size, "dnw", target["prune_rate"])
        _keep_alive(network, share, target["parameters"])
        cost = sum(count.multiply_adds for count in channel_graph(network).counts((224, 224)))
        if classes != 1000 or image_size <= 64:  # the share that a network of 1000 classes and 224 pixels has
            return _keep_alive(network, _SHARE[name], target["parameters"])
        low, high = (share, high) if cost < target["multiply_adds"] else (low, share)
    return network


_SHARE = {"x225": 0.5, "x3": 0.62, "x49": 0.84}


def _keep_alive(network: MobileNetV1Like, share: float, parameters: float) -> MobileNetV1Like:
    """Puts all edges between a share of the nodes, at random; every one of those has an input and an output."""
    stages = list(network.layers)
    edges = sum(stage.graph.wiring.kept for stage in stages)
    sources = sum(stage.in_channels + stage.out_channels * (stage.blocks - 1) for stage in stages)
    outputs = int((parameters - edges - 9 * share * sources) / 1000)
    alive = _some(stages[0].in_channels, share)
    for i, stage in enumerate(stages):
        groups = [alive, *(_some(stage.out_channels, share) for _ in range(stage.blocks - 1))]
        last = i == len(stages) - 1
        alive = _some(stage.out_channels, outputs / stage.out_channels if last else share)
        rows, columns = torch.cat([*groups[1:], alive]), torch.cat(groups)
        graph = stage.graph
        allowed = graph.layout.from_matrix(rows[:, None] & columns[None]) & True
        places = allowed.nonzero().flatten()
        chosen = _covering(graph.layout, places, rows, columns, graph.wiring.kept)
        weight = torch.zeros(graph.layout.possible)
        values = torch.randn(graph.wiring.kept)
        weight[chosen] = values + values.sign() * 0.1
        graph.weight.data = weight / (graph.wiring.kept / int(rows.sum())) ** 0.5
    _shake_norms(network)
    return network.eval()


def _some(nodes: int, share: float) -> Tensor:
    mask = torch.zeros(nodes, dtype=torch.bool)
    mask[torch.randperm(nodes)[: max(1, round(share * nodes))]] = True
    return mask


def _covering(layout: Any, places: Tensor, rows: Tensor, columns: Tensor, k: int) -> Tensor:
    """k of the places, among them one in every chosen row and column of the matrix."""
    index = torch.full((layout.possible,), -1, dtype=torch.int64)
    index[places] = places
    matrix = layout.to_matrix(index + 1) - 1
    order = places[torch.randperm(len(places))]
    rank = torch.full((layout.possible,), layout.possible, dtype=torch.int64)
    rank[order] = torch.arange(len(order))
    ranks = torch.where(matrix >= 0, rank[matrix.clamp(min=0)], layout.possible)
    first = torch.cat([ranks.min(1).values[rows], ranks.min(0).values[columns]]).unique()
    rest = torch.ones(len(order), dtype=torch.bool)
    rest[first] = False
    return torch.cat([order[first], order[rest.nonzero().flatten()][: k - len(first)]])


def _shake_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.3)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
