"""Where the tests find real data and exact cases: each from an option or an environment variable, else they skip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

OUTSIDE = {
    "--real-data": ("NEURAL_WIRINGS_DATA", "a data directory with real cifar10, mnist and imagenette224"),
    "--reference": ("NEURAL_WIRINGS_REFERENCE", "exact cases: fill.py and cases/*.json"),
    "--keras-weights": ("NEURAL_WIRINGS_KERAS", "TensorFlow-2 checkpoints of CIFAR ResNets"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    for option, (variable, what) in OUTSIDE.items():
        parser.addoption(option, default=os.environ.get(variable), metavar="DIR", help=f"{what} (or ${variable})")


def _outside(request: pytest.FixtureRequest, option: str) -> Path:
    folder = request.config.getoption(option)
    variable, what = OUTSIDE[option]
    if not folder:
        pytest.skip(f"needs {what}: give {option} DIR or set {variable}")
    if not Path(folder).is_dir():
        pytest.fail(f"{option} {folder} is not a folder")
    return Path(folder)


@pytest.fixture(scope="session")
def real_data(request: pytest.FixtureRequest) -> Path:
    """A --data-dir with real cifar10/, mnist/ and imagenette224/."""
    return _outside(request, "--real-data")


@pytest.fixture(scope="session")
def reference(request: pytest.FixtureRequest) -> Path:
    """The folder of exact cases: fill.py and cases/*.json."""
    return _outside(request, "--reference")


@pytest.fixture(scope="session")
def keras_weights(request: pytest.FixtureRequest) -> Path:
    """The folder of TensorFlow-2 checkpoints of CIFAR ResNets."""
    return _outside(request, "--keras-weights")
