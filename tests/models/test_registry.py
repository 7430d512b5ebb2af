"""Tables by name: what they hold, and what reading their names imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
from torch import Tensor, nn

import models
from models.registry import Registry, resolve


def test_an_entry_is_an_object_or_the_place_of_one():
    registry: Registry = Registry("codec", {"json": "json:loads", "own": len})
    assert registry["json"]('{"a": 1}') == {"a": 1}
    assert registry.choose("own") is len
    assert list(registry) == ["json", "own"]
    registry["more"] = max
    assert len(registry) == 3
    assert "more" in registry
    del registry["json"]
    assert "json" not in registry
    assert registry.get("json") is None
    with pytest.raises(ValueError, match="no codec 'xml'; there are own, more"):
        registry.choose("xml")


def test_a_place_that_is_not_there_is_an_error():
    with pytest.raises(AttributeError):
        resolve("json:absent")
    with pytest.raises(ModuleNotFoundError):
        resolve("absent_module:loads")


@pytest.mark.parametrize("name", models.NETWORKS)
def test_every_place_of_a_network_is_there(name: str):
    assert callable(models.NETWORKS[name])


def test_names_can_be_read_without_torch():
    code = (
        "import sys, models, models.sparse\n"
        "assert 'resnet' in models.NETWORKS and 'native' in models.sparse.ENGINES\n"
        "print({'torch', 'torchvision', 'numpy', 'scipy', 'networkx'} & set(sys.modules) or 'light')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "light"


class Mean(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.mean((1, 2, 3))[:, None])


def test_a_network_can_be_added(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(models.NETWORKS, "mean", Mean)
    assert models.build_network("mean", classes=4).linear.out_features == 4
    with pytest.raises(ValueError, match=r"no network 'median'; there are mobilenetv1_like, .*, mean"):
        models.build_network("median")
