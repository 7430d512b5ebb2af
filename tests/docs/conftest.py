"""What the tests of the pages share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

TREE = (
    "runner.py",
    "pyproject.toml",
    "apps",
    "benchmarks",
    "data",
    "docs",
    "genutil",
    "models",
    "pretrained",
    "results",
)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A copy of what the commands use."""
    for name in TREE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path
