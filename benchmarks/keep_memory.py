"""Training steps on a CPU with the memory of large tensors kept from step to step (key: keep_memory), and without.

    python benchmarks/keep_memory.py [--only NAME ...] [--repeats 3] [--steps 6] [--threads 2] [--json FILE]

Each measurement is a process of its own, in turns; its time is the median of the steps but the first two. A ratio is of
the two processes of one turn. Memory is the most that the process held, with network, optimizer and torch itself.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.conditions import conditions
from genutil.build import build_network
from genutil.cli import command_line
from genutil.cli.command_line import CommandLine
from genutil.training.optimizers import make_optimizer
from models.native.allocator import memory_kept

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "continuous": (
        "small_scale/continuous_time_dnw",
        {"batch_size": 512, "solver": "rk4", "solver_steps": 4},
    ),
    "static": ("small_scale/static_dnw", {"batch_size": 512}),
    "mobilenet": ("medium_scale/mobilenetv1_dnw_x225", {"batch_size": 128}),
    "resnet20": ("cifar/resnet20_v1", {"batch_size": 128}),
    "resnet20_large": ("cifar/resnet20_v1", {"batch_size": 512}),
    "randwire": ("randwire/cifar10_ws", {"batch_size": 100}),
}
"""Experiments with settings that differ from their app files'."""


def step_times(name: str, keep: bool, steps: int, threads: int) -> dict[str, float]:
    """Milliseconds of a step, processor seconds of them in the system, and MiB that this process held at most."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    experiment, settings = ROWS[name]
    experiment = command_line.resolve(CommandLine(experiment, {**settings, "gpus": []}))
    network = build_network(experiment).train()
    optimizer = make_optimizer(experiment, network)
    images = torch.randn(experiment.batch_size, experiment.in_channels, experiment.image_size, experiment.image_size)
    labels = torch.randint(experiment.output_size, (len(images),))
    times, system = [], []
    with memory_kept(keep) as is_so:
        if keep and not is_so:
            sys.exit("Memory cannot be kept here: there is nothing to compare.")
        for _ in range(steps):
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
            times.append(time.perf_counter() - start)
            system.append(resource.getrusage(resource.RUSAGE_SELF).ru_stime - before.ru_stime)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "milliseconds": 1000 * statistics.median(times[2:]),
        "system_seconds": statistics.median(system[2:]),
        "mebibytes": most,
    }


def measured_apart(name: str, keep: bool, steps: int, threads: int) -> dict[str, float]:
    """`step_times` in a process of its own. Raises subprocess.CalledProcessError."""
    words = ["--child", name, "--steps", str(steps), "--threads", str(threads), *(["--keep"] if keep else [])]
    asked = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(asked.stdout)


def measure(name: str, repeats: int, steps: int, threads: int) -> dict[str, Any]:
    """The row of one experiment: both ways in each of the repeats, and how many times as fast the kept one is."""
    experiment, settings = ROWS[name]
    ways: dict[str, list[dict[str, float]]] = {"kept": [], "fresh": []}
    for _ in range(repeats):
        for way, found in ways.items():
            found.append(measured_apart(name, way == "kept", steps, threads))
    pairs = zip(ways["fresh"], ways["kept"], strict=True)
    ratios = [fresh["milliseconds"] / kept["milliseconds"] for fresh, kept in pairs]
    ratio = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return {"experiment": experiment, "settings": settings, **ways, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps < 3 or args.repeats < 1:
        parser.error("at least 3 steps and 1 repeat: the first two steps of a process do not count")
    if args.child:
        print(json.dumps(step_times(args.child, args.keep, args.steps, args.threads)))
        return
    torch.set_num_threads(args.threads)
    rows = []
    for name in args.only:
        rows.append(measure(name, args.repeats, args.steps, args.threads))
        ratio = rows[-1]["ratio"]
        print(f"{name:15} {ratio['median']:.2f} times as fast ({ratio['min']:.2f} to {ratio['max']:.2f})", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"measured": conditions(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
