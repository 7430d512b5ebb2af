"""Files of others in the forms that training programs give them: the weights are found, and it is said how."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
import pretrained
from genutil.config import Experiment
from genutil.run import run
from models.networks.resnet import resnet
from models.networks.vgg import VGG
from pretrained import states


def small(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def same(found: dict[str, Any], network: nn.Module) -> bool:
    state = network.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[name], value) for name, value in state.items())


PREFIXES = [prefix for n in range(4) for prefix in itertools.permutations(("module.", "_orig_mod.", "model."), n)]


@pytest.mark.parametrize("prefix", PREFIXES, ids="".join)
def test_prefixes_are_taken_away_in_any_order(prefix: tuple[str, ...]):
    state = {"".join(prefix) + name: value for name, value in small().state_dict().items()}
    found = states.find({**state, "epoch": 7})
    assert found is not None
    assert same(found.entries, small())
    assert sorted(found.prefixes) == sorted(prefix)


@pytest.mark.parametrize("key", states.WRAPPERS)
def test_weights_are_found_under_the_usual_keys(key: str, tmp_path: Path):
    file = pretrained.StateFile(tmp_path / "a.pt", {key: small().state_dict(), "epoch": 3, "optimizer": {"state": {}}})
    assert same(file.weights(small(1)), small())
    assert file.understood(small()) == f"a.pt was read as: the weights under {key}."


def test_keys_lie_within_one_another_and_averaged_weights_come_first(tmp_path: Path):
    contents = {"model": {"state_dict": {f"module.{k}": v for k, v in small().state_dict().items()}}}
    file = pretrained.StateFile(tmp_path / "a.pt", contents)
    assert same(file.weights(small(1)), small())
    assert (
        file.understood(small()) == "a.pt was read as: the weights under model / state_dict, names without 'module.'."
    )
    found = states.find({"state_dict": small(1).state_dict(), "state_dict_ema": small(2).state_dict()})
    assert found is not None
    assert same(found.entries, small(2))
    assert found.keys == ("state_dict_ema",)


def test_parts_that_were_compiled_alone_lose_their_prefix():
    state = {name.replace("1.", "1._orig_mod."): value for name, value in small().state_dict().items()}
    found = states.find(state)
    assert found is not None
    assert same(found.entries, small())


def test_a_prefix_stays_where_two_names_would_become_one():
    found = states.find({"module.weight": torch.ones(1), "weight": torch.zeros(1)})
    assert found is not None
    assert found.entries.keys() == {"module.weight", "weight"}


def test_what_holds_itself_or_no_weights_is_none():
    loop: dict[str, Any] = {}
    loop["model"] = {"state_dict": loop}
    for contents in (loop, {}, None, "text", {"model": {"weight": 3}}, {"state_dict": [torch.ones(1)]}):
        assert states.find(contents) is None


def of_pytorch_0_4(network: nn.Module) -> dict[str, Tensor]:
    """The state as PyTorch before 0.4.1 wrote it: batch norms without the counter of batches; in DataParallel."""
    return {f"module.{name}": value for name, value in network.state_dict().items() if "num_batches" not in name}


@pytest.mark.parametrize("depth", [20, 56])
def test_files_as_akamaster_published_them_are_read(depth: int, tmp_path: Path):
    torch.manual_seed(0)
    network = resnet(depth=depth, shortcut="A_both")
    path = tmp_path / f"resnet{depth}.th"
    torch.save({"state_dict": of_pytorch_0_4(network), "best_prec1": 91.73}, path, _use_new_zipfile_serialization=False)
    file = pretrained.StateFile(path)
    settings = file.settings()
    assert (settings["depth"], settings["shortcut"], settings["mean"]) == (depth, "A_both", [0.485, 0.456, 0.406])
    own = resnet(depth=depth, shortcut="A_both")
    own.load_state_dict(file.weights(own))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(own.eval()(images), network.eval()(images))
    told = file.understood(own)
    assert told is not None
    assert "under state_dict, names without 'module.'; batch norms that counted no batches (PyTorch 0.4)." in told


@pytest.mark.parametrize("name", ["vgg", "mobilenetv1", "shufflenetv2", "imagenet_resnet"])
def test_old_files_of_other_networks_are_read_likewise(name: str, tmp_path: Path):
    own_arguments = {"vgg": {"depth": 11}, "shufflenetv2": {"width_mult": 0.5}, "mobilenetv1": {"image_size": 32}}
    arguments: dict[str, Any] = own_arguments.get(name, {})
    network, own = (models.build_network(name, classes=10, **arguments) for _ in range(2))
    own.load_state_dict(pretrained.StateFile(tmp_path / "a.pt", of_pytorch_0_4(network)).weights(own))
    assert torch.equal(next(own.parameters()), next(network.parameters()))


def test_a_file_that_lacks_some_counters_is_damaged():
    state = VGG(depth=11).state_dict()
    del state["features.1.num_batches_tracked"]
    completed, counted = states.with_counters(state, VGG(depth=11))
    assert "features.1.num_batches_tracked" not in completed
    assert not counted


STATIC = {"dim": 60, "downsample_dim": 12, "feature_dim": 12, "layers": 4, "image_size": 16, "in_channels": 1}


@pytest.mark.parametrize("wiring", ["dnw", "random"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_bare_state_of_an_own_wired_network_is_none_of_2019(
    wiring: str, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    torch.manual_seed(1)
    network = models.build_network("static", classes=10, wiring=wiring, prune_rate=0.7, **STATIC)
    path = tmp_path / "bare.pt"
    torch.save({f"{prefix}{name}": value for name, value in network.state_dict().items()}, path)
    other = models.build_network("static", classes=10, wiring=wiring, prune_rate=0.7, **STATIC)
    other.load_state_dict(pretrained.StateFile(path).weights(other))
    images = torch.randn(2, 1, 16, 16)
    assert torch.equal(other.eval()(images), network.eval()(images))
    settings = {"model": "static", "wiring": wiring, "prune_rate": 0.7, "gpus": [], "threads": 1, **STATIC}
    run(Experiment.from_settings({**settings, "resume": str(path), "evaluate": True, "only_batches": 1}))
    assert "bare.pt was read as: " in (out := capsys.readouterr().out)
    assert "a wired network of this program." in out
