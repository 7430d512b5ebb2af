"""What the engine native_half predicts on test images, beside the network itself and the engine native. No speeds.

    python benchmarks/half.py --resume pretrained:cifar10_static_dnw --data_dir D [--replaced] [--json FILE]

--replaced also takes the vectors of AVX512-FP16, and arithmetic of its precision, which the compiler replaces on other
processors: each product is rounded once more than there. These are neither that processor's exact numbers nor its
speed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.collect_weights import network_and_images
from benchmarks.conditions import conditions
from models.native.library import FLAGS
from models.sparse.compile import compile_graph
from models.sparse.engines import ENGINES
from models.sparse.native import load_kernel
from models.sparse.native_half import HalfGraph

REPLACED = ("-O0", *FLAGS[1:], "-DWIRINGS_HALF_LANES=32")
"""Flags for vectors and arithmetic of AVX512-FP16, which the compiler replaces where the processor has none; without
optimisation, for then it compiles in seconds."""


def engines(network: nn.Module, replaced: bool) -> dict[str, nn.Module]:
    """The engines by what they are called in the table."""
    computes = load_kernel(half=True).wirings_computes_in_half()
    here = "half precision" if computes else "float32, planes in half precision"
    found = {"float32": compile_graph(network, "native"), here: compile_graph(network, "native_half")}
    if replaced:
        entry = ENGINES["native_half"]
        make = partial(HalfGraph, flags=REPLACED)
        ENGINES["native_half"] = replace(entry, make=lambda graph, size, options: make(graph, size, options.threads))
        try:
            found["half precision, replaced by the compiler"] = compile_graph(network, "native_half")
        finally:
            ENGINES["native_half"] = entry
    return found


def measure(checkpoint: str, data_dir: str, replaced: bool) -> dict[str, Any]:
    network, batches = network_and_images(checkpoint, {"data_dir": data_dir, "verify": False, "gpus": []})
    compiled = engines(network, replaced)
    counts = {name: {"right": 0, "same": 0, "largest_difference": 0.0} for name in compiled}
    images = right = 0
    with torch.inference_mode():
        for batch in batches:
            expected = network(batch.images)
            images, right = images + len(batch.labels), right + int((expected.argmax(1) == batch.labels).sum())
            for name, engine in compiled.items():
                logits, count = engine(batch.images), counts[name]
                count["right"] += int((logits.argmax(1) == batch.labels).sum())
                count["same"] += int((logits.argmax(1) == expected.argmax(1)).sum())
                difference = ((logits - expected).abs().max() / expected.abs().max()).item()
                count["largest_difference"] = max(count["largest_difference"], difference)
    rows = [{"arithmetic": name, "top1": 100 * count.pop("right") / images, **count} for name, count in counts.items()]
    return {"network": checkpoint, "images": images, "top1": 100 * right / images, "rows": rows}


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resume", default="pretrained:cifar10_static_dnw")
    parser.add_argument("--data_dir", default="data-sets")
    parser.add_argument("--replaced", action="store_true", help="the arithmetic of AVX512-FP16 as well")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(words)
    found = measure(options.resume, options.data_dir, options.replaced)
    for row in found["rows"]:
        print(
            f"{row['arithmetic']}: top-1 {row['top1']:.2f} %, same prediction for {row['same']} of {found['images']} "
            f"images, largest difference {row['largest_difference']:.1e}"
        )
    if options.json:
        options.json.write_text(json.dumps({"measured": conditions(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
