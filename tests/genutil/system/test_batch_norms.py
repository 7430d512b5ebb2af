"""Batch norm over two processes is batch norm of the whole batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genutil.config import Experiment
from genutil.system.batch_norms import SyncBatchNorm2d, synchronise_batchnorm
from genutil.system.distributed import launch, make_fabric
from tests.genutil import processes


def test_synchronised_layers_stay_what_and_where_they_were() -> None:
    norm = nn.BatchNorm2d(3)
    network = nn.Sequential(nn.Conv2d(1, 3, 1), norm, nn.InstanceNorm2d(3), nn.Sequential(norm))
    names = list(network.state_dict())
    synchronise_batchnorm(network)
    assert network[1] is norm
    assert network[3][0] is norm
    assert type(norm) is SyncBatchNorm2d
    assert isinstance(norm, nn.BatchNorm2d)
    assert type(network[2]) is nn.InstanceNorm2d
    assert list(network.state_dict()) == names


@pytest.fixture(scope="module")
def parts() -> dict:
    """What each of two processes found for every layer."""
    return launch(make_fabric(Experiment(devices=2)), processes.pass_through_all)


@pytest.mark.parametrize("name", processes.LAYERS)
def test_batch_norm_over_processes_is_batch_norm_of_the_whole_batch(parts: dict, name: str) -> None:
    layer, batch = processes.layer_and_batch(name)
    whole = processes.pass_through(layer, batch, slice(None))
    found_by = parts[name]
    assert found_by[0].keys() == whole.keys()
    for key, expected in whole.items():
        if key in ("y", "x.grad", "evaluated"):
            found = torch.cat([part[key] for part in found_by])
        elif key.endswith(".grad"):
            found = found_by[0][key] + found_by[1][key]
        else:
            found = found_by[0][key]
            assert torch.equal(found, found_by[1][key])
        if key == "evaluated" and name == "without statistics":
            continue  # an evaluation without statistics is of each process's own images
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
