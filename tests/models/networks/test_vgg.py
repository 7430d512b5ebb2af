from __future__ import annotations

import pytest
import torch

from models.networks.vgg import VGG

SIZES = {11: ("9.2", 9_231_114), 13: ("9.4", 9_416_010), 16: ("14.7", 14_728_266), 19: ("20", 20_040_522)}


@pytest.mark.parametrize("depth", SIZES)
def test_parameters_are_those_published(depth: int):
    millions, exact = SIZES[depth]
    with torch.device("meta"):
        network = VGG(depth=depth)
        assert network(torch.empty(2, 3, 32, 32)).shape == (2, 10)
    count = sum(p.numel() for p in network.parameters())
    assert count == exact
    assert f"{count / 1e6:.{len(millions.partition('.')[2])}f}" == millions


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    network = VGG(depth=11, width_mult=1 / 16, in_channels=1, classes=5)
    # the bias of a conv before a norm has no effect in training, but in evaluation it has
    network.eval()
    out = network(torch.randn(4, 1, 32, 32))
    assert out.shape == (4, 5)
    out.square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, key


def test_another_depth_is_refused():
    with pytest.raises(ValueError, match="11, 13, 16, 19, not 12"):
        VGG(depth=12)
