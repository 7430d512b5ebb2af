from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from genutil.errors import UserError
from genutil.saved import loading
from genutil.saved.source import open_source
from tests.genutil.parts import SmallNet, saved


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def test_everything_comes_back(tmp_path: Path, fabric: Fabric) -> None:
    torch.manual_seed(0)
    network = SmallNet()
    path = saved(tmp_path / "last.pt", fabric, network)
    other = SmallNet()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.5, momentum=0.8, weight_decay=0.01)
    assert loading.resume(open_source(path), fabric, other, optimizer) == {"epoch": 3}
    for name, value in network.state_dict().items():
        assert name.endswith("_extra_state") or torch.equal(value, other.state_dict()[name])
    momenta = [state["momentum_buffer"] for state in optimizer.state.values()]
    assert all(torch.equal(m, p.grad) for m, p in zip(momenta, network.parameters(), strict=True))
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.8, 0.01)


def test_what_differs_is_told(tmp_path: Path, fabric: Fabric) -> None:
    path = saved(tmp_path / "last.pt", fabric)
    network = SmallNet(classes=7)
    network.norm = nn.Identity()
    network.extra = nn.Linear(2, 2)
    with pytest.raises(UserError) as raised:
        loading.load_weights(open_source(path), network)
    assert str(raised.value) == (
        f"{path} does not fit the network: 2 entries are missing (extra.weight, extra.bias); "
        "5 entries are unexpected (norm.weight, norm.bias, norm.running_mean, …); "
        "2 entries are of another shape (linear.weight is [4, 16] there and [7, 16] here, "
        "linear.bias is [4] there and [7] here)."
    )


def test_a_mismatch_changes_nothing(tmp_path: Path, fabric: Fabric) -> None:
    path = saved(tmp_path / "last.pt", fabric)
    network = SmallNet(classes=7)
    before = network.conv.weight.clone()
    with pytest.raises(UserError):
        loading.load_weights(open_source(path), network)
    assert torch.equal(network.conv.weight, before)


def test_another_number_of_classes_starts_a_fresh_classifier(tmp_path: Path, fabric: Fabric) -> None:
    source = SmallNet()
    path = saved(tmp_path / "last.pt", fabric, source)
    network = SmallNet(classes=7)
    own = network.linear.weight.clone()
    fresh = loading.start_from(open_source(path), network, lambda: {"linear.weight", "linear.bias"})
    assert fresh == ["linear.weight", "linear.bias"]
    assert torch.equal(network.linear.weight, own)
    assert torch.equal(network.graph.weight, source.graph.weight)
    assert torch.equal(network.norm.running_mean, source.norm.running_mean)


def test_the_same_number_of_classes_takes_the_classifier_too(tmp_path: Path, fabric: Fabric) -> None:
    source = SmallNet()
    path = saved(tmp_path / "last.pt", fabric, source)
    network = SmallNet()
    assert loading.start_from(open_source(path), network, lambda: pytest.fail("nothing differs")) == []
    assert torch.equal(network.linear.weight, source.linear.weight)


def test_a_complete_networks_weights_start_a_wired_one(tmp_path: Path, fabric: Fabric) -> None:
    source = SmallNet(wiring="complete")
    path = saved(tmp_path / "last.pt", fabric, source)
    network = SmallNet(wiring="dnw")
    loading.start_from(open_source(path), network, set)
    assert torch.equal(network.graph.weight, source.graph.weight)
    assert network.graph.acting().sum() == network.graph.wiring.kept


def test_any_other_difference_is_an_error(tmp_path: Path, fabric: Fabric) -> None:
    path = saved(tmp_path / "last.pt", fabric)
    network = SmallNet()
    network.conv = nn.Conv2d(3, 8, 3)
    with pytest.raises(UserError, match=r"conv\.weight is \[8, 1, 3, 3\] there and \[8, 3, 3, 3\] here"):
        loading.start_from(open_source(path), network, lambda: {"linear.weight", "linear.bias"})


def test_entries_to_keep_stay(tmp_path: Path, fabric: Fabric) -> None:
    source = SmallNet(wiring="complete")
    path = saved(tmp_path / "last.pt", fabric, source)
    network = SmallNet(wiring="fine_tune")
    mask = network.graph.wiring.mask.clone()
    loading.load_weights(open_source(path), network, keep=["graph.wiring.mask"])
    assert torch.equal(network.graph.wiring.mask, mask)
    assert torch.equal(network.graph.weight, source.graph.weight)


def test_an_optimizer_of_other_groups_is_told(tmp_path: Path, fabric: Fabric) -> None:
    path = saved(tmp_path / "last.pt", fabric)
    network = SmallNet()
    groups = [{"params": [p]} for p in network.parameters()]
    with pytest.raises(UserError, match=r"optimizer of .* does not fit"):
        loading.resume(open_source(path), fabric, network, torch.optim.SGD(groups, lr=0.1, momentum=0.9))


def test_a_source_is_not_changed_by_the_training_that_goes_on_from_it(tmp_path: Path, fabric: Fabric) -> None:
    source = open_source(saved(tmp_path / "last.pt", fabric))
    before = [state["momentum_buffer"].clone() for state in source.training_state()["optimizer"]["state"].values()]
    network = SmallNet()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.8)
    progress = loading.resume(source, fabric, network, optimizer)
    progress["epoch"] = 9
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    after = source.training_state()
    assert after["progress"] == {"epoch": 3}
    buffers = [state["momentum_buffer"] for state in after["optimizer"]["state"].values()]
    assert all(torch.equal(one, other) for one, other in zip(before, buffers, strict=True))
