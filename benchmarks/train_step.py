"""One training step of the MobileNet-like x0.225 network, against the same network written plainly.

    python benchmarks/train_step.py [--batch 128] [--image-size 32] [--threads 2] [--repeats 7] [--json FILE]

Plainly means: whole matrices, entries that can never act held at zero, every weight sorted in every forward pass, and
dense masked 1x1 convolutions. Both networks take the same steps in turn in one process. Before that, their
loss and gradients are compared in float64.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.conditions import conditions
from models.networks.mobilenetv1_like import MobileNetV1Like, WiredStage
from models.wirings.rules import Graph, graphs


class FullSort(torch.autograd.Function):
    """Zero the smallest entries, found by sorting all of them; straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, prune_rate: float) -> Tensor:
        effective = weight.clone()
        order = weight.abs().flatten().sort().indices
        effective.view(-1)[order[: int(prune_rate * weight.numel())]] = 0
        return effective

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class PlainStage(nn.Module):
    """A stage with its whole matrix, run group by group of source nodes."""

    def __init__(self, stage: WiredStage) -> None:
        super().__init__()
        self.norm, self.downsample = stage.norm, stage.downsample
        if stage.blocks > 1:
            self.conv = stage.conv
        self.in_channels, self.out_channels, self.blocks = stage.in_channels, stage.out_channels, stage.blocks
        self.prune_rate = stage.graph.wiring.prune_rate
        self.weight = nn.Parameter(stage.graph.layout.to_matrix(stage.graph.weight.detach())[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        weight = FullSort.apply(self.weight, self.prune_rate)
        x = F.conv2d(self.downsample(F.relu(self.norm[0](x))), weight[:, : self.in_channels])
        for group in range(self.blocks - 1):
            nodes = slice(group * self.out_channels, (group + 1) * self.out_channels)
            planes = F.relu(self.norm[group + 1](x[:, : self.out_channels]))
            planes = F.conv2d(planes, self.conv.weight[nodes], padding=1, groups=self.out_channels)
            columns = slice(self.in_channels + nodes.start, self.in_channels + nodes.stop)
            x = x[:, self.out_channels :] + F.conv2d(planes, weight[nodes.stop :, columns])
        return x


def plain(network: MobileNetV1Like) -> nn.Module:
    """A copy of the network with plain stages and the same weights."""
    twin = MobileNetV1Like(network.linear.out_features, 32 if network.conv1.stride == (1, 1) else 224, "dnw", 0.775)
    twin.load_state_dict(network.state_dict())
    twin.layers = nn.Sequential(*(PlainStage(stage) for stage in twin.layers))
    return twin


def difference(network: MobileNetV1Like, twin: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Largest difference of the loss and of every gradient, relative to that gradient's largest entry."""
    losses = []
    for model in (network, twin):
        model.zero_grad()
        losses.append(F.cross_entropy(model(images), labels))
        losses[-1].backward()
    theirs = {name: parameter.grad for name, parameter in twin.named_parameters()}
    worst = float((losses[0] - losses[1]).detach().abs())
    layouts = {f"{name}.weight": graph for name, graph in graphs(network)}
    for name, parameter in network.named_parameters():
        other = theirs[name.replace("graph.weight", "weight")] if name in layouts else theirs[name]
        if name in layouts:
            other = layouts[name].layout.from_matrix(other)
        worst = max(worst, float((parameter.grad - other).abs().max() / other.abs().max()))
    return worst


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    """Seconds of one training step."""
    start = time.perf_counter()
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    return time.perf_counter() - start


def selection_seconds(network: nn.Module) -> float:
    """Seconds to choose the kept edges of every graph once."""
    start = time.perf_counter()
    for _, graph in graphs(network):
        Graph.acting(graph)
    return time.perf_counter() - start


def measure(batch: int, image_size: int, repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    network = MobileNetV1Like(10 if image_size <= 64 else 1000, image_size, "dnw", 0.775)
    twin = plain(network)
    images, labels = torch.randn(batch, 3, image_size, image_size), torch.randint(10, (batch,))
    gap = difference(network.double(), twin.double(), images[:8].double(), labels[:8])
    models = {"ours": network.float(), "plain": twin.float()}
    optimizers = {name: torch.optim.SGD(m.parameters(), 0.1, 0.9, weight_decay=1e-4) for name, m in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    chosen = []
    for turn in range(repeats + 1):
        for name, model in models.items():
            taken = step(model, optimizers[name], images, labels)
            if turn:
                seconds[name].append(taken)
        chosen.append(selection_seconds(network))
    ratios = [p / o for p, o in zip(seconds["plain"], seconds["ours"], strict=True)]
    return {
        "measured": conditions(),
        "threads": torch.get_num_threads(),
        "batch": batch,
        "image_size": image_size,
        "float64_difference": gap,
        "milliseconds": {name: [1e3 * s for s in values] for name, values in seconds.items()},
        "ratio": {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)},
        "selection_share": statistics.median(chosen) / statistics.median(seconds["ours"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = measure(args.batch, args.image_size, args.repeats)
    for name, values in result["milliseconds"].items():
        print(f"{name:6} {statistics.median(values):8.0f} ms ({min(values):.0f} to {max(values):.0f})")
    ratio = result["ratio"]
    print(f"plain / ours {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})")
    print(f"choosing the edges takes {100 * result['selection_share']:.1f} % of our step")
    print(f"largest difference of loss and gradients in float64: {result['float64_difference']:.1e}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
