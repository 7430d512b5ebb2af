"""Options of the tests: the slow ones, and where real data and exact cases lie.

Slow tests run with --slow. Data from outside come from an option each or an environment variable; without, what needs
them is skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# before torch is loaded, for the processes that tests start too: threads that spin while they wait for one another slow
# each other down twentyfold where another program uses the cores
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # another process of tests works on each core
    os.environ.setdefault("OMP_NUM_THREADS", "1")

OUTSIDE = {
    "--real-data": ("NEURAL_WIRINGS_DATA", "a data directory with real cifar10, mnist and imagenette224"),
    "--reference": ("NEURAL_WIRINGS_REFERENCE", "exact cases: fill.py and cases/*.json"),
    "--keras-weights": ("NEURAL_WIRINGS_KERAS", "TensorFlow-2 checkpoints of CIFAR ResNets"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too; with -m slow, them alone")
    for option, (variable, what) in OUTSIDE.items():
        parser.addoption(option, default=os.environ.get(variable), metavar="DIR", help=f"{what} (or ${variable})")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: give --slow"))


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
