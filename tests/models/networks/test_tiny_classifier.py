"""What the tiny classifiers have in common: the stem, the read-out, and what is refused."""

from __future__ import annotations

import pytest
import torch

import models

SMALL = {"image_size": 32, "dim": 40, "downsample_dim": 8, "feature_dim": 6}
NAMES = ("static", "discrete_time", "continuous_time")


def test_the_read_out_is_the_mean_of_four_positions():
    network = models.build_network("static", classes=3, **SMALL).eval()
    state = torch.zeros(1, 40, 8, 8)
    state[:, :, 2:4, 2:4] = 1
    inside = network.read_out(state)
    state[:, :, 4:] = state[:, :, :, 4:] = 9
    assert network.read_out(state).equal(inside)
    torch.testing.assert_close(inside, network.fc(torch.ones(1, 6)))


def test_the_window_is_what_is_read_out():
    network = models.build_network("static", classes=3, **SMALL).eval()
    top, bottom, left, right = network.window
    state = torch.zeros(1, 40, 8, 8)
    state[:, :, top:bottom, left:right] = 1
    torch.testing.assert_close(network.read_out(state), network.fc(torch.ones(1, 6)))


@pytest.mark.parametrize("name", NAMES)
def test_the_state_starts_with_the_stem_and_zeros(name):
    network = models.build_network(name, classes=3, **SMALL).eval()
    images = torch.randn(2, 3, 32, 32)
    state = network.start(images)
    assert state.shape == (2, 40, 8, 8)
    torch.testing.assert_close(state[:, :8], network.downsample(images))
    torch.testing.assert_close(network.stem(images), network.downsample(images), rtol=1e-4, atol=1e-5)
    assert not state[:, 8:].any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"image_size": 15}, "need images of at least 16 pixels, not 15"),
        ({"downsample_dim": 7}, r"downsample_dim must be even and below dim \(40\), not 7"),
        ({"downsample_dim": 40}, r"downsample_dim must be even and below dim \(40\), not 40"),
        ({"feature_dim": 41}, r"feature_dim \(41\) cannot exceed dim \(40\)"),
    ],
)
def test_what_does_not_fit_is_refused(name, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        models.build_network(name, classes=3, **{**SMALL, **change})
