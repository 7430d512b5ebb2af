"""Choosing the kept edges of a 3072x2816 weight exactly, against a full sort and against torch's selections.

    python benchmarks/selection.py [--threads 2] [--repeats 9] [--json FILE]

Every way runs once in each of the repeats, in turn, and must give the set that a full sort gives.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.conditions import conditions
from models.wirings.selection import keep_largest

ROWS, COLUMNS, KEPT = 3072, 2816, 72_991
"""The largest stage of the MobileNet-like network, with all entries of its matrix, and the edges that x0.225 keeps."""


def by_sort(weight: Tensor, k: int) -> Tensor:
    order = weight.abs().sort(descending=True).indices[:k]
    return torch.zeros_like(weight, dtype=torch.bool).index_fill_(0, order, True)


def by_topk(weight: Tensor, k: int) -> Tensor:
    order = weight.abs().topk(k, sorted=False).indices
    return torch.zeros_like(weight, dtype=torch.bool).index_fill_(0, order, True)


def by_kthvalue(weight: Tensor, k: int) -> Tensor:
    magnitude = weight.abs()
    return magnitude >= magnitude.kthvalue(len(weight) - k + 1).values


WAYS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "keep_largest": keep_largest,
    "torch.sort": by_sort,
    "torch.topk": by_topk,
    "torch.kthvalue": by_kthvalue,
}


def measure(repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    weight = torch.randn(ROWS * COLUMNS, dtype=torch.float64).float() * 0.02
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    expected = by_sort(weight, KEPT)
    for turn in range(repeats + 1):
        for name, way in WAYS.items():
            start = time.perf_counter()
            kept = way(weight, KEPT)
            if turn:
                seconds[name].append(time.perf_counter() - start)
            if not kept.equal(expected):
                raise AssertionError(f"{name} does not give the set that a full sort gives")
    ours = seconds["keep_largest"]
    ratios = {n: statistics.median(t / o for t, o in zip(s, ours, strict=True)) for n, s in seconds.items()}
    return {
        "measured": conditions(),
        "threads": torch.get_num_threads(),
        "entries": ROWS * COLUMNS,
        "kept": KEPT,
        "milliseconds": {name: [1e3 * s for s in values] for name, values in seconds.items()},
        "times_ours": ratios,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = measure(args.repeats)
    for name, values in result["milliseconds"].items():
        spread = f"({min(values):.1f} to {max(values):.1f})"
        print(f"{name:15} {statistics.median(values):8.1f} ms {spread:20} {result['times_ours'][name]:6.1f} x ours")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
