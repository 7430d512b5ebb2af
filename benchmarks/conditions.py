"""What a measurement ran on, noted in its results file under `measured`."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch


def conditions() -> dict[str, Any]:
    """This process: its command, the date, the processor and how many cores of it there are, torch, its threads."""
    return {
        "command": shlex.join(["python", *map(_without_folders, sys.orig_argv[1:])]),
        "date": datetime.date.today().isoformat(),
        "hardware": f"{processor()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _without_folders(word: str) -> str:
    """A word of the command line; of an absolute path its last part, for the rest says nothing elsewhere."""
    return Path(word).name if Path(word).is_absolute() else word
