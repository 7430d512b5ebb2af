from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file

from genutil.build import build_network
from genutil.cli.export import load as load_export
from genutil.config import Experiment
from genutil.errors import UserError
from genutil.saved.exports import weights
from genutil.saved.exports.content import Exported
from genutil.saved.source import open_source
from models.wirings.graph import graphs
from models.wirings.registry import WIRINGS
from tests.genutil.saved.exports.checkpoints_made import KINDS, SMALL, exported, images
from tests.models.sparse.networks import shake


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_there(kind: str):
    what = exported(kind)
    found = load(weights.write(what))
    state = {name: value for name, value in what.network.state_dict().items() if isinstance(value, torch.Tensor)}
    assert found.keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in found.items())


@pytest.mark.parametrize("kind", ["static", "wired_resnet", "randwire_dnw"])
def test_a_run_goes_on_from_the_file_as_from_a_checkpoint(kind: str, tmp_path: Path):
    what = exported(kind)
    path = tmp_path / "network.safetensors"
    path.write_bytes(weights.write(what))
    back = load_export(str(path), "again", [])
    settings = back.experiment.to_saved()
    assert settings.pop("stage_graphs") or kind != "randwire_dnw"
    assert settings == {key: value for key, value in what.experiment.to_saved().items() if key != "stage_graphs"}
    with torch.no_grad():
        assert torch.equal(back.network(images(3)), what.network(images(3)))
    assert weights.write(back) == weights.write(back)


@pytest.mark.parametrize("kind", ["static", "wired_resnet", "randwire_dnw", "mobilenetv1_like", "randwire"])
def test_without_idle_edges_the_network_is_the_same(kind: str, tmp_path: Path):
    what = exported(kind)
    assert_same_without_idle_edges(what, tmp_path / "network.safetensors")


@pytest.mark.parametrize("model", ["static", "resnet"])
@pytest.mark.parametrize("rule", [rule for rule in WIRINGS if rule != "complete"])
def test_every_rule_can_do_without_idle_edges(rule: str, model: str, tmp_path: Path):
    own = {"use_graph": "trained.pt"} if rule == "fine_tune" else {}
    experiment = Experiment.from_settings({**SMALL, **KINDS[model], "wiring": rule, "prune_rate": 0.8, **own})
    network = shake(build_network(experiment), seed=4)
    assert_same_without_idle_edges(Exported(experiment, network.eval(), rule), tmp_path / "network.safetensors")


@torch.no_grad()
def assert_same_without_idle_edges(what: Exported, path: Path) -> None:
    """That a file of acting edges gives the same network, with 0 where edges are idle, and is smaller."""
    path.write_bytes(weights.write(replace(what, acting_only=True)))
    back = copy.deepcopy(what.network)
    for value in back.state_dict().values():
        if isinstance(value, torch.Tensor) and (value.is_floating_point() or value.dtype == torch.bool):
            value.zero_()
    back.load_state_dict(weights.read(path).state)
    idle = 0
    for (_, one), (_, other) in zip(graphs(what.network), graphs(back), strict=True):
        acting = one.acting()
        idle += int((~acting).count_nonzero())
        assert torch.equal(one.matrix(), other.matrix())
        assert torch.equal(one.weight[acting], other.weight[acting])
        assert not other.weight[~acting].any()
    assert torch.equal(back.eval()(images(3)), what.network(images(3)))
    assert path.stat().st_size < len(weights.write(what)) or not idle


@pytest.mark.parametrize("spoil", ["short mask", "mask of others", "no mask", "no sizes", "negative sizes"])
def test_a_damaged_mask_is_told(spoil: str, tmp_path: Path):
    path = tmp_path / "network.safetensors"
    path.write_bytes(weights.write(replace(exported("static"), acting_only=True)))
    with safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()[weights.KEY])
    (name,) = described["acting"]
    tensors = load_file(path)
    mask = f"{name}{weights.ACTING}"
    if spoil == "short mask":
        tensors[mask] = tensors[mask][:-1]
    elif spoil == "mask of others":
        tensors[mask] = tensors[mask].roll(1) | 1
    elif spoil == "no mask":
        del tensors[mask]
    elif spoil == "no sizes":
        described["acting"] = [name]
    else:
        described["acting"][name] = [-1, -len(tensors[mask]) * 8]
    save_file(tensors, path, {weights.KEY: json.dumps(described)})
    with pytest.raises(UserError, match="is damaged, or no checkpoint"):
        open_source(path)


def test_training_cannot_go_on_from_it(tmp_path: Path):
    path = tmp_path / "network.safetensors"
    path.write_bytes(weights.write(exported("static")))
    with pytest.raises(UserError, match="training cannot go on from it"):
        open_source(path).training_state()


def test_weights_of_another_program_need_their_experiment(tmp_path: Path):
    network = exported("resnet").network
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, tmp_path / "a.safetensors")
    torch.save(network.state_dict(), tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds no settings of its own"):
        load_export(str(tmp_path / "a.safetensors"), "any", [])
    words = ["app:cifar/resnet20_v1", "--depth", "8"]
    first, second = (load_export(str(tmp_path / name), "any", words).network for name in ("a.safetensors", "a.pt"))
    with torch.no_grad():
        assert torch.equal(first(images(3)), second(images(3)))
    assert torch.equal(first.conv1.weight, network.conv1.weight)


def test_a_file_of_a_later_version_is_told(tmp_path: Path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {weights.KEY: '{"format": 3}'})
    with pytest.raises(UserError, match="later version"):
        open_source(tmp_path / "a.safetensors")


@pytest.mark.parametrize("spoil", ["cut", "text", "no settings", "absent"])
def test_a_damaged_file_is_told(spoil: str, tmp_path: Path):
    path = tmp_path / "network.safetensors"
    contents = weights.write(exported("static"))
    if spoil == "cut":
        path.write_bytes(contents[:-9])
    elif spoil == "text":
        path.write_bytes(b"weights")
    elif spoil == "no settings":
        save_file({"a": torch.zeros(1)}, path, {weights.KEY: '{"format": 1}'})
    with pytest.raises(UserError, match="There is no" if spoil == "absent" else "is damaged, or no checkpoint"):
        open_source(path)


def test_settings_are_read_as_those_of_a_checkpoint(tmp_path: Path):
    path = tmp_path / "network.safetensors"
    path.write_bytes(weights.write(exported("randwire")))
    source = open_source(path)
    assert Experiment.from_saved(source.settings()).model == "randwire"
    assert source.network_settings() == {}
