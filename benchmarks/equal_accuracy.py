"""How long an image takes at equal accuracy: wired networks in the native engine against a curve of dense networks.

    python benchmarks/equal_accuracy.py [--wirings x225 x3 x49] [--threads 1 2] [--batch 1 32] [--repeats 9]
                                        [--json FILE]

The curve: dense networks with their published accuracies, each in the faster of ONNX Runtime and OpenVINO (where it is
installed), and all that lies on straight lines between two of them. A wired network is compared with the curve's
latency at its own accuracy. Everything in a cell takes turns, a process each. The picture is made from the results by
docs/pictures/equal_accuracy.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.compared_networks import DENSE, PUBLISHED, published_wiring
from benchmarks.conditions import conditions
from benchmarks.engine_columns import OPSETS, Column, WiredFiles, write_onnx
from benchmarks.turns import Turns, summary

SIZE = 224
AIM = 1.2
"""How many times as fast as the curve the wired networks should be."""
ENGINES = ("onnx", "openvino")


def curve_at(accuracy: float, points: Sequence[tuple[float, float]]) -> float:
    """The least latency at an accuracy on straight lines between two of the points (accuracy, latency).

    Raises ValueError where no two points have the accuracy between them.
    """
    found = [
        low if right == left else low + (high - low) * (accuracy - left) / (right - left)
        for (left, low), (right, high) in product(points, points)
        if left <= accuracy <= right
    ]
    if not found:
        raise ValueError(f"no dense networks with {accuracy} % between them")
    return min(found)


def faster_engines(times: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """For each dense network, the column whose median is the least."""
    columns = {name: [column for column in times if column.split()[0] == name] for name in DENSE}
    return {name: min(found, key=lambda column: median(times[column])) for name, found in columns.items() if found}


def ratios(times: Mapping[str, Sequence[float]], wirings: Sequence[str]) -> dict[str, dict[str, float]]:
    """How many times as fast as the curve each wired network is, turn by turn."""
    faster, found = faster_engines(times), {}
    for wiring in wirings:
        values = []
        for turn, own in enumerate(times[wiring]):
            points = [(DENSE[name].accuracy, times[column][turn]) for name, column in faster.items()]
            values.append(curve_at(PUBLISHED[wiring]["accuracy"], points) / own)
        found[wiring] = summary(values)
    return found


def measure(
    wired: Sequence[WiredFiles], dense: Mapping[str, Path], batch: int, threads: int, repeats: int
) -> dict[str, Any]:
    """One cell: milliseconds an image of every network and engine, the faster engines, the wired networks' ratios, and
    where the native engine spends its time."""
    columns = {files.name: files.column("native", batch, threads) for files in wired}
    for (name, path), engine in product(dense.items(), ENGINES):
        columns[f"{name} {engine}"] = Column(engine, path, SIZE, batch, threads)
    times: dict[str, list[float]] = {}
    with Turns(columns) as turns:
        for name, reason in turns.left_out.items():
            print(f"  {name} is left out: {reason}", file=sys.stderr)
        for _ in range(repeats):
            for name, seconds in turns.take().items():
                times.setdefault(name, []).append(1e3 * seconds / batch)
    return {
        "batch": batch,
        "threads": threads,
        "milliseconds": {name: summary(values) for name, values in times.items()},
        "faster": faster_engines(times),
        "ratio": ratios(times, [files.name for files in wired]),
    }


def print_cell(cell: Mapping[str, Any]) -> None:
    """Latencies by accuracy, then the ratios."""
    print(f"\nbatch {cell['batch']}, {cell['threads']} threads")
    for name, time in cell["milliseconds"].items():
        network = name.split()[0]
        accuracy = DENSE[network].accuracy if network in DENSE else PUBLISHED[network]["accuracy"]
        line = (
            f"  {name:<26}{accuracy:>6.1f} %{time['median']:>9.3f} ms an image [{time['low']:.3f}, {time['high']:.3f}]"
        )
        if ratio := cell["ratio"].get(name):
            line += f"   {ratio['median']:.2f} times as fast as the curve [{ratio['low']:.2f}, {ratio['high']:.2f}]"
            line += f", aim {AIM}: {'reached' if ratio['median'] >= AIM else 'MISSED'}"
        elif name in cell["faster"].values():
            line += "   on the curve's side"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wirings", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "equal_accuracy.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wired = [WiredFiles(name, published_wiring(name), SIZE, Path(folder)) for name in args.wirings]
        dense = {
            name: write_onnx(network.build(), SIZE, Path(folder) / f"{name}.onnx", OPSETS["onnx"])
            for name, network in DENSE.items()
        }
        cells = []
        for threads, batch in product(args.threads, args.batch):
            cells.append(measure(wired, dense, batch, threads, args.repeats))
            print_cell(cells[-1])
    measured = conditions()
    del measured["threads"]  # those of the cells count
    result = {
        "measured": measured,
        "aim": AIM,
        "wired": {name: {"accuracy": PUBLISHED[name]["accuracy"]} for name in args.wirings},
        "dense": {name: {"words": network.words, "accuracy": network.accuracy} for name, network in DENSE.items()},
        "cells": cells,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=1))
    print(f"\nwritten to {args.json}")


if __name__ == "__main__":
    main()
