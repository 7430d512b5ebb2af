"""Engines on the real test images of a checkpoint: how many a second, and whether each predicts what the network does.

    python benchmarks/real_images.py [--resume CHECKPOINT] [--engines NAME ...] [--data_dir DIR] [--json FILE]

Each is an evaluation of its own by runner.py, on one thread; an engine that needs a package which is not there is left
out. Images a second are those of the engine, and of the network beside it on the same images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.conditions import conditions
from models.sparse.engines import ENGINES

RUNNER = Path(__file__).resolve().parents[1] / "runner.py"


def evaluate(checkpoint: str, engine: str, data_dir: str) -> dict[str, Any] | None:
    """A row of the table; None, with the reason on standard error, where the evaluation fails."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        words = ["--resume", checkpoint, "--evaluate", "--fast_eval", "--engine", engine, "--threads", "1"]
        places = ["--gpus", "[]", "--data_dir", data_dir, "--verify", "false", "--json", str(found)]
        done = subprocess.run([sys.executable, RUNNER, *words, *places], stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            return None
        result = json.loads(found.read_text())
    compared = result["fast_eval"]
    return {
        "images": result["images"],
        "engine": engine,
        "top1": result["top1"],
        "same_predictions": compared["same_predictions"],
        "engine_images_per_second": round(compared["images_per_second"]),
        "network_images_per_second": round(compared["network_images_per_second"]),
        "near_ties": compared["near_ties"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resume", default="pretrained:cifar10_static_dnw", metavar="CHECKPOINT")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="NAME")
    parser.add_argument("--data_dir", default="data-sets")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for engine in options.engines:
        row = evaluate(options.resume, engine, options.data_dir)
        if row is not None:
            rows.append(row)
            print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if not rows:
        raise SystemExit("No evaluation succeeded.")
    if options.json:
        found = {"measured": {**conditions(), "threads": 1}, "network": options.resume, "rows": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
