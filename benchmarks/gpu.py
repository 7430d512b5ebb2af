"""Everything that is measured on a GPU, in one command that can be stopped and given again.

    python benchmarks/gpu.py --json FILE [--minutes 7] [--only train evaluate] [--networks static ...] [--list]
                             [--retry] [--device cpu --small]

The measurement consists of pieces, each of a minute or two. After each one the file is written anew; a piece that it
holds is not measured again. No piece is begun after so many minutes: give the command again until nothing is left.

    train     milliseconds and memory of a training step, with each of the keys that make it faster
    evaluate  milliseconds of a batch: as it is, in bf16, and each recorded as a CUDA graph (on the CPU: not recorded)
    many      images a second of 2 or more GPUs, or of 2 processes on the CPU: DataParallel and DistributedDataParallel

--small takes small networks and batches, to try the command itself out on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.conditions import conditions
from data import Batch
from genutil.build import build_network
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.system.batch_norms import synchronise_batchnorm
from genutil.system.distributed import launch, make_fabric
from genutil.training.acceleration import accelerated, lay_out
from genutil.training.gradients import backward
from genutil.training.optimizers import make_optimizer
from models.inspection import evaluating

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Settings = dict[str, Any]

NETWORKS: dict[str, Settings] = {
    "static": {"model": "static", "wiring": "dnw", "prune_rate": 0.95, "image_size": 32, "batch_size": 256},
    "mobilenet": {"model": "mobilenetv1_like", "wiring": "dnw", "prune_rate": 0.775, "image_size": 224},
    "resnet50": {"model": "imagenet_resnet", "depth": 50, "wiring": "dnw", "prune_rate": 0.9, "image_size": 224},
}
LARGE: Settings = {"output_size": 1000, "batch_size": 128}
SMALL: dict[str, Settings] = {
    "static": {"dim": 60, "downsample_dim": 12, "feature_dim": 12, "layers": 3, "image_size": 16, "batch_size": 8},
    "mobilenet": {"image_size": 32, "batch_size": 4, "output_size": 10},
    "resnet50": {"model": "resnet", "depth": 8, "image_size": 32, "batch_size": 4, "output_size": 10},
}
EXACT: Settings = {"matmul_precision": "highest", "fused": False, "channels_last": False}
WAYS: dict[str, Settings] = {
    "float32": EXACT,
    "tf32": {**EXACT, "matmul_precision": "high"},
    "fused": {**EXACT, "fused": True},
    "channels_last": {**EXACT, "channels_last": True},
    "bf16": {**EXACT, "precision": "bf16"},
    "bf16, channels_last": {**EXACT, "precision": "bf16", "channels_last": True},
    "accumulate 2": {**EXACT, "accumulate": 2},
    "compile": {**EXACT, "compile": True},
    "bf16, compile": {**EXACT, "precision": "bf16", "compile": True},
    "defaults": {},
    "bf16, defaults": {"precision": "bf16"},
}
"""The ways to train, by the keys that they set."""
EVALUATED: dict[str, Settings] = {"float32": {}, "bf16": {"precision": "bf16"}}
BATCHES = (1, 32)


@dataclass(frozen=True)
class Piece:
    """A part of the measurement.

    Attributes:
        kind: train, evaluate or many.
        network: of NETWORKS.
        way: what it is called in the table.
        settings: of the experiment, over those of the network.
        options: of the function that measures it.
    """

    kind: str
    network: str
    way: str
    settings: Settings
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.network}/{self.way}"

    def experiment(self, device: str, small: bool) -> Experiment:
        base = {**({} if self.network == "static" else LARGE), **NETWORKS[self.network]}
        place: Settings = {"gpus": [0] if device == "cuda" else []}
        return Experiment.from_settings({**base, **(SMALL[self.network] if small else {}), **place, **self.settings})


def pieces(device: str, gpus: int) -> Iterator[Piece]:
    """All of them, in order; several processes are those of the CPU where there is no GPU, and left out for one GPU."""
    for network in NETWORKS:
        for way, settings in WAYS.items():
            yield Piece("train", network, way, settings)
        for way, settings in EVALUATED.items():
            for batch in BATCHES:
                yield Piece("evaluate", network, f"{way}, {batch}", settings, {"batch": batch, "recorded": False})
                if device == "cuda":
                    options = {"batch": batch, "recorded": True}
                    yield Piece("evaluate", network, f"{way}, {batch}, CUDA graph", settings, options)
        if device == "cpu":
            yield Piece("many", network, "ddp, 2", {"devices": 2, "gpus": None})
        for count in (2, 4, 8) if device == "cuda" else ():
            if count <= gpus:
                used = {"gpus": list(range(count))}
                yield Piece("many", network, f"dp, {count}", {**used, "strategy": "dp"})
                yield Piece("many", network, f"ddp, {count}", used)


# ------------------------------------------------------------------------------------------------- measuring


def timed(call: Callable[[], Any], device: torch.device, seconds: float) -> list[float]:
    """Milliseconds of each of many calls, after three that do not count."""
    times: list[float] = []
    begun = 0.0
    while len(times) < 3 + 3 or (time.perf_counter() - begun < seconds and len(times) < 1000):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1e3 * (time.perf_counter() - start))
        if len(times) == 3:
            begun = time.perf_counter()
    return times[3:]


def summary(times: list[float], images: int) -> dict[str, Any]:
    middle = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4)
    figures = {"milliseconds": middle, "low": low, "high": high, "calls": len(times)}
    return {**figures, "images": images, "images_per_second": 1e3 * images / middle}


def batch_of(experiment: Experiment, device: torch.device, parts: int = 1) -> Batch:
    """Random images: those of one of so many processes."""
    torch.manual_seed(1)
    images = experiment.batch_size // parts
    size = experiment.image_size
    pictures = torch.randn(images, experiment.in_channels, size, size, device=device)
    labels = torch.randint(experiment.output_size, (images,), device=device)
    return Batch(pictures, labels, images * parts)


def step_of(fabric: Fabric, experiment: Experiment, batch: Batch) -> Callable[[], Any]:
    """A training step, as the training loop makes it."""
    network = build_network(experiment).to(fabric.device).train()
    lay_out(network, experiment, fabric.device)
    if fabric.world_size > 1:
        synchronise_batchnorm(network)
    module, optimizer = fabric.setup(accelerated(fabric, network, experiment), make_optimizer(experiment, network))

    def step() -> None:
        optimizer.zero_grad()
        backward(fabric, module, batch, experiment)
        optimizer.step()

    return step


def train(experiment: Experiment, seconds: float) -> dict[str, Any]:
    """A training step on one device, and the most memory that it holds."""
    fabric = make_fabric(experiment)
    fabric.launch()
    step = step_of(fabric, experiment, batch_of(experiment, fabric.device))
    if fabric.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(fabric.device)
    figures = summary(timed(step, fabric.device, seconds), experiment.batch_size)
    peak = torch.cuda.max_memory_allocated(fabric.device) if fabric.device.type == "cuda" else None
    return {**figures, "peak_bytes": peak}


def evaluate(experiment: Experiment, seconds: float, batch: int, recorded: bool) -> dict[str, Any]:
    """A batch through the network in evaluation mode, recorded as a CUDA graph where asked for."""
    fabric = make_fabric(experiment)
    fabric.launch()
    network = build_network(experiment).to(fabric.device)
    lay_out(network, experiment, fabric.device)
    images = batch_of(experiment.but(batch_size=batch), fabric.device).images
    with evaluating(network), fabric.autocast():
        expected = network(images)
        call = _recorded(network, images) if recorded else partial(network, images)
        difference = float((call() - expected).abs().max() / expected.abs().max())
        figures = summary(timed(call, fabric.device, seconds), batch)
    return {**figures, "difference": difference}


def _recorded(network: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """The network's call on these images as a CUDA graph (torch.cuda.CUDAGraph)."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what is chosen and allocated once is not recorded
        for _ in range(3):
            network(images)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = network(images)

    def replay() -> Tensor:
        graph.replay()
        return logits

    return replay


def many(experiment: Experiment, seconds: float) -> dict[str, Any]:
    """A training step of several devices together; the batch is that of one for each of them."""
    count = len(experiment.gpus or []) or experiment.devices
    larger = experiment.but(batch_size=experiment.batch_size * count)
    times = launch(make_fabric(larger), _times_of_one, larger, seconds)
    return summary(times, larger.batch_size)


def _times_of_one(fabric: Fabric, experiment: Experiment, seconds: float) -> list[float]:
    """Of this process, which makes as many steps as the others."""
    step = step_of(fabric, experiment, batch_of(experiment, fabric.device, fabric.world_size))
    one = statistics.median(timed(step, fabric.device, 0.0)) / 1e3
    steps = torch.tensor(max(3, min(1000, int(seconds / one))), device=fabric.device)
    steps = int(fabric.broadcast(steps))
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        if fabric.device.type == "cuda":
            torch.cuda.synchronize(fabric.device)
        times.append(1e3 * (time.perf_counter() - start))
    return times


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {"train": train, "evaluate": evaluate, "many": many}


# ------------------------------------------------------------------------------------------------- the command


def measured(piece: Piece, device: str, small: bool, seconds: float) -> dict[str, Any]:
    """The figures of a piece, or the `error` that kept it from being measured."""
    try:
        return MEASURES[piece.kind](piece.experiment(device, small), seconds, **piece.options)
    except (UserError, RuntimeError) as error:
        return {"error": str(error).split("\n")[0]}
    finally:
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def begun(path: Path, device: str, small: bool) -> dict[str, Any]:
    """What a file holds of this measurement, or a new one. Raises SystemExit where it is of another one."""
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    gpus = torch.cuda.device_count() if device == "cuda" else 0
    about = {"device": name, "gpus": gpus, "small": small}
    if path.exists():
        found = json.loads(path.read_text())
        if {key: found.get(key) for key in about} != about:
            raise SystemExit(f"{path} holds another measurement ({found.get('device')}): give another file.")
        return found
    return {"measured": conditions(), **about, "pieces": {}}


def line(name: str, figures: dict[str, Any]) -> str:
    if "error" in figures:
        return f"{name:45} {figures['error']}"
    peak = figures.get("peak_bytes")
    memory = f"  {peak / 2**20:,.0f} MiB" if peak else ""
    return f"{name:45} {figures['milliseconds']:9.2f} ms  {figures['images_per_second']:9.0f} images/s{memory}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, required=True, help="file of the figures, gone on with where it is there")
    parser.add_argument("--minutes", type=float, default=7.0, help="after which no piece is begun")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a piece, beside its preparation")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="small networks and batches")
    parser.add_argument("--list", action="store_true", help="print the pieces that are left, and measure nothing")
    parser.add_argument("--retry", action="store_true", help="measure again what failed")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU: --device cpu --small tries the command out")
    started = time.monotonic()
    results = begun(args.json, args.device, args.small)
    done = results["pieces"]
    wanted = [p for p in pieces(args.device, results["gpus"]) if p.kind in args.only and p.network in args.networks]
    left = [piece for piece in wanted if piece.name not in done or (args.retry and "error" in done[piece.name])]
    while left and not args.list and time.monotonic() - started < 60 * args.minutes:
        piece = left.pop(0)
        done[piece.name] = measured(piece, args.device, args.small, args.seconds)
        args.json.write_text(json.dumps(results, indent=1) + "\n")
        print(line(piece.name, done[piece.name]), flush=True)
    if args.list:
        print(*(piece.name for piece in left), sep="\n")
    print(
        f"{len(wanted) - len(left)} of {len(wanted)} pieces are done" + ("; give the command again." if left else ".")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
