"""Training steps on a CPU with a setting on, and with it off: keep_memory, channels_last.

    python benchmarks/step_settings.py KEY [--only NAME ...] [--repeats 3] [--steps 6] [--threads 2] [--json FILE]

Each measurement is a process of its own, in turns; its time is the median of the steps but the first two. A ratio is of
the two processes of one turn. Memory is the most that the process held, with network, optimizer and torch itself. All
other settings are those of the experiment.
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
from genutil.training.acceleration import lay_out
from genutil.training.optimizers import make_optimizer
from models.native.allocator import memory_kept

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "continuous": (
        "small_scale/continuous_time_dnw",
        {"batch_size": 512, "solver": "rk4", "solver_steps": 4},
    ),
    "static": ("small_scale/static_dnw", {"batch_size": 512}),
    "mobilenet": ("medium_scale/mobilenetv1_dnw_x225", {"batch_size": 128}),
    "mobilenet_fixed": ("medium_scale/mobilenetv1_x25", {"batch_size": 128}),
    "resnet20": ("cifar/resnet20_v1", {"batch_size": 128}),
    "resnet20_large": ("cifar/resnet20_v1", {"batch_size": 512}),
    "resnet20_dnw": ("sparsity/resnet20_dnw_90", {"batch_size": 128}),
    "vgg11": ("cifar/vgg11", {"batch_size": 128}),
    "wrn": ("cifar/wrn_16_4", {"batch_size": 32}),
    "shufflenet": ("large_scale/shufflenetv2_x50", {"batch_size": 32}),
    "randwire": ("randwire/cifar10_ws", {"batch_size": 100}),
}
"""Experiments with settings that differ from their app files'."""

KEYS = {
    "keep_memory": ["continuous", "static", "mobilenet", "resnet20", "resnet20_large", "randwire"],
    "channels_last": [
        "resnet20",
        "resnet20_dnw",
        "wrn",
        "vgg11",
        "mobilenet_fixed",
        "shufflenet",
        "randwire",
        "static",
        "mobilenet",
    ],
}
"""What can be measured, and the rows it is measured on by itself."""


def step_times(name: str, key: str, on: bool, steps: int, threads: int) -> dict[str, float]:
    """Milliseconds of a step, processor seconds of them in the system, and MiB that this process held at most."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    app, settings = ROWS[name]
    experiment = command_line.resolve(CommandLine(app, {**settings, "gpus": [], key: on}))
    network = build_network(experiment).train()
    lay_out(network, experiment, torch.device("cpu"))
    optimizer = make_optimizer(experiment, network)
    images = torch.randn(experiment.batch_size, experiment.in_channels, experiment.image_size, experiment.image_size)
    labels = torch.randint(experiment.output_size, (len(images),))
    times, system = [], []
    with memory_kept(experiment.keep_memory) as is_so:
        if key == "keep_memory" and on and not is_so:
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


def measured_apart(name: str, key: str, on: bool, steps: int, threads: int) -> dict[str, float]:
    """`step_times` in a process of its own. Raises subprocess.CalledProcessError."""
    words = [key, "--child", name, "--steps", str(steps), "--threads", str(threads), *(["--on"] if on else [])]
    asked = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(asked.stdout)


def measure(name: str, key: str, repeats: int, steps: int, threads: int) -> dict[str, Any]:
    """The row of one experiment: on and off in each of the repeats, and how many times as fast it is when on."""
    experiment, settings = ROWS[name]
    ways: dict[str, list[dict[str, float]]] = {"on": [], "off": []}
    for _ in range(repeats):
        for way, found in ways.items():
            found.append(measured_apart(name, key, way == "on", steps, threads))
    pairs = zip(ways["off"], ways["on"], strict=True)
    ratios = [off["milliseconds"] / on["milliseconds"] for off, on in pairs]
    ratio = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return {"experiment": experiment, "settings": settings, **ways, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("key", choices=KEYS)
    parser.add_argument("--only", nargs="+", choices=ROWS, help="[what the key is measured on by itself]")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--on", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps < 3 or args.repeats < 1:
        parser.error("at least 3 steps and 1 repeat: the first two steps of a process do not count")
    if args.child:
        print(json.dumps(step_times(args.child, args.key, args.on, args.steps, args.threads)))
        return
    torch.set_num_threads(args.threads)
    rows = []
    for name in args.only or KEYS[args.key]:
        rows.append(measure(name, args.key, args.repeats, args.steps, args.threads))
        ratio = rows[-1]["ratio"]
        print(f"{name:15} {ratio['median']:.2f} times as fast ({ratio['min']:.2f} to {ratio['max']:.2f})", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"measured": conditions(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
