"""Networks: shapes, the gradient of every parameter, and arguments that make no network."""

import pytest
import torch
import torch.nn.functional as F

import models
from models.wirings.rules import WIRINGS

SMALL = {
    "mobilenetv1_like": {"image_size": 32, "stages": ((4, 8, 1, 1), (8, 16, 2, 3))},
    "static": {"image_size": 32, "dim": 40, "downsample_dim": 8, "feature_dim": 6},
    "discrete_time": {"image_size": 32, "dim": 40, "downsample_dim": 8, "feature_dim": 6},
    "continuous_time": {"image_size": 32, "dim": 40, "downsample_dim": 8, "feature_dim": 6},
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("wiring", WIRINGS)
def test_every_parameter_gets_a_finite_gradient(name, wiring):
    torch.manual_seed(0)
    network = models.build_network(name, classes=5, wiring=wiring, prune_rate=0.5, **SMALL[name])
    logits = network(torch.randn(6, 3, 32, 32))
    assert logits.shape == (6, 5)
    F.cross_entropy(logits, torch.arange(6) % 5).backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


def test_the_first_conv_halves_images_above_64_pixels():
    for size, stride in ((64, 1), (65, 2)):
        for name in ("mobilenetv1", "mobilenetv1_like"):
            assert models.build_network(name, classes=2, image_size=size).conv1.stride == (stride, stride)


def test_mistakes_are_told_in_a_sentence():
    with pytest.raises(ValueError, match="There is no network 'mobilnet'; there are mobilenetv1_like, static"):
        models.build_network("mobilnet")
    with pytest.raises(ValueError, match="at least 16 pixels, not 8"):
        models.build_network("static", classes=10, image_size=8)
    with pytest.raises(ValueError, match="do not split evenly into 6 blocks"):
        models.build_network("static", classes=10, image_size=32, layers=7, dim=801)
    with pytest.raises(ValueError, match="ShuffleNetV2 has the widths"):
        models.build_network("shufflenetv2", classes=10, width_mult=0.7)
    with pytest.raises(ValueError, match="leaves no channel"):
        models.build_network("mobilenetv1", classes=10, image_size=32, width_mult=0.01)
