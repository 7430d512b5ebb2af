"""Size and latency of a network in every form that it can be exported to.

    python benchmarks/exports.py [--checkpoint NAME=FILE ...] [--names NAME ...] [--repeats 9] [--json FILE]

The networks are the quickstart, the static classifier of arXiv 1906.00586 for CIFAR-10 and x225, with the published
numbers of live edges and nodes; the first two have the wiring that they start with where no checkpoint is given. A
latency is that of one image on one thread; every form is a process of its own, stopped while the others have their
turns: the checkpoint and .safetensors run in torch, .npz in the native engine, .onnx in ONNX Runtime, .pt2 in torch,
.c as gcc -O3 makes it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.compared_networks import published_wiring
from benchmarks.conditions import conditions
from benchmarks.engine_columns import Column
from benchmarks.turns import Call, Turns, summary
from genutil.build import build_network
from genutil.cli.export import load
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.saved.exports import formats
from genutil.saved.exports.content import Exported
from genutil.settings import app_files

EXPERIMENTS = {
    "quickstart": "quickstart",
    "static": "small_scale/static_dnw",
    "x225": "large_scale/mobilenetv1_dnw_x225",
}


@dataclass(frozen=True)
class Form:
    """A network in a file. Called, it makes the call that is timed, in a process of its own."""

    kind: str
    path: Path
    shape: tuple[int, int, int]
    memory: int = 0
    classes: int = 0

    def __call__(self) -> Call:
        torch.set_num_threads(1)
        if self.kind in (".npz", ".onnx"):
            return self._column({".npz": "native", ".onnx": "onnx"}[self.kind])
        images = torch.randn(1, *self.shape)
        if self.kind == ".c":
            return self._library(images.numpy())
        if self.kind == ".pt2":
            network: Callable = torch.export.load(self.path).module()
        else:
            network = torch.load(self.path, weights_only=False)
        return torch.inference_mode()(lambda: network(images))

    def _column(self, engine: str) -> Call:
        run = torch.inference_mode()(Column(engine, self.path, self.shape[1], 1, 1).load())
        images = torch.randn(1, *self.shape)
        return lambda: run(images)

    def _library(self, image: np.ndarray) -> Call:
        run = ctypes.CDLL(str(self.path)).network_run
        arrays = image, np.zeros(self.classes, np.float32), np.zeros(self.memory, np.float32)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in arrays]
        return lambda: (run(*pointers), arrays)[0]


def network_of(name: str, checkpoints: Mapping[str, str]) -> Exported:
    """A network, from its checkpoint or as it starts."""
    if name in checkpoints:
        return load(checkpoints[name], "network", [])
    experiment = Experiment.from_settings(app_files.read(app_files.find(EXPERIMENTS[name])).settings)
    network: nn.Module = published_wiring(name) if name == "x225" else build_network(experiment).eval()
    return Exported(experiment, network, "network")


def write_all(what: Exported, folder: Path) -> tuple[dict[str, Form], list[dict[str, Any]]]:
    """The forms that can be timed, and a row for every file with its bytes."""
    shape = what.experiment.in_channels, what.image_size, what.image_size
    whole = folder / "whole.pt"
    torch.save(what.network, whole)
    state = folder / "network.pt"
    torch.save(what.network.state_dict(), state)
    rows: list[dict[str, Any]] = [{"form": "weights, .pt", "bytes": state.stat().st_size}]
    forms = {"weights, .pt": Form(".pt", whole, shape)}
    for ending in formats.FORMATS:
        path = folder / f"network{ending}"
        try:
            rows.append({"form": ending, "bytes": formats.export(path, what)})
        except UserError as error:
            rows.append({"form": ending, "bytes": None, "refused": str(error)})
            continue
        if ending == ".c":
            forms[ending] = _program(folder, shape, rows[-1])
        elif ending in (".npz", ".onnx", ".pt2"):
            forms[ending] = Form(ending, path, shape)
    return forms, rows


def _program(folder: Path, shape: tuple[int, int, int], row: dict[str, Any]) -> Form:
    """The C program as a library; its flash and RAM go into its row."""
    source, library = folder / "network.c", folder / "network.so"
    text = source.read_text()
    memory, classes = (int(re.search(rf"_{name} (\d+)$", text, re.MULTILINE)[1]) for name in ("MEMORY", "CLASSES"))
    row["flash"], row["ram"] = int(re.search(r"Flash: (\d+)", text)[1]), 4 * memory
    words = ["gcc", "-O3", "-std=c99", "-DNO_MAIN", "-shared", "-fPIC", str(source), "-o", str(library), "-lm"]
    subprocess.run(words, check=True)
    return Form(".c", library, shape, memory, classes)


def measure(name: str, what: Exported, trained: bool, repeats: int) -> dict[str, Any]:
    """All forms of a network: bytes, and milliseconds of an image."""
    with tempfile.TemporaryDirectory() as folder:
        forms, rows = write_all(what, Path(folder))
        times: dict[str, list[float]] = {}
        with Turns(forms) as turns:
            for form, reason in turns.left_out.items():
                print(f"  {form} is left out: {reason}", file=sys.stderr)
            for _ in range(repeats):
                for form, seconds in turns.take().items():
                    times.setdefault(form, []).append(1e3 * seconds)
    for row in rows:
        if row["form"] in times:
            row["milliseconds"] = summary(times[row["form"]])
        print_row(name, row)
    return {"network": name, "image_size": what.image_size, "trained": trained, "forms": rows}


def print_row(name: str, row: Mapping[str, Any]) -> None:
    time_ = row.get("milliseconds")
    told = f"{time_['median']:9.3f} ms [{time_['low']:.3f}, {time_['high']:.3f}]" if time_ else ""
    size = "refused" if row["bytes"] is None else f"{row['bytes']:>12,} bytes"
    print(f"{name:<12}{row['form']:<20}{size} {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", nargs="+", default=[], metavar="NAME=FILE", help="trained networks to export")
    parser.add_argument("--names", nargs="+", default=list(EXPERIMENTS), choices=list(EXPERIMENTS))
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--disturbed", action="store_true", help="note that others worked on the machine meanwhile")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "exports.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    checkpoints = dict(entry.split("=", 1) for entry in args.checkpoint)
    networks = [measure(name, network_of(name, checkpoints), name in checkpoints, args.repeats) for name in args.names]
    results = {"measured": conditions(), "disturbed": args.disturbed, "networks": networks}
    args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
