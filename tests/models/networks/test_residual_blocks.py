"""Parts of residual blocks: padding, shortcuts, and the order of norms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.networks.residual_blocks import Layers, SamePad, residual_block
from models.networks.resnet import resnet


@pytest.mark.parametrize("side", [8, 9])
def test_same_padding_of_tensorflow(side: int):
    images = torch.randn(1, 1, side, side)
    padded = SamePad(3, 2)(images)
    pads = (0, 1, 0, 1) if side % 2 == 0 else (1, 1, 1, 1)
    assert torch.equal(padded, F.pad(images, pads))
    assert F.conv2d(padded, torch.zeros(1, 1, 3, 3), stride=2).shape[-1] == (side + 1) // 2


def test_padding_is_of_strided_convs_alone():
    network = resnet(depth=8, shortcut="B", padding="same_tensorflow")
    pads = [(name, module.kernel) for name, module in network.named_modules() if isinstance(module, SamePad)]
    assert pads == [("layer2.0.pads.0", 3), ("layer3.0.pads.0", 3)]
    assert network.state_dict().keys() == resnet(depth=8, shortcut="B").state_dict().keys()


def test_shortcut_a_puts_its_zeros_where_it_says():
    images = torch.ones(1, 4, 4, 4)
    end = resnet(depth=8, width_mult=0.25).layer2[0].shortcut(images)
    both = resnet(depth=8, width_mult=0.25, shortcut="A_both").layer2[0].shortcut(images)
    assert end[0, :, 0, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert both[0, :, 0, 0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert end.shape == both.shape == (1, 8, 2, 2)


OPTIONS = {"cardinality": 1, "shortcut": "B", "activated_shortcut": False, "dropout": 0.0}


def test_an_original_block_reads_as_its_recipe():
    torch.manual_seed(0)
    block = residual_block(Layers("symmetric", 1e-5, 0.1), 4, 8, 2, None, preactivated=False, **OPTIONS).eval()
    images = torch.randn(2, 4, 8, 8)
    branch = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(images)))))
    torch.testing.assert_close(block(images), F.relu(branch + block.shortcut(images)))
    assert isinstance(block.shortcut[1], nn.BatchNorm2d)


@pytest.mark.parametrize("activated", [True, False])
def test_a_preactivated_block_reads_as_its_recipe(activated):
    torch.manual_seed(0)
    layers, options = Layers("symmetric", 1e-5, 0.1), {**OPTIONS, "activated_shortcut": activated}
    block = residual_block(layers, 4, 8, 2, 2, preactivated=True, **options).eval()
    images = torch.randn(2, 4, 8, 8)
    first = F.relu(block.bn1(images))
    branch = block.conv3(F.relu(block.bn3(block.conv2(F.relu(block.bn2(block.conv1(first)))))))
    torch.testing.assert_close(block(images), branch + block.shortcut(first if activated else images))
    assert [norm.num_features for norm in (block.bn1, block.bn2, block.bn3)] == [4, 2, 2]
