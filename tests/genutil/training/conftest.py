from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from genutil.run import run
from tests.genutil.runs import weights
from tests.genutil.training.killed_runs import quick


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three epochs that came to its end."""
    folder = tmp_path_factory.mktemp("trained")
    return Path(run(quick(folder, num_epochs=3, checkpoint_interval=1))["checkpoint"]).parent


@pytest.fixture
def killed(trained: Path, tmp_path: Path) -> Path:
    """The folder of the same run, killed behind its second epoch."""
    folder = tmp_path / "checkpoints" / "tiny"
    shutil.copytree(trained, folder)
    (folder / "epoch_3.pt").unlink()
    shutil.copy(folder / "epoch_2.pt", folder / "last.pt")
    shutil.copy(folder / "epoch_1.pt", folder / "best.pt")
    return folder


@pytest.fixture
def whole(trained: Path) -> dict:
    """The weights of the run that nobody killed."""
    return weights(trained / "last.pt")
