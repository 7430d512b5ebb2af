"""What a program runs on: the processor, the GPUs, the threads, torch's version, the commit of the code."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
CODE = ("runner.py", "apps", "data", "genutil", "models", "pretrained")
"""What decides the results of a run."""


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def commit(root: Path = ROOT) -> str | None:
    """The git commit of the code in `root`, with "+changes" where tracked code differs from it; None without git."""
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return None  # the repository is that of somebody who has installed this code inside it
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *CODE)
        return _git(root, "rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def machine(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """The machine and the software of a run.

    Args:
        device: that this process computes on.
        processes: of the run, on all machines; each has a GPU like this one's, where this one has one.

    Returns:
        `processor`, `cores`, `gpus` (names), `processes`, `threads` (of each process), `torch`, `commit`.
    """
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(device)] * processes if device.type == "cuda" else [],
        "processes": processes,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),  # a subclass of str, which a checkpoint could not hold
        "commit": commit(),
    }


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()
