from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from genutil.errors import UserError
from genutil.saved import checkpoints
from tests.genutil.parts import SmallNet


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def saved(path: Path, fabric: Fabric, network: nn.Module | None = None, **settings) -> Path:
    network = network or SmallNet()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    checkpoints.save(path, fabric, network, optimizer, {"epoch": 3}, {"lr": 0.1, **settings})
    return path


def test_a_checkpoint_needs_no_code_to_be_read(tmp_path: Path, fabric: Fabric) -> None:
    path = saved(tmp_path / "last.pt", fabric, gpus=[0], name=None)
    contents = torch.load(path, weights_only=True)
    assert contents["settings"] == {"lr": 0.1, "gpus": [0], "name": None}
    assert checkpoints.read_settings(path) == contents["settings"]


def test_everything_comes_back(tmp_path: Path, fabric: Fabric) -> None:
    torch.manual_seed(0)
    network = SmallNet()
    path = saved(tmp_path / "last.pt", fabric, network)
    other = SmallNet()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.5, momentum=0.8, weight_decay=0.01)
    assert checkpoints.resume(path, fabric, other, optimizer) == {"epoch": 3}
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
        checkpoints.load_weights(path, network)
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
        checkpoints.load_weights(path, network)
    assert torch.equal(network.conv.weight, before)


def test_another_number_of_classes_starts_a_fresh_classifier(tmp_path: Path, fabric: Fabric) -> None:
    source = SmallNet()
    path = saved(tmp_path / "last.pt", fabric, source)
    network = SmallNet(classes=7)
    own = network.linear.weight.clone()
    fresh = checkpoints.start_from(path, network, lambda: {"linear.weight", "linear.bias"})
    assert fresh == ["linear.weight", "linear.bias"]
    assert torch.equal(network.linear.weight, own)
    assert torch.equal(network.graph.weight, source.graph.weight)
    assert torch.equal(network.norm.running_mean, source.norm.running_mean)


def test_the_same_number_of_classes_takes_the_classifier_too(tmp_path: Path, fabric: Fabric) -> None:
    source = SmallNet()
    path = saved(tmp_path / "last.pt", fabric, source)
    network = SmallNet()
    assert checkpoints.start_from(path, network, lambda: pytest.fail("nothing differs")) == []
    assert torch.equal(network.linear.weight, source.linear.weight)


def test_a_complete_networks_weights_start_a_wired_one(tmp_path: Path, fabric: Fabric) -> None:
    source = SmallNet(graph="complete")
    path = saved(tmp_path / "last.pt", fabric, source)
    network = SmallNet(graph="dnw")
    checkpoints.start_from(path, network, set)
    assert torch.equal(network.graph.weight, source.graph.weight)
    assert network.graph.acting().sum() == network.graph.wiring.kept


def test_any_other_difference_is_an_error(tmp_path: Path, fabric: Fabric) -> None:
    path = saved(tmp_path / "last.pt", fabric)
    network = SmallNet()
    network.conv = nn.Conv2d(3, 8, 3)
    with pytest.raises(UserError, match=r"conv\.weight is \[8, 1, 3, 3\] there and \[8, 3, 3, 3\] here"):
        checkpoints.start_from(path, network, lambda: {"linear.weight", "linear.bias"})


def test_entries_to_keep_stay(tmp_path: Path, fabric: Fabric) -> None:
    source = SmallNet(graph="complete")
    path = saved(tmp_path / "last.pt", fabric, source)
    network = SmallNet(graph="fine_tune")
    mask = network.graph.wiring.mask.clone()
    checkpoints.load_weights(path, network, keep=["graph.wiring.mask"])
    assert torch.equal(network.graph.wiring.mask, mask)
    assert torch.equal(network.graph.weight, source.graph.weight)


def test_missing_files_are_told(tmp_path: Path) -> None:
    for read in (checkpoints.read, checkpoints.read_settings):
        with pytest.raises(UserError, match=r"There is no checkpoint .*absent\.pt"):
            read(tmp_path / "absent.pt")
        with pytest.raises(UserError, match="There is no checkpoint"):
            read(tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 1000, -10])
def test_files_that_are_cut_off_are_told(tmp_path: Path, fabric: Fabric, kept: int) -> None:
    path = saved(tmp_path / "last.pt", fabric)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"last\.pt"):
        checkpoints.read(path)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    trap = Trap(tmp_path / "sprung")
    torch.save({"format": checkpoints.FORMAT, "version": 1, "settings": trap}, path)
    assert checkpoints.read_settings(path) is None
    with pytest.raises(UserError, match="no checkpoint of this program"):
        checkpoints.read(path)
    path.write_bytes(pickle.dumps(trap, protocol=2))
    assert checkpoints.read_settings(path) is None
    assert not trap.path.exists()


def test_foreign_checkpoints_have_no_settings_and_cannot_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    torch.save({"model": SmallNet().state_dict(), "last_epoch": 3}, path)
    assert checkpoints.read_settings(path) is None
    assert checkpoints.read_settings("pretrained:dnw_x225") is None
    with pytest.raises(UserError, match=r"training cannot go on from it.*--evaluate.*--init_from"):
        checkpoints.read(path)


def test_a_later_format_is_told(tmp_path: Path) -> None:
    path = tmp_path / "later.pt"
    torch.save({"format": checkpoints.FORMAT, "version": 99}, path)
    with pytest.raises(UserError, match="later version of this program"):
        checkpoints.read(path)


def test_an_optimizer_of_other_groups_is_told(tmp_path: Path, fabric: Fabric) -> None:
    path = saved(tmp_path / "last.pt", fabric)
    network = SmallNet()
    groups = [{"params": [p]} for p in network.parameters()]
    with pytest.raises(UserError, match=r"optimizer of .* does not fit"):
        checkpoints.resume(path, fabric, network, torch.optim.SGD(groups, lr=0.1))
