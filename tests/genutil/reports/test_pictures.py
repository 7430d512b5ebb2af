from __future__ import annotations

import struct
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

import models
from genutil.errors import UserError
from genutil.reports.pictures import draw, merge, places, trace
from models.networks.resnet import resnet
from models.wirings.wire import wire


def test_every_operation_of_a_resnet_is_there_with_its_sources():
    boxes = trace(resnet(depth=8, classes=7), torch.zeros(1, 3, 16, 16))
    labels = [label for box in boxes for label in box.labels]
    assert labels.count("conv 3x3, 16") == 3
    assert labels.count("conv 3x3, 32 /2") == 1
    assert labels.count("+") == 3
    assert labels.count("pad") == 2
    assert labels[-2:] == ["mean", "linear, 7"]
    sums = [box for box in boxes if box.labels == ["+"]]
    assert [box.module for box in sums] == ["layer1.0", "layer2.0", "layer3.0"]
    assert all(len(box.sources) == 2 for box in sums)
    assert sums[0].shape == (16, 16, 16)
    assert [i for i, box in enumerate(boxes) if not box.sources] == [0]


def test_rows_run_down_and_no_two_boxes_lie_on_one_another():
    boxes = merge(trace(torchvision.models.googlenet(init_weights=False, aux_logits=False), torch.zeros(1, 3, 64, 64)))
    spots = places(boxes)
    for i, box in enumerate(boxes):
        assert all(spots[source][1] < spots[i][1] for source in box.sources)
    for i, (column, row) in enumerate(spots):
        assert all(abs(column - other) > 0.99 for other, its_row in spots[:i] if its_row == row)


class InPlace(nn.Module):
    """Adds into a slice of its input's copy, as the static tiny classifier does."""

    def forward(self, images: Tensor) -> Tensor:
        state = images.clone()
        state[:, :1] += images[:, 1:2].exp()
        return state.view(len(images), -1)[:, 1:].sigmoid()


def test_views_and_changes_in_place_are_followed():
    boxes = trace(InPlace(), torch.zeros(1, 3, 2, 2))
    assert [box.labels for box in boxes] == [["input"], ["exp"], ["+"], ["sigmoid"]]
    assert [box.sources for box in boxes] == [[], [0], [0, 1], [2]]


@pytest.mark.parametrize("ending", ["png", "svg"])
@pytest.mark.parametrize(
    "name", ["mobilenetv1_like", "static", "mobilenetv1", "shufflenetv2", "resnet", "wrn", "resnext", "vgg"]
)
def test_every_network_is_drawn(tmp_path: Path, name: str, ending: str):
    torch.manual_seed(0)
    arguments = {"classes": 10}
    if name in ("mobilenetv1_like", "static", "mobilenetv1"):
        arguments["image_size"] = 32
    if name in ("wrn", "vgg"):
        arguments |= {"depth": {"wrn": 10, "vgg": 11}[name], "width_mult": 0.25}
    if name == "resnext":
        arguments |= {"depth": 11, "cardinality": 2, "base_width": 4}
    network = models.build_network(name, **arguments)
    draw(network, 32, 3, tmp_path / f"net.{ending}")
    assert network.training
    content = (tmp_path / f"net.{ending}").read_bytes()
    if ending == "png":
        width, height = struct.unpack(">II", content[16:24])
        assert content.startswith(b"\x89PNG")
        assert height > width > 100
    else:
        assert ElementTree.fromstring(content).tag.endswith("svg")


def test_wired_layers_say_so():
    boxes = trace(wire(resnet(depth=8), "dnw", 0.9, skip=("linear",)), torch.zeros(1, 3, 16, 16))
    labels = [label for box in boxes for label in box.labels]
    assert sum(label.startswith("wired conv") for label in labels) == 7
    assert not any("where" in label for label in labels)


def test_a_tall_picture_stays_within_what_programs_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("genutil.reports.pictures.TALLEST", 1000)
    draw(nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(40))), 4, 3, tmp_path / "deep.png")
    assert 900 < struct.unpack(">II", (tmp_path / "deep.png").read_bytes()[16:24])[1] <= 1000


def test_mistakes_are_said(tmp_path: Path):
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    with pytest.raises(UserError, match=r"\.png or \.svg, not net\.gif"):
        draw(network, 8, 3, tmp_path / "net.gif")
    with pytest.raises(UserError, match=r"Cannot write .*net\.svg: No such file"):
        draw(network, 8, 3, tmp_path / "absent" / "net.svg")
