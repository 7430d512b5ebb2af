"""Checkpoints of others as objects: read when they are needed, and once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import pretrained
from models.networks.resnet import resnet
from models.wirings.wire import wire
from pretrained import catalogue, checkpoints, safe_pickle


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every file that is unpickled from here on."""
    seen: list[Path] = []
    load = safe_pickle.load
    monkeypatch.setattr(safe_pickle, "load", lambda path: seen.append(path) or load(path))
    return seen


def test_a_file_is_read_at_first_need_and_once(tmp_path: Path, loads: list[Path]) -> None:
    path = tmp_path / "resnet8.th"
    network = resnet(depth=8, shortcut="A_both")
    torch.save({"state_dict": network.state_dict()}, path)
    file = pretrained.StateFile(path)
    assert loads == []
    assert file.settings()["depth"] == 8
    assert torch.equal(file.weights(network)["conv1.weight"], network.conv1.weight)
    assert loads == [path]


def test_contents_that_are_known_need_no_file(tmp_path: Path, loads: list[Path]) -> None:
    network = nn.Linear(2, 3)
    file = pretrained.StateFile(tmp_path / "absent.pt", {"model": network.state_dict(), "epoch": 3})
    assert file.settings() == {}
    assert file.weights(network).keys() == {"weight", "bias"}
    assert loads == []


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"model": {"state_dict": s}}])
def test_weights_are_found_under_the_usual_keys_and_prefixes(tmp_path: Path, wrap) -> None:
    state = {f"module.{name}": value for name, value in nn.Linear(2, 3).state_dict().items()}
    weights = pretrained.StateFile(tmp_path / "a.pt", wrap({**state, "epoch": 7})).weights(nn.Linear(2, 3))
    assert weights.keys() == {"weight", "bias"}


@pytest.mark.parametrize("contents", [{"epoch": 3}, [1, 2], {"model": {}}, "text"])
def test_what_holds_no_weights_is_refused(tmp_path: Path, contents: object) -> None:
    file = pretrained.StateFile(tmp_path / "a.pt", contents)
    assert file.settings() == {}
    with pytest.raises(ValueError, match=r"a\.pt holds no weights of a network\."):
        file.weights(nn.Linear(2, 3))


def test_a_published_network_is_fetched_when_its_weights_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Linear(2, 3)
    torch.save({"model": network.state_dict()}, tmp_path / "dnw_x225.pt")
    fetched: list[str] = []
    monkeypatch.setattr(catalogue, "fetch", lambda entry: fetched.append(entry.name) or tmp_path / f"{entry.name}.pt")
    published = pretrained.open_named("pretrained:dnw_x225")
    assert published.app == "large_scale/mobilenetv1_dnw_x225"
    assert published.settings() == {}
    assert fetched == []
    for _ in range(2):
        assert torch.equal(published.weights(network)["weight"], network.weight)
    assert fetched == ["dnw_x225"]


def test_a_keras_checkpoint_is_read_once(
    tmp_path: Path, writer: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = resnet(depth=8, shortcut="A", padding="same_tensorflow")
    read: list[Path] = []
    foreign = SimpleNamespace(network=network, model="resnet", arguments={"depth": 8}, mean=(0.5,), std=(0.2,))
    monkeypatch.setattr(checkpoints.keras_cifar_resnets, "load", lambda prefix: read.append(prefix) or foreign)
    keras = pretrained.open_named(f"keras:{tmp_path}/net")
    assert read == []
    assert keras.settings() == {"model": "resnet", "depth": 8, "mean": [0.5], "std": [0.2]}
    wired = wire(resnet(depth=8, shortcut="A", padding="same_tensorflow"), "dnw", 0.5)
    wired.load_state_dict(keras.weights(wired))
    assert read == [tmp_path / "net"]


def test_names_and_paths_are_told_apart() -> None:
    assert pretrained.open_named("runs/keras.pt") is None
    with pytest.raises(ValueError, match="did you mean dnw_x225"):
        pretrained.open_named("pretrained:dnw_x25")
