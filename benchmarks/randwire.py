"""A training step of a randomly wired network, against the same network run node by node.

    python benchmarks/randwire.py [--regime tensorflow_small_cifar] [--channels 78] [--batch 100] [--threads 2]
                                  [--repeats 5] [--node-inputs ancestors] [--dropout 0.2] [--device cpu] [--json FILE]

`plain` is the textbook form: for each node the sum of weight * input over its edges, ReLU, convolutions, BN, dropout,
all with autograd's own operations. `plain, channels_last` changes the memory format alone. `ours` is the network as it
trains: one buffer for the outputs of all nodes (models/shared_states.py), channels_last on a CPU. Before that, outputs
and gradients of plain and ours are compared in float64 without dropout. Peak memory is that of a process of its own.

`--levels` instead compares n nodes run one after another with the same n as one grouped convolution, the other way to
run together what can run together.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.conditions import conditions
from models.networks.random_graphs import draw_stages
from models.networks.randwire import Node, RandomStage, RandWire
from models.networks.randwire_regimes import make_regime, random_stages

FORMS = ("plain", "plain, channels_last", "ours")


def make_network(args: argparse.Namespace, dropout: float | None = None) -> RandWire:
    regime = make_regime(args.regime, channels=args.channels, node_inputs=args.node_inputs, dropout=dropout)
    halved = [regime.halve_first and stage == 0 for stage in range(random_stages(regime))]
    torch.manual_seed(0)
    return RandWire(draw_stages("ws", (32, 4, 0.75), 0, halved), regime, 10).to(args.device)


def plain_stage(stage: RandomStage, x: Tensor, dropout: float) -> Tensor:
    """A stage as one would first write it."""
    weights = {
        (row, column): weight for (row, column), weight in zip(stage.at.tolist(), stage.edge_weights(), strict=True)
    }
    states: list[Tensor] = []
    for slot, node in enumerate(stage.order):
        sources = stage.plan.sources[slot]
        inputs = x if not sources else sum(weights[slot, i] * states[i] for i in sources)
        states.append(F.dropout(stage.nodes[node](F.relu(inputs)), dropout))
    ends = [states[slot] for slot, targets in enumerate(stage.plan.targets) if not targets]
    total = sum(ends)
    return total / len(ends) if stage.regime.stage_output == "mean" else total


def plain(network: RandWire, x: Tensor) -> Tensor:
    """The network with plain stages, in the memory format of `x`."""
    x = network.conv2(network.conv1(x))
    for stage in network.stages:
        x = plain_stage(stage, x, stage.regime.dropout)
    x = network.norm_last(network.conv_last(F.relu(x))).mean(dim=(2, 3))
    return network.linear(F.dropout(x, network.regime.classifier_dropout))


def forward(form: str, network: RandWire, x: Tensor) -> Tensor:
    if form == "ours":
        return network(x)
    if form == "plain, channels_last":
        x = x.contiguous(memory_format=torch.channels_last)
    return plain(network, x)


def difference(args: argparse.Namespace) -> float:
    """Largest difference of output and gradients in float64, relative to the largest entry of each kind."""
    network = make_network(args, dropout=0.0).double()
    network.regime = make_regime(args.regime, channels=args.channels, classifier_dropout=0.0)
    x = torch.randn(4, 3, args.image_size, args.image_size, dtype=torch.double, device=args.device)
    results = []
    for form in ("plain", "ours"):
        network.zero_grad()
        y = forward(form, network, x)
        y.square().sum().backward()
        results.append([y.detach(), *(p.grad for p in network.parameters())])
    # a bias before BN has no gradient but rounding: measured against the largest gradient of all
    largest = max(float(gradient.abs().max()) for gradient in results[0][1:])
    return max(
        float((a - b).abs().max()) / max(float(a.abs().max()), 1e-6 * largest) for a, b in zip(*results, strict=True)
    )


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def one_step(form: str, network: RandWire, optimizer: torch.optim.Optimizer, x: Tensor, labels: Tensor) -> float:
    """Seconds of one training step."""
    wait(x.device.type)
    start = time.perf_counter()
    optimizer.zero_grad()
    F.cross_entropy(forward(form, network, x), labels).backward()
    optimizer.step()
    wait(x.device.type)
    return time.perf_counter() - start


def batch(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    x = torch.randn(args.batch, 3, args.image_size, args.image_size, device=args.device)
    return x, torch.randint(10, (args.batch,), device=args.device)


def _peak(form: str, args: argparse.Namespace, queue: multiprocessing.Queue) -> None:
    torch.set_num_threads(args.threads)
    network = make_network(args, args.dropout)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)
    x, labels = batch(args)
    for _ in range(2):
        one_step(form, network, optimizer, x, labels)
    if args.device.startswith("cuda"):
        queue.put(torch.cuda.max_memory_allocated() / 2**20)
    else:
        # ru_maxrss would be that of the parent, which is the larger
        status = Path("/proc/self/status").read_text()
        queue.put(int(status.split("VmHWM:")[1].split()[0]) / 2**10)


def peak_memory(form: str, args: argparse.Namespace) -> float:
    """MiB at most in a fresh process that takes two steps (Linux)."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_peak, args=(form, args, queue))
    process.start()
    peak = queue.get()
    process.join()
    return peak


def measure(args: argparse.Namespace) -> dict[str, Any]:
    gap = difference(args)
    network = make_network(args, args.dropout)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)
    x, labels = batch(args)
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    for turn in range(args.repeats + 1):
        for form in FORMS:
            taken = one_step(form, network, optimizer, x, labels)
            if turn:
                seconds[form].append(taken)
    ratios = {
        form: [taken / ours for taken, ours in zip(seconds[form], seconds["ours"], strict=True)] for form in FORMS
    }
    return {
        "measured": conditions(),
        "device": args.device,
        "threads": args.threads,
        "float64_difference": gap,
        "milliseconds": {form: [1e3 * taken for taken in values] for form, values in seconds.items()},
        "median_ratio_to_ours": {form: statistics.median(values) for form, values in ratios.items()},
        "peak_mib": {form: peak_memory(form, args) for form in FORMS},
    }


def grouped(nodes: list[Node]) -> nn.Sequential:
    """The same nodes as grouped convolutions over all their channels."""
    n, channels = len(nodes), nodes[0].norm.num_features
    return nn.Sequential(
        nn.Conv2d(n * channels, n * channels, 3, 1, 1, groups=n * channels, bias=False),
        nn.Conv2d(n * channels, n * channels, 1, groups=n, bias=False),
        nn.BatchNorm2d(n * channels),
    )


def _best(run: Callable[[], Tensor], device: str, repeats: int) -> float:
    """Least milliseconds of forward and backward; on a CPU of the processor, which other programs disturb less."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    best = float("inf")
    for _ in range(repeats):
        wait(device)
        start = clock()
        run().backward()
        wait(device)
        best = min(best, clock() - start)
    return 1e3 * best


def one_by_one(nodes: list[Node], parts: list[Tensor]) -> Tensor:
    return sum(node(part).sum() for node, part in zip(nodes, parts, strict=True))


def measure_levels(args: argparse.Namespace) -> list[dict[str, float]]:
    """Milliseconds, forward and backward, of n nodes one by one and grouped."""
    rows = []
    memory_format = torch.channels_last if args.device == "cpu" else torch.contiguous_format
    for channels, side in ((78, 16), (156, 8)):
        for n in (2, 4, 8):
            nodes = [Node(channels, channels, 1, False).to(args.device) for _ in range(n)]
            together = grouped(nodes).to(args.device)
            x = torch.randn(args.batch, n * channels, side, side, device=args.device)
            whole = x.contiguous(memory_format=memory_format).requires_grad_()
            parts = [part.contiguous(memory_format=memory_format).requires_grad_() for part in x.chunk(n, 1)]
            row = {"channels": channels, "side": side, "nodes": n}
            row["one by one"] = _best(partial(one_by_one, nodes, parts), args.device, args.repeats)
            row["grouped"] = _best(lambda g=together, x=whole: g(x).sum(), args.device, args.repeats)
            rows.append(row)
    return rows


def print_step(result: dict[str, Any]) -> None:
    print(f"{'form':22} {'ms a step (median, least)':>26} {'x ours':>7} {'peak MiB':>9}")
    for form in FORMS:
        values = result["milliseconds"][form]
        print(
            f"{form:22} {statistics.median(values):17.0f} {min(values):8.0f} "
            f"{result['median_ratio_to_ours'][form]:7.2f} {result['peak_mib'][form]:9.0f}"
        )
    print(f"largest difference of outputs and gradients in float64: {result['float64_difference']:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--regime", default="tensorflow_small_cifar")
    parser.add_argument("--channels", type=int, default=78)
    parser.add_argument("--node-inputs", choices=["predecessors", "ancestors"])
    parser.add_argument("--dropout", type=float)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--levels", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result: Any
    if args.levels:
        result = measure_levels(args)
        for row in result:
            print(", ".join(f"{key} {value:.4g}" for key, value in row.items()))
    else:
        result = measure(args)
        print_step(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
