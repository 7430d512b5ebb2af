from __future__ import annotations

from pathlib import Path

import pytest
import torch

import pretrained
from genutil.config import Experiment
from models.networks.resnet import resnet
from pretrained.pytorch_cifar_resnets import load_resnet


class Trap:
    """Makes a file when it is unpickled by Python's own rules."""

    def __reduce__(self):
        return Path.touch, (Path("trap-was-sprung"),)


@pytest.mark.parametrize("shortcut", ["A_both", "B"])
@pytest.mark.parametrize("legacy", [False, True])
def test_loads_a_state_dict_with_module_prefixes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shortcut: str, legacy: bool
):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = resnet(depth=14, shortcut=shortcut, classes=7)
    state = {f"module.{name}": t for name, t in network.state_dict().items() if "num_batches" not in name}
    path = tmp_path / "resnet14.th"
    torch.save({"state_dict": state, "best_prec1": Trap()}, path, _use_new_zipfile_serialization=not legacy)
    loaded = load_resnet(path)
    arguments = {"depth": 14, "block": "v1", "shortcut": shortcut, "width_mult": 1.0}
    assert loaded.arguments == arguments | {"padding": "symmetric", "bn_epsilon": 1e-5}
    settings = pretrained.StateFile(path).settings()
    assert settings == {"model": "resnet", **loaded.arguments, "mean": list(loaded.mean), "std": list(loaded.std)}
    assert Experiment.from_settings(settings).shortcut == shortcut
    assert not Path("trap-was-sprung").exists()
    assert loaded.mean == (0.485, 0.456, 0.406)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded.network.eval()(images), network.eval()(images))


def test_a_bare_state_of_another_width_loads(tmp_path: Path):
    network = resnet(depth=8, width_mult=2.0, shortcut="A_both")
    torch.save(network.state_dict(), tmp_path / "net.pt")
    loaded = load_resnet(tmp_path / "net.pt")
    assert torch.equal(loaded.network.linear.weight, network.linear.weight)


def test_what_is_something_else_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pt"
    state = resnet(depth=8).state_dict()
    cases = {
        "no state of a network": Trap(),
        "holds no state": {"state_dict": [1, 2]},
        "conv1, layer1": {"state_dict": {"weight": torch.zeros(3)}},
        "no ResNet-8 v1": {"state_dict": {k: v for k, v in state.items() if k != "layer1.0.bn2.weight"}},
    }
    for reason, content in cases.items():
        torch.save(content, path)
        with pytest.raises(ValueError, match=reason):
            load_resnet(path)
    assert not Path("trap-was-sprung").exists()
    path.write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="cannot be read"):
        load_resnet(path)
    torch.save({"model": {"weight": torch.zeros(3)}}, path)
    assert pretrained.StateFile(path).settings() == {}
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_resnet(tmp_path / "absent.pt")
