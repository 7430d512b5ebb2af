"""Runs of a second, and what is done to their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genutil.config import Experiment
from tests.genutil.runs import tiny

QUICK = {"skip_profiling": True, "only_batches": 2}


def quick(folder: Path, **settings: Any) -> Experiment:
    return tiny(folder, **QUICK, **settings)


def damage(path: Path) -> None:
    """Cut a file off."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.parent.iterdir()}
