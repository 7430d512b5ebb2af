"""How long an image takes: every engine against dense networks of equal accuracy, side by side in one process.

    python benchmarks/evaluate.py [--wirings x225 x3 x49] [--threads 1 2] [--batch 1 32] [--repeats 9] [--json FILE]
                                  [--checkpoint FILE ...] [--columns NAME ...] [--sizes 32 512]

The wirings have the number of live edges and nodes of the published networks (arXiv 1906.00586, table 1). Columns:
the network itself with its mask kept between calls (dense), its live nodes (pruned), DGL, csr, native, ONNX
Runtime on the pruned network, and ONNX Runtime on the dense network of equal accuracy. All columns of a cell take
turns; a figure is the median over the turns, with quartiles. DeepSparse is a column where it is installed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import io
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.compared_networks import EQUAL, PUBLISHED, equal_network, published_wiring
from benchmarks.conditions import conditions
from genutil.build import build_network as build_from
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.saved.loading import load_weights
from genutil.saved.source import open_source
from models.sparse import channel_graph, compile_graph
from models.sparse.native import NativeGraph, load_kernel
from models.sparse.torch_engines import PrunedGraph, import_dgl

Run = Callable[[Tensor], Any]

COLUMNS = ("dense", "pruned", "dgl", "csr", "native", "onnx", "onnx equal", "deepsparse")
AIMS: list[dict[str, Any]] = [
    {"column": "dgl", "wirings": dict.fromkeys(PUBLISHED, 25)},
    {"column": "pruned", "wirings": {"x225": 8, "x3": 8, "x49": 6}},
    {"column": "onnx", "wirings": dict.fromkeys(PUBLISHED, 4)},
    {
        "column": "onnx equal",
        "wirings": {"x225": 1.0, "x3": 1.0, "x49": 0.9},
        "batches": {"x225": 1.2, "x3": 1.2, "x49": 0.9},
    },
    {"column": "deepsparse", "wirings": {"x225": 1.3, "x3": 1.3, "x49": 1.0}},
]
"""How many times as fast as each column native should be at 224 pixels; `batches`: of more than one image, where that
differs."""


# ------------------------------------------------------------------------------------------------- columns


def onnx_file(network: nn.Module, image_size: int, path: Path) -> Path:
    """The network as an ONNX file for any batch."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.randn(1, 3, image_size, image_size),),
            buffer,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            dynamo=False,
        )
    path.write_bytes(buffer.getvalue())
    return path


def onnx_session(path: Path, threads: int) -> Run:
    """ONNX Runtime on a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def deepsparse_engine(path: Path, batch: int, threads: int) -> Run:
    """DeepSparse on a file. Raises ImportError where it is not installed."""
    from deepsparse import Engine

    engine = Engine(model=str(path), batch_size=batch, num_cores=threads)
    return lambda images: torch.from_numpy(engine.run([images.numpy()])[0])


class Columns:
    """The columns of one wiring at one size of the images, built when first wanted, with what building cost."""

    def __init__(self, name: str, network: nn.Module, image_size: int, folder: Path) -> None:
        self.name, self.network, self.image_size, self.folder = name, network, image_size, folder
        self.size = (image_size, image_size)
        self.pruned = channel_graph(network).pruned(self.size)
        self.cost: dict[str, dict[str, float]] = {}

    def build(self, column: str, batch: int, threads: int) -> Run | None:
        """The column's call, or None where a package is missing."""
        before, start = _resident(), time.perf_counter()
        try:
            call = self._build(column, batch, threads)
        except (ImportError, ValueError) as error:
            print(f"  {column} is left out: {error}", file=sys.stderr)
            return None
        if call is not None:
            seconds = time.perf_counter() - start
            call(torch.randn(1, 3, *self.size))
            memory = (_resident() - before) / 2**20
            self.cost.setdefault(column, {"build_s": seconds, "memory_mib": memory})
        return call

    def _build(self, column: str, batch: int, threads: int) -> Run | None:
        if column == "dense":
            return self.network
        if column == "pruned":
            return PrunedGraph(self.pruned)
        if column == "native":
            return NativeGraph(self.pruned, self.size, threads)
        if column == "dgl":
            import_dgl().utils.set_num_threads(threads)
        if column in ("csr", "dgl"):
            return compile_graph(self.network, column, check=False, image_size=self.size)
        if column == "onnx equal":
            if self.name not in EQUAL or self.image_size != 224:
                return None
            return onnx_session(self._file("equal", equal_network(self.name)), threads)
        path = self._file("pruned", PrunedGraph(self.pruned))
        return onnx_session(path, threads) if column == "onnx" else deepsparse_engine(path, batch, threads)

    def _file(self, kind: str, network: nn.Module) -> Path:
        path = self.folder / f"{self.name}_{self.image_size}_{kind}.onnx"
        return path if path.exists() else onnx_file(network, self.image_size, path)


def _resident() -> int:
    """Bytes of memory that this process holds, without what it has freed (0 where the system does not tell)."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


# ------------------------------------------------------------------------------------------------- measuring


def peak_seconds(rounds: int = 1_000_000) -> float:
    """Seconds that one thread takes for `rounds` times 12 multiply-adds of vectors in registers."""
    kernel = load_kernel()
    start = time.perf_counter()
    kernel.wirings_peak(rounds)
    return time.perf_counter() - start


def measure_cell(calls: dict[str, Run], images: Tensor, repeats: int) -> dict[str, list[float]]:
    """Milliseconds an image, of every column in every turn; `peak` in 10^9 multiply-adds a second of one thread."""
    lanes = load_kernel().wirings_lanes()
    batch, found = len(images), {name: [] for name in (*calls, "peak")}
    inner = {name: max(1, min(20, int(0.03 / max(1e-4, _seconds(call, images))))) for name, call in calls.items()}
    for _ in range(repeats):
        found["peak"].append(1_000_000 * 12 * lanes / peak_seconds() / 1e9)
        for name, call in calls.items():
            time.sleep(0.005)  # threads of the column before go to sleep
            call(images)
            taken = sorted(_seconds(call, images) for _ in range(inner[name]))
            found[name].append(1e3 * taken[len(taken) // 2] / batch)
    return found


def _seconds(call: Run, images: Tensor) -> float:
    start = time.perf_counter()
    call(images)
    return time.perf_counter() - start


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    if len(values) < 2:
        return {"median": values[0], "low": values[0], "high": values[0]}
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def measure(columns: Columns, names: Sequence[str], batch: int, threads: int, repeats: int) -> dict[str, Any]:
    """One cell: every column's milliseconds an image, native's ratio to each, and its share of the peak."""
    torch.set_num_threads(threads)
    images = torch.randn(batch, 3, *columns.size)
    with torch.inference_mode():
        calls = {name: call for name in names if (call := columns.build(name, batch, threads)) is not None}
        times = measure_cell(calls, images, repeats)
    peak = times.pop("peak")
    cell: dict[str, Any] = {
        "wiring": columns.name,
        "image_size": columns.image_size,
        "batch": batch,
        "threads": threads,
        "milliseconds": {name: summary(values) for name, values in times.items()},
        "peak_gmacs_a_thread": summary(peak),
    }
    if "native" in times:
        cost = sum(count.multiply_adds for count in columns.pruned.counts(columns.size))
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


def _gpu_seconds(call: Run, images: Tensor, calls: int = 20) -> float:
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
    return said["batches" if cell["batch"] > 1 and "batches" in said else "wirings"].get(cell["wiring"])


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wirings", nargs="+", default=list(PUBLISHED), choices=list(PUBLISHED))
    parser.add_argument("--checkpoint", nargs="+", type=Path, default=[], help="trained networks to measure as well")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--columns", nargs="+", default=list(COLUMNS), choices=COLUMNS)
    parser.add_argument("--sizes", nargs="*", type=int, default=[32, 512], help="further sizes, of the first wiring")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "evaluate.json")
    args = parser.parse_args()
    cells, built, networks = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        tables = [(name, published_wiring(name), 224, args.batch) for name in args.wirings]
        tables += [(path.stem, *_trained(path), args.batch) for path in args.checkpoint]
        for size in args.sizes:
            network = published_wiring(args.wirings[0], 10 if size <= 64 else 1000, size)
            tables.append((args.wirings[0], network, size, args.batch if size <= 64 else [1]))
        for name, network, size, batches in tables:
            columns = Columns(name, network, size, Path(folder))
            counts = columns.pruned.counts(columns.size)
            cost = {
                "multiply_adds": sum(count.multiply_adds for count in counts),
                "parameters": sum(count.parameters for count in counts),
                "edges": sum(count.live_edges for count in counts if count.stage.startswith("layers.")),
            }
            print(f"\n{name}, {size}x{size}: {cost}", flush=True)
            for threads in args.threads:
                for batch in batches:
                    cells.append(measure(columns, args.columns, batch, threads, args.repeats))
                    print_cell(cells[-1])
            built.append({"wiring": name, "image_size": size, **cost, "columns": columns.cost})
            networks.setdefault(name, network)
            for column, price in columns.cost.items():
                print(f"  {column}: built in {price['build_s']:.2f} s, {price['memory_mib']:.0f} MiB")
        gpu = gpu_cells(networks, args.repeats) if torch.cuda.is_available() else []
    result = {
        "measured": conditions(),
        "aims": AIMS,
        "equal_accuracy": {name: EQUAL[name][0] for name in args.wirings},
        "cells": cells,
        "built": built,
        "gpu": gpu,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result, indent=1))
    print(f"\nwritten to {args.json}")


def _trained(path: Path) -> tuple[nn.Module, int]:
    """The network of a checkpoint of ours and the size of its images."""
    try:
        source = open_source(path)
        experiment = Experiment.from_saved(source.settings(), {})
        network = build_from(experiment).eval()
        load_weights(source, network)
    except UserError as mistake:
        raise SystemExit(str(mistake)) from mistake
    return network, experiment.image_size


if __name__ == "__main__":
    main()
