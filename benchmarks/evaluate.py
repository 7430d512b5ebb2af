"""How long an image takes: every engine on the same wired networks, side by side.

    python benchmarks/evaluate.py [--wirings x225 x3 x49] [--threads 1 2] [--batch 1 32] [--repeats 9] [--json FILE]
                                  [--checkpoint FILE ...] [--columns NAME ...] [--sizes 32 512] [--timings]

The wirings have the number of live edges and nodes of the published networks (arXiv 1906.00586, table 1). Columns:
the network itself with its mask kept between calls (dense), its live nodes (pruned), DGL, csr, native, and ONNX
Runtime, OpenVINO and DeepSparse on the pruned network, where they are installed. Beside them stand the networks that
were trained here (pretrained/weights), or those of --checkpoint. Every column of a cell is a process
of its own, stopped while the others have their turns; a figure is the median over the turns, with quartiles.
benchmarks/equal_accuracy.py compares with dense networks.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.compared_networks import PUBLISHED, published_wiring
from benchmarks.conditions import conditions
from benchmarks.engine_columns import WiredFiles, peak_gmacs
from benchmarks.turns import Turns, summary
from genutil.build import build_network as build_from
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.saved.loading import load_weights
from genutil.saved.source import open_source
from models.sparse import compile_graph
from models.sparse.plan_spec import Phase
from pretrained import trained

COLUMNS = ("dense", "pruned", "dgl", "csr", "native", "onnx", "openvino", "deepsparse")
METHOD = "Every column of a row is a process of its own, which is stopped while the others have their turns."
AIMS: list[dict[str, Any]] = [
    {"column": "dgl", "wirings": dict.fromkeys(PUBLISHED, 25)},
    {"column": "pruned", "wirings": {"x225": 8, "x3": 8, "x49": 6}},
    {"column": "onnx", "wirings": dict.fromkeys(PUBLISHED, 4)},
    {"column": "deepsparse", "wirings": dict.fromkeys(PUBLISHED, 2)},
]
"""How many times as fast as each column native should be at 224 pixels."""


# ------------------------------------------------------------------------------------------------- measuring


def measure(files: WiredFiles, names: Sequence[str], batch: int, threads: int, repeats: int) -> dict[str, Any]:
    """One cell: every column's milliseconds an image and its cost, native's ratio to each, its share of the peak."""
    times: dict[str, list[float]] = {}
    peak = []
    with Turns({name: files.column(name, batch, threads) for name in names}) as turns:
        for name, reason in turns.left_out.items():
            print(f"  {name} is left out: {reason}", file=sys.stderr)
        for _ in range(repeats):
            peak.append(peak_gmacs())
            for name, seconds in turns.take().items():
                times.setdefault(name, []).append(1e3 * seconds / batch)
    cell: dict[str, Any] = {
        "wiring": files.name,
        "image_size": files.image_size,
        "batch": batch,
        "threads": threads,
        "milliseconds": {name: summary(values) for name, values in times.items()},
        "peak_gmacs_a_thread": summary(peak),
        "built": {name: asdict(cost) for name, cost in turns.costs.items()},
    }
    if "native" in times:
        cost = files.cost()["multiply_adds"]
        cell["ratio_to_native"] = {
            name: summary([other / own for other, own in zip(values, times["native"], strict=True)])
            for name, values in times.items()
            if name != "native"
        }
        # of all threads together; alone in the middle of the run, so the best the processor gave
        shares = [cost / (own * 1e6) / (top * threads) for own, top in zip(times["native"], peak, strict=True)]
        cell["share_of_peak"] = summary(shares)
    return cell


def gpu_cells(networks: dict[str, nn.Module], repeats: int) -> list[dict[str, Any]]:
    """Images a second on a GPU: the plain network against pruned in bf16 with CUDA graphs."""
    cells = []
    for name, network in networks.items():
        network = network.cuda()
        compiled = compile_graph(network, "pruned", dtype=torch.bfloat16, cuda_graphs=True)
        for batch in (1, 256):
            images = torch.randn(batch, 3, 224, 224, device="cuda")
            speeds: dict[str, list[float]] = {"plain": [], "pruned bf16": []}
            with torch.inference_mode():
                for _ in range(repeats):
                    for column, call in (("plain", network), ("pruned bf16", compiled)):
                        speeds[column].append(batch / _gpu_seconds(call, images))
            cells.append(
                {
                    "wiring": name,
                    "batch": batch,
                    "device": torch.cuda.get_device_name(),
                    "images_a_second": {column: summary(values) for column, values in speeds.items()},
                }
            )
    return cells


def _gpu_seconds(call: nn.Module, images: Tensor, calls: int = 20) -> float:
    for _ in range(3):
        call(images)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        call(images)
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


# ------------------------------------------------------------------------------------------------- printing


def aim(cell: dict[str, Any], column: str) -> float | None:
    """How many times as fast as a column native should be in a cell, where that was said."""
    said = next((entry for entry in AIMS if entry["column"] == column), None)
    if said is None or cell["image_size"] != 224:
        return None
    return said["wirings"].get(cell["wiring"])


def print_cell(cell: dict[str, Any]) -> None:
    head = (
        f"{cell['wiring']}, {cell['image_size']}x{cell['image_size']}, batch {cell['batch']}, {cell['threads']} threads"
    )
    share = f", native at {100 * cell['share_of_peak']['median']:.0f} % of peak" if "share_of_peak" in cell else ""
    print(f"\n{head} (peak {cell['peak_gmacs_a_thread']['median']:.1f} G multiply-adds/s a thread{share})")
    for name, time_ in cell["milliseconds"].items():
        line = f"  {name:<12}{time_['median']:>9.3f} ms an image [{time_['low']:.3f}, {time_['high']:.3f}]"
        ratio = cell.get("ratio_to_native", {}).get(name)
        if ratio:
            line += f"   native is {ratio['median']:.2f} times as fast [{ratio['low']:.2f}, {ratio['high']:.2f}]"
            wanted = aim(cell, name)
            if wanted:
                line += f", aim {wanted}: {'reached' if ratio['median'] >= wanted else 'MISSED'}"
        print(line, flush=True)


def print_timings(levels: Sequence[dict[str, Any]]) -> None:
    """Microseconds an image of each level and phase, all threads together, and the speed of its sums."""
    print(f"    {'µs an image':<24}{'sums over':<14}" + "".join(f"{phase.name.lower():>9}" for phase in Phase), end="")
    print("   10^9 multiply-adds/s in sums")
    for level in levels:
        kind = (level["kind"] or "").removeprefix("SUM_").replace("_", " ").lower()
        seconds = level["seconds"]
        line = f"    {level['level']:<24}{kind:<14}" + "".join(f"{1e6 * seconds[phase.name]:>9.1f}" for phase in Phase)
        cost = level["multiply_adds"]
        print(f"{line}   {cost / seconds[Phase.SUMS.name] / 1e9:.1f}" if cost else line)
    totals = [sum(level["seconds"][phase.name] for level in levels) for phase in Phase]
    print(f"    {'all':<38}" + "".join(f"{1e6 * total:>9.1f}" for total in totals), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wirings", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED))
    shipped = [f"pretrained:{name}" for name in trained.catalogue() if trained.OF_SEED not in name]
    parser.add_argument("--checkpoint", nargs="*", default=shipped, help="trained networks to measure as well")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--columns", nargs="+", default=list(COLUMNS), choices=COLUMNS)
    parser.add_argument("--sizes", nargs="*", type=int, default=[32, 512], help="further sizes, of the first wiring")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "evaluate.json")
    parser.add_argument("--timings", action="store_true", help="show where the native engine spends its time")
    args = parser.parse_args()
    cells, built, networks = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        tables = [(name, published_wiring(name), 224, args.batch) for name in args.wirings]
        tables += [
            (Path(name.removeprefix("pretrained:")).stem, *_trained(name), args.batch) for name in args.checkpoint
        ]
        for size in args.sizes:
            network = published_wiring(args.wirings[0], 10 if size <= 64 else 1000, size)
            tables.append((args.wirings[0], network, size, args.batch if size <= 64 else [1]))
        for name, network, size, batches in tables:
            files = WiredFiles(name, network, size, Path(folder))
            print(f"\n{name}, {size}x{size}: {files.cost()}", flush=True)
            costs: dict[str, dict[str, float]] = {}
            for threads in args.threads:
                for batch in batches:
                    cell = measure(files, args.columns, batch, threads, args.repeats)
                    costs = cell.pop("built") | costs
                    print_cell(cell)
                    if args.timings:
                        cell["timings"] = files.timings(batch, threads)
                        print_timings(cell["timings"])
                    cells.append(cell)
            built.append({"wiring": name, "image_size": size, **files.cost(), "columns": costs})
            networks.setdefault(name, network)
            for column, price in costs.items():
                print(f"  {column}: built in {price['build_s']:.2f} s, {price['memory_mib']:.0f} MiB")
        gpu = gpu_cells(networks, args.repeats) if torch.cuda.is_available() else []
    measured = conditions()
    del measured["threads"]  # those of the cells count
    result = {
        "measured": measured,
        "method": METHOD,
        "aims": AIMS,
        "cells": cells,
        "built": built,
        "gpu": gpu,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=1))
    print(f"\nwritten to {args.json}")


def _trained(name: str) -> tuple[nn.Module, int]:
    """The network of a checkpoint of ours and the size of its images."""
    try:
        source = open_source(name)
        experiment = Experiment.from_saved(source.settings(), {})
        network = build_from(experiment).eval()
        load_weights(source, network)
    except UserError as mistake:
        raise SystemExit(str(mistake)) from mistake
    return network, experiment.image_size


if __name__ == "__main__":
    main()
