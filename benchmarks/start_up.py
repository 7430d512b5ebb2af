"""Processor time of a profile and of an evaluation of the quickstart, against that of importing torch.

    python benchmarks/start_up.py [--repeats 7] [--json FILE]

The evaluated checkpoint is of one epoch. Every command runs once in each of the repeats, in turn, in a process of its
own; its time is that of the process, user and system together. A ratio is of two times of one turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.conditions import conditions

ROOT = Path(__file__).resolve().parents[1]
IMPORT = "import torch"
AIMS = {"profile": 1.5, "evaluate": 2.5}
"""Times of importing torch that a command may take."""


def commands(checkpoint: Path) -> dict[str, list[str]]:
    """What is measured: the words after python, by name."""
    return {
        IMPORT: ["-c", IMPORT],
        "profile": ["runner.py", "app:quickstart", "--profile"],
        "evaluate": ["runner.py", "--resume", str(checkpoint), "--evaluate"],
    }


def processor_seconds(words: Sequence[str]) -> float:
    """User and system time of Python with some words, from the folder of the runner. Raises where it fails."""
    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, stderr=told)
    return usage.ru_utime + usage.ru_stime


def measure(measured: Mapping[str, Sequence[str]], repeats: int) -> dict[str, Any]:
    """Seconds of every command, and the ratios of those that have an aim to `IMPORT`."""
    seconds: dict[str, list[float]] = {name: [] for name in measured}
    for turn in range(repeats + 1):
        for name, words in measured.items():
            taken = processor_seconds(words)
            if turn:  # before that, files are not cached
                seconds[name].append(taken)
    ratios = {name: [s / i for s, i in zip(seconds[name], seconds[IMPORT], strict=True)] for name in AIMS}
    return {
        "processor_seconds": seconds,
        "ratio": {
            name: {"median": statistics.median(r), "min": min(r), "max": max(r), "aim": AIMS[name]}
            for name, r in ratios.items()
        },
    }


def line(name: str, seconds: Sequence[float], ratio: Mapping[str, float] | None) -> str:
    """A row of the table."""
    told = f"{name:12} {statistics.median(seconds):5.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"
    if ratio is None:
        return told
    verdict = "reached" if ratio["median"] <= ratio["aim"] else "MISSED"
    spread = f"{ratio['median']:.2f} times ({ratio['min']:.2f} to {ratio['max']:.2f})"
    return f"{told}  {spread}, at most {ratio['aim']}: {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = ["--save_dir", f"{folder}/checkpoints", "--log_dir", f"{folder}/runs"]
        processor_seconds(["runner.py", "app:quickstart", "--num_epochs", "1", *places])
        found = measure(commands(Path(folder, "checkpoints", "quickstart", "last.pt")), args.repeats)
    for name, seconds in found["processor_seconds"].items():
        print(line(name, seconds, found["ratio"].get(name)))
    if args.json:
        args.json.write_text(json.dumps({"measured": conditions(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
