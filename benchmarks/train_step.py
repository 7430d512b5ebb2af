"""One training step of every wired network, against the same network written plainly, as the code of 2019 did.

    python benchmarks/train_step.py [--rows static ...] [--threads 2] [--repeats 7] [--growth] [--json FILE]

Plainly means benchmarks/plain_networks.py. Both networks take the same steps in turn in one process, and so does ours
with `matmul_precision: medium`; ours are updated by the fused kernel, as in a training. Before that, loss and gradients
are compared in float64, and the memory that a step takes is measured in a process each.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks import plain_networks
from benchmarks.compared_networks import published_wiring
from benchmarks.conditions import conditions
from genutil.system.arithmetic import matmul_precision
from models.native import nodes
from models.native.products import product_over_planes
from models.networks.mobilenetv1_like import MobileNetV1Like
from models.networks.neural_graph import ContinuousTimeNeuralGraph, DiscreteTimeNeuralGraph, StaticNeuralGraph
from models.wirings.graph import Graph, graphs
from models.wirings.near import DNWNear
from models.wirings.options import EVERY
from models.wirings.wire import update_wirings

STEPS = 1_000_000
"""Of the training that the steps are the first of."""


@dataclass(frozen=True)
class Row:
    """A network, its plain form, and the images of a step.

    Attributes:
        words: for the table.
        make: the network.
        plain: its plain form, from the network.
        batch, image_size, classes: of the images.
        compared: images that loss and gradients are compared on in float64.
        cycle: steps of ours after which the same is done again; times are their mean.
        aim: how many times as fast as the plain form ours is to be; None where nothing was set.
    """

    words: str
    make: Callable[[], nn.Module]
    plain: Callable[[Any], nn.Module]
    batch: int
    image_size: int = 32
    classes: int = 10
    compared: int = 8
    cycle: int = 1
    aim: float | None = None


ROWS = {
    "static": Row(
        "static", lambda: StaticNeuralGraph(10, 32, "dnw", 0.95), plain_networks.PlainStatic, batch=256, aim=4.5
    ),
    "discrete": Row(
        "discrete time",
        lambda: DiscreteTimeNeuralGraph(10, 32, "dnw", 0.95),
        plain_networks.PlainDiscreteTime,
        batch=128,
        aim=3,
    ),
    "continuous": Row(
        "continuous time, rk4, 4 steps",
        lambda: ContinuousTimeNeuralGraph(10, 32, "dnw", 0.95, solver="rk4", solver_steps=4),
        lambda network: plain_networks.PlainContinuousTime(network, "rk4", 4),
        batch=64,
        aim=3,
    ),
    "mobilenet_32": Row(
        "MobileNet-like x0.225",
        lambda: MobileNetV1Like(10, 32, "dnw", 0.775),
        plain_networks.PlainMobileNet,
        batch=128,
        aim=8,
    ),
    "mobilenet_224": Row(
        "MobileNet-like x0.225",
        lambda: MobileNetV1Like(1000, 224, "dnw", 0.775),
        plain_networks.PlainMobileNet,
        batch=8,
        image_size=224,
        classes=1000,
        compared=2,
        aim=8,
    ),
    "random_static": Row(
        "static, random edges",
        lambda: StaticNeuralGraph(10, 32, "random", 0.95),
        plain_networks.PlainStatic,
        batch=256,
    ),
    "random_32": Row(
        "MobileNet-like x0.225, random edges",
        lambda: MobileNetV1Like(10, 32, "random", 0.775),
        plain_networks.PlainMobileNet,
        batch=128,
    ),
    "trained_32": Row(
        "as trained: half of the nodes live",
        lambda: published_wiring("x225", 10, 32).train(),
        plain_networks.PlainMobileNet,
        batch=128,
    ),
    "trained_224": Row(
        "as trained: half of the nodes live",
        lambda: published_wiring("x225").train(),
        plain_networks.PlainMobileNet,
        batch=8,
        image_size=224,
        classes=1000,
        compared=2,
    ),
}
"""Untrained networks; those as trained have random wirings with as few live nodes as the published trained one."""
NEAR: dict[str, Callable[[], nn.Module]] = {
    "static": lambda: StaticNeuralGraph(10, 32, "dnw_near", 0.95),
    "mobilenet_32": lambda: MobileNetV1Like(10, 32, "dnw_near", 0.775),
    "mobilenet_224": lambda: MobileNetV1Like(1000, 224, "dnw_near", 0.775),
}
"""The networks of some rows under dnw_near."""
ROWS |= {
    f"near_{name.removeprefix('mobilenet_')}": replace(
        ROWS[name], words=f"{ROWS[name].words}, dnw_near", make=make, cycle=EVERY.default, aim=None
    )
    for name, make in NEAR.items()
}


class Stepper:
    """Training steps of one network on the same images."""

    def __init__(
        self, network: nn.Module, row: Row, batch: int, precision: str = "highest", fused: bool | None = None
    ) -> None:
        torch.manual_seed(1)
        self.precision = precision
        self.network = network
        self.images = torch.randn(batch, 3, row.image_size, row.image_size)
        self.labels = torch.randint(row.classes, (batch,))
        self.optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=1e-4, fused=fused)
        self.done = 0

    def step(self, cycle: int = 1) -> float:
        """Seconds of a step, as the mean of so many."""
        start = time.perf_counter()
        with matmul_precision(self.precision):
            for _ in range(cycle):
                self.optimizer.zero_grad()
                F.cross_entropy(self.network(self.images), self.labels).backward()
                self.optimizer.step()
                update_wirings(self.network, self.optimizer, self.done, STEPS)
                self.done += 1
        return (time.perf_counter() - start) / cycle


def networks(row: Row) -> dict[str, nn.Module]:
    """Ours and the plain one, equal but for their form, with no parameter in common."""
    torch.manual_seed(0)
    ours = row.make()
    return {"ours": ours, "plain": row.plain(copy.deepcopy(ours))}


def gradients(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    loss = F.cross_entropy(network(images), labels)
    network.zero_grad()
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def difference(row: Row) -> float:
    """The largest difference of the loss and of every gradient in float64, relative to that gradient's largest entry.

    Of dnw_near in a step that does not reach all edges: the others have no gradient. Gradients that a norm takes away,
    0 but for rounding, are relative to a thousandth of the largest of all.
    """
    pair = {name: network.double() for name, network in networks(row).items()}
    torch.manual_seed(1)
    images = torch.randn(row.compared, 3, row.image_size, row.image_size, dtype=torch.float64)
    labels = torch.randint(row.classes, (row.compared,))
    wired = {f"{name}.weight": graph for name, graph in graphs(pair["ours"])}
    for graph in wired.values():
        if isinstance(graph.wiring, DNWNear):
            graph.wiring.prepare(1, STEPS)
    (loss, found), (other, expected) = (gradients(network, images, labels) for network in pair.values())
    worst, largest = float((loss - other).abs()), max(float(g.abs().max()) for g in expected.values())
    for name, gradient in found.items():
        theirs = expected[name]
        if name in wired:
            theirs = wired[name].layout.from_matrix(theirs[:, :, 0, 0])
            if isinstance(wired[name].wiring, DNWNear):
                places, _ = wired[name].wiring.choose_reached(wired[name].weight.detach())
                theirs = torch.zeros_like(theirs).index_copy_(0, places, theirs[places])
        scale = max(float(theirs.abs().max()), 1e-3 * largest)
        worst = max(worst, float((gradient - theirs).abs().max()) / scale)
    return worst


def choosing_seconds(network: nn.Module) -> float:
    """Seconds to choose the kept edges of every graph once."""
    start = time.perf_counter()
    for _, graph in graphs(network):
        assert isinstance(graph, Graph)
        if isinstance(graph.wiring, DNWNear):
            graph.wiring.choose_reached(graph.weight.detach())
        else:
            graph.acting()
    return time.perf_counter() - start


def dense_gradient_seconds(stepper: Stepper, cycle: int) -> float:
    """Seconds of a step that products of whole matrices for the gradient of edges take, as the mean of so many."""
    taken = 0.0

    def timed(*arguments: Any) -> Tensor:
        nonlocal taken
        start = time.perf_counter()
        product = product_over_planes(*arguments)
        taken += time.perf_counter() - start
        return product

    with mock.patch.object(nodes, "product_over_planes", timed):
        stepper.step(cycle)
    return taken / cycle


def step_memory(name: str, form: str, threads: int) -> float:
    """MiB that a step takes at most beside the network, its optimizer's state and its images. Needs Linux."""
    torch.set_num_threads(threads)
    row = ROWS[name]
    stepper = Stepper(networks(row)[form], row, row.batch, fused=form != "plain")
    images, labels = stepper.images, stepper.labels
    stepper.images, stepper.labels = images[:2], labels[:2]
    stepper.step()
    stepper.images, stepper.labels = images, labels
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present size from now on
    before = _status("VmRSS")
    for _ in range(3):
        stepper.step(1 if form == "plain" else row.cycle)
    return _status("VmHWM") - before


def _status(key: str) -> float:
    """MiB of a line of this process's status."""
    found = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(found.split()[1]) / 1024


def measure(name: str, repeats: int, threads: int) -> dict[str, Any]:
    """Everything about one row."""
    row = ROWS[name]
    gap = difference(row)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {form: pool.apply(step_memory, (name, form, threads)) for form in ("ours", "plain")}
    made = networks(row)
    steppers = {
        "ours": Stepper(made["ours"], row, row.batch, fused=True),
        "plain": Stepper(made["plain"], row, row.batch),
        "medium": Stepper(networks(row)["ours"], row, row.batch, "medium", fused=True),
    }
    seconds: dict[str, list[float]] = {form: [] for form in steppers}
    chosen, dense = [], []
    for turn in range(repeats + 1):
        for form, stepper in steppers.items():
            taken = stepper.step(1 if form == "plain" else row.cycle)
            if turn:
                seconds[form].append(taken)
        chosen.append(choosing_seconds(steppers["ours"].network))
        dense.append(dense_gradient_seconds(steppers["ours"], row.cycle))
    ratios = {
        form: [plain / own for plain, own in zip(seconds["plain"], seconds[form], strict=True)]
        for form in ("ours", "medium")
    }
    return {
        "words": row.words,
        "batch": row.batch,
        "image_size": row.image_size,
        "float64_difference": gap,
        "milliseconds": {form: [1e3 * s for s in values] for form, values in seconds.items()},
        "ratio": spread(ratios["ours"]),
        "medium_ratio": spread(ratios["medium"]),
        "aim": row.aim,
        "dense_gradient_milliseconds": 1e3 * statistics.median(dense),
        "selection_share": statistics.median(chosen) / statistics.median(seconds["ours"]),
        "peak_mib": memory,
    }


def growth(repeats: int) -> dict[str, list[dict[str, float]]]:
    """Milliseconds of a step of the static network by images and by acting edges, four sizes each, in turns.

    Returns of "images" and of "edges" a row a size: images, acting edges, median milliseconds.
    """
    sizes = {"images": [(64 << i, 0.95) for i in range(4)], "edges": [(256, 1 - 0.02 * 2**i) for i in range(4)]}
    results = {}
    for what, pairs in sizes.items():
        steppers, seconds = [], [[] for _ in pairs]
        for batch, prune_rate in pairs:
            torch.manual_seed(0)
            steppers.append(Stepper(StaticNeuralGraph(10, 32, "dnw", prune_rate), ROWS["static"], batch))
        for turn in range(repeats + 1):
            for stepper, times in zip(steppers, seconds, strict=True):
                taken = stepper.step()
                if turn:
                    times.append(taken)
        results[what] = [
            {
                "images": batch,
                "edges": sum(graph.wiring.kept for _, graph in graphs(stepper.network)),
                "milliseconds": 1e3 * statistics.median(times),
            }
            for (batch, _), stepper, times in zip(pairs, steppers, seconds, strict=True)
        ]
    return results


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def line(result: dict[str, Any]) -> str:
    """A row of the table."""
    ours, plain = (statistics.median(result["milliseconds"][form]) for form in ("ours", "plain"))
    medium = result["medium_ratio"]["median"]
    aim = ""
    if result["aim"] is not None:
        aim = f", aim {result['aim']:g}: {'reached' if result['ratio']['median'] >= result['aim'] else 'MISSED'}"
    ratio, memory, chosen = result["ratio"], result["peak_mib"], 100 * result["selection_share"]
    return (
        f"{result['words']:34} {result['batch']:4} x {result['image_size']:3}  {ours:7.0f} {plain:7.0f} ms  "
        f"{ratio['median']:5.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}){aim}  medium {medium:5.2f}  "
        f"dense gradient {result['dense_gradient_milliseconds']:4.0f} ms  "
        f"choosing {chosen:4.1f} %  {memory['ours']:5.0f} {memory['plain']:5.0f} MiB  "
        f"{result['float64_difference']:.0e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--growth", action="store_true", help="also by images and by edges, four sizes each")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = {"measured": conditions(), "threads": args.threads, "rows": {}}
    print(f"{results['measured']['hardware']}, {args.threads} threads: ours, plain, ratio, memory, difference")
    for name in args.rows:
        results["rows"][name] = measure(name, args.repeats, args.threads)
        print(line(results["rows"][name]), flush=True)
    if args.growth:
        results["growth"] = growth(args.repeats)
        for what, rows in results["growth"].items():
            print(f"static, by {what}:", *(f"{row[what]}: {row['milliseconds']:.0f} ms" for row in rows), sep="  ")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
