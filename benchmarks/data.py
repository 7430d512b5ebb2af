"""Images a second of every loader, beside what a network takes in training on the same machine.

    python benchmarks/data.py [--sizes 32 224] [--workers 0 1 2 4] [--images 2000] [--repeats 3] [--json FILE]
                              [--device cuda] [--picture FILE]

The loaders: images in memory; a folder of JPEG files; the same files in TFRecord files. At 32 pixels the files have
that size; at 224 they are as large as ImageNet's, and are cropped and resized. Memory has no workers. A figure is the
median over the repeats, in each of which all loaders have their turn; "scaling" is the ratio to one worker in the same
repeat. Processor milliseconds are those of one image in a process without workers. The networks: the static tiny
classifier at 32 pixels, the MobileNet-like x0.225 at 224.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import data
from benchmarks.conditions import conditions
from benchmarks.photographs import CLASSES, write_folder
from data import record_writers
from data.augmentation import PadCropFlip
from data.batches import Loader, Settings
from data.memory import MemoryLoader
from data.sources import MemoryImages
from data.steps import Place, Steps
from models.networks.mobilenetv1_like import MobileNetV1Like
from models.networks.neural_graph import StaticNeuralGraph

BATCH = {32: 128, 224: 32}
STREAMS = ("folder", "records")
NETWORKS: dict[int, tuple[str, Callable[[], nn.Module]]] = {
    32: ("static tiny classifier", lambda: StaticNeuralGraph(10, 32, "dnw", 0.95)),
    224: ("MobileNet-like x0.225", lambda: MobileNetV1Like(1000, 224, "dnw", 0.775)),
}


def write_sets(folder: Path, size: int, images: int) -> int:
    """Write the folder and the records of a size into `folder`; the mean size of a file in bytes."""
    size_of_file = write_folder(folder / "folder", images, size)
    record_writers.write_image_folders(folder / "folder", folder / "records", 4, processes=1)
    return size_of_file


def stream(folder: Path, kind: str, size: int, workers: int, device: torch.device) -> Loader:
    """The training loader of a folder or of records."""
    options: dict[str, Any] = {"image_size": size, "batch_size": BATCH[size], "workers": workers, "device": device}
    return data.load(kind, folder, **options).train


def memory(size: int, images: int, device: torch.device) -> Loader:
    """The training loader of random images in memory, cropped and flipped as CIFAR-10's are."""
    pixels = torch.randint(256, (images, 3, size, size), dtype=torch.uint8)
    held = MemoryImages(pixels, torch.arange(images) % CLASSES)
    constants = (torch.full((3, 1, 1), 0.5, device=device) for _ in range(2))
    settings = Settings(size, *constants, device=device, seed=0)
    steps = Steps(images, BATCH[size], Place(), training=True)
    return MemoryLoader(held, torch.arange(images), steps, settings, PadCropFlip(pad=size // 8, flip=True))


class Reading:
    """A loader, read on and on, so that its workers are never at rest between two turns.

    Args:
        loader: whose images are counted.
        device: that they come to.
    """

    def __init__(self, loader: Loader, device: torch.device) -> None:
        self._loader, self._device = loader, device

    def images_per_second(self, at_least: float) -> float:
        """Of whole epochs, in `at_least` seconds or more; the first batches, which workers start with, do not count."""
        images = 0
        batches = self._endless()
        for _ in range(min(3, len(self._loader))):
            next(batches)
        start = time.perf_counter()
        while time.perf_counter() - start < at_least or not images:
            images += len(next(batches).labels)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return images / (time.perf_counter() - start)

    def processor_milliseconds(self, at_least: float) -> float:
        """Of processor time an image, of a loader without workers: what other programs take does not count."""
        batches, images = self._endless(), 0
        next(batches)
        start = time.process_time()
        while time.process_time() - start < at_least or not images:
            images += len(next(batches).labels)
        return 1e3 * (time.process_time() - start) / images

    def _endless(self) -> Iterator[data.Batch]:
        epoch = 0
        while True:
            yield from self._loader.epoch(epoch)
            epoch += 1


def training_rate(size: int, device: torch.device, at_least: float) -> float:
    """Images a second that a network takes in training steps."""
    torch.manual_seed(0)
    network = NETWORKS[size][1]().to(device)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9)
    images = torch.randn(BATCH[size], 3, size, size, device=device)
    labels = torch.randint(10, (BATCH[size],), device=device)
    steps, start = -1, 0.0
    while steps < 1 or time.perf_counter() - start < at_least:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        steps += 1
        if steps == 0:  # the first one chooses algorithms, and does not count
            start = time.perf_counter()
    return steps * BATCH[size] / (time.perf_counter() - start)


def measure(size: int, images: int, workers: list[int], repeats: int, device: torch.device, s: float) -> dict[str, Any]:
    """Everything about one size: images a second by loader and workers, and of the network, for each repeat."""
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        file_bytes = write_sets(Path(place), size, images)
        for _ in range(repeats):
            turn: dict[str, Callable[[], float]] = {
                "memory": lambda: Reading(memory(size, images, device), device).images_per_second(s),
                "network": lambda: training_rate(size, device, s),
            }
            for kind in STREAMS:
                for number in workers:
                    turn[f"{kind} {number}"] = lambda kind=kind, number=number: Reading(
                        stream(Path(place), kind, size, number, device), device
                    ).images_per_second(s)
            for name, call in turn.items():
                rates.setdefault(name, []).append(call())
        costs = {k: Reading(stream(Path(place), k, size, 0, device), device).processor_milliseconds(s) for k in STREAMS}
    return {
        "size": size,
        "batch": BATCH[size],
        "file_bytes": file_bytes,
        "network": NETWORKS[size][0],
        "images_per_second": {name: statistics.median(values) for name, values in rates.items()},
        "processor_milliseconds": costs,
        "all": rates,
        "scaling": {
            kind: {
                str(n): statistics.median(a / b for a, b in zip(rates[f"{kind} {n}"], rates[f"{kind} 1"], strict=True))
                for n in workers
            }
            for kind in STREAMS
            if 1 in workers
        },
    }


def line(row: dict[str, Any]) -> str:
    """What is printed of a size."""
    cells = (f"{name}: {rate:,.0f}" for name, rate in row["images_per_second"].items())
    return f"{row['size']} pixels, images a second: " + ", ".join(cells)


def draw(results: dict[str, Any], path: Path) -> None:
    """A picture: images a second by workers, with the network's rate, one panel a size."""
    import matplotlib.pyplot as plt

    rows = results["sizes"]
    figure, panels = plt.subplots(1, len(rows), figsize=(4.2 * len(rows), 3.2), squeeze=False)
    for panel, row in zip(panels[0], rows, strict=True):
        rates = row["images_per_second"]
        for kind in STREAMS:
            points = sorted((int(name.split()[1]), rate) for name, rate in rates.items() if name.startswith(kind))
            panel.plot(*zip(*points, strict=True), marker="o", label=kind)
        panel.axhline(rates["network"], color="black", linestyle="--", label="the network, training")
        panel.set(title=f"{row['size']} pixels", xlabel="workers", ylabel="images a second", ylim=(0, None))
        panel.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", choices=BATCH, default=list(BATCH))
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--images", type=int, default=2000, help="of each data set")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement, at least")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="PNG or SVG file: images a second by workers")
    args = parser.parse_args()
    device = torch.device(args.device)
    results: dict[str, Any] = {"measured": conditions(), "cores": os.cpu_count()}
    results["sizes"] = []
    for size in args.sizes:
        row = measure(size, args.images, args.workers, args.repeats, device, args.seconds)
        results["sizes"].append(row)
        print(line(row), flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    if args.picture:
        draw(results, args.picture)


if __name__ == "__main__":
    main()
