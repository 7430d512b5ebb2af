"""What a checkpoint gives, by whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

import pretrained
from genutil.errors import UserError
from genutil.saved.source import ForeignSource, OwnCheckpoint, open_source
from genutil.settings import app_files
from models.networks.resnet import resnet
from tests.genutil.parts import SmallNet, saved


@pytest.fixture
def own(tmp_path: Path) -> Path:
    graphs = ["0 1\n", "0 1\n"]
    return saved(tmp_path / "last.pt", Fabric(accelerator="cpu", devices=1), stage_graphs=graphs)


def test_a_checkpoint_of_ours_gives_everything(own: Path) -> None:
    source = open_source(own)
    assert isinstance(source, OwnCheckpoint)
    assert str(source) == str(own)
    assert source.settings()["lr"] == 0.1
    assert source.network_settings() == {}
    assert source.stage_graphs() == ["0 1\n", "0 1\n"]
    assert source.training_state()["progress"] == {"epoch": 3}
    network = SmallNet()
    assert source.weights(network).keys() == network.state_dict().keys()


def test_a_file_of_others_gives_weights_and_their_networks_arguments(tmp_path: Path) -> None:
    network = resnet(depth=8, shortcut="A_both", classes=7)
    path = tmp_path / "resnet8.th"
    torch.save({"state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}}, path)
    source = open_source(path)
    assert isinstance(source, ForeignSource)
    brought = source.network_settings()
    assert (brought["model"], brought["depth"], brought["shortcut"]) == ("resnet", 8, "A_both")
    weights = source.weights(resnet(depth=8, shortcut="A_both", classes=7))
    assert torch.equal(weights["linear.weight"], network.linear.weight)
    assert source.stage_graphs() == []
    with pytest.raises(UserError, match=r"resnet8\.th holds no settings of its own; name its experiment as well"):
        source.settings()
    with pytest.raises(UserError, match=r"training cannot go on from it.*--evaluate.*--init_from"):
        source.training_state()


def test_a_published_network_names_its_experiment_before_it_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretrained.catalogue.fetch", lambda _: pytest.fail("nothing is needed of the file"))
    settings = open_source("pretrained:dnw_x225").settings()
    assert settings == app_files.read(app_files.find("large_scale/mobilenetv1_dnw_x225")).settings


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("pretrained:dnw_x25", r"no published network 'dnw_x25'; did you mean dnw_x225\?"),
        ("absent.pt", r"There is no checkpoint absent\.pt\."),
    ],
)
def test_a_source_that_is_not_there_is_told(name: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        open_source(name)


def test_what_a_reader_refuses_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    source = open_source(f"keras:{tmp_path}/absent")
    for ask in (source.network_settings, lambda: source.weights(SmallNet())):
        with pytest.raises(UserError, match="There is no TensorFlow checkpoint"):
            ask()
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(UserError, match=r"empty\.pt holds no weights of a network\."):
        open_source(tmp_path / "empty.pt").weights(SmallNet())


def test_every_kind_of_name_is_known_in_one_table() -> None:
    assert pretrained.open_named("checkpoints/last.pt") is None
    assert list(pretrained.NAMED) == ["pretrained:", "keras:"]
