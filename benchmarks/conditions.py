"""What a measurement ran on, noted in its results file under `measured`."""

from __future__ import annotations

import datetime
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from genutil.system.conditions import processor


def conditions() -> dict[str, Any]:
    """This process: its command, the date, the processor, its cores, the vectors that torch uses, torch, threads."""
    return {
        "command": shlex.join(["python", *map(_without_folders, sys.orig_argv[1:])]),
        "date": datetime.date.today().isoformat(),
        "hardware": f"{processor()}, {os.cpu_count()} cores ({torch.backends.cpu.get_cpu_capability()})",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def _without_folders(word: str) -> str:
    """A word of the command line; of an absolute path its last part, for the rest says nothing elsewhere."""
    return Path(word).name if Path(word).is_absolute() else word
