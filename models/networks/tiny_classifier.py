"""What the tiny classifiers of arXiv 1906.00586, 3.1, have in common: stem, read-out and the rule of their graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.native.tape import Window
from models.networks.planes import cut, is_native
from models.signatures import extended
from models.sparse.graph import ChannelGraph
from models.sparse.layers import convolution_level, depthwise_of, fold_batch_norm, input_level
from models.wirings.graph import Graph
from models.wirings.layout import EdgeLayout
from models.wirings.registry import make_wiring


class TinyClassifier(nn.Module):
    """Stem and read-out, and the rule of the graph between them.

    Input [batch, in_channels, image_size, image_size]; output [batch, classes]. The state has `dim` channels at a
    quarter of the image's size, the stem's `downsample_dim` first, the others zero at the start. The last
    `feature_dim` channels are read out: their mean over the four positions before the centre, then a linear layer.

    Args:
        classes: number of classes.
        image_size: pixels, at least 16.
        wiring: name of the rule (`models.wirings.registry.WIRINGS`).
        prune_rate: share of the dim x dim matrix that is removed.
        in_channels: channels of the images.
        dim, downsample_dim, feature_dim: channels of the state, of the stem, and read out.
        options: of the rule, by their names.

    Raises:
        ValueError: an image too small for the read-out, widths that do not fit one another, or a rule or an option that
            there is not.
    """

    def __init_subclass__(cls) -> None:
        cls.__signature__ = extended(cls.__init__, TinyClassifier.__init__)  # type: ignore[attr-defined]

    def __init__(
        self,
        classes: int,
        image_size: int,
        wiring: str = "complete",
        prune_rate: float = 0.0,
        in_channels: int = 3,
        dim: int = 800,
        downsample_dim: int = 32,
        feature_dim: int = 100,
        **options: Any,
    ) -> None:
        super().__init__()
        if image_size < 16:
            raise ValueError(f"The tiny classifiers need images of at least 16 pixels, not {image_size}.")
        if downsample_dim % 2 or not downsample_dim < dim:
            raise ValueError(f"downsample_dim must be even and below dim ({dim}), not {downsample_dim}.")
        if feature_dim > dim:
            raise ValueError(f"feature_dim ({feature_dim}) cannot exceed dim ({dim}).")
        self.dim = dim
        self.downsample_dim = downsample_dim
        self.feature_dim = feature_dim
        half = downsample_dim // 2
        self.downsample = nn.Sequential(
            nn.Conv2d(in_channels, half, 3, stride=2, padding=1),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half),
            nn.Conv2d(half, downsample_dim, 1),
            nn.BatchNorm2d(downsample_dim),
        )
        self.fc = nn.Linear(feature_dim, classes)
        self.image_size = image_size
        centre = image_size // 4 // 2
        self._centre = slice(centre - 2, centre)
        self._rule = wiring, prune_rate, options

    def wired_graph(self, layout: EdgeLayout) -> Graph:
        """A graph of that layout under the network's rule."""
        wiring, prune_rate, options = self._rule
        return Graph(layout, make_wiring(wiring, layout, prune_rate, **options))

    def stem(self, images: Tensor) -> Tensor:
        """The stem's channels [batch, downsample_dim, height, width].

        On CPUs its depthwise convolution goes back several times as fast in channels_last.
        """
        if is_native(images, self):
            images = images.contiguous(memory_format=torch.channels_last)
        return self.downsample(images)

    def start(self, images: Tensor) -> Tensor:
        """The state [batch, dim, height, width] that the graph starts from."""
        stem = self.downsample(images)
        return F.pad(stem, (0, 0, 0, 0, 0, self.dim - stem.shape[1]))

    def read_out(self, state: Tensor) -> Tensor:
        """Logits [batch, classes] of a final state whose last channels are the features."""
        return self.classify(cut(state[:, -self.feature_dim :], self.window))

    def classify(self, features: Tensor) -> Tensor:
        """Logits [batch, classes] of the features within the window."""
        return self.fc(features.mean(dim=(2, 3)))

    def stem_graph(self) -> ChannelGraph:
        """The stem as a channel graph: conv, BN, ReLU, depthwise conv, 1x1 conv, BN."""
        first, first_norm, _, spread, mix, mix_norm = self.downsample
        level = fold_batch_norm(convolution_level("downsample.0", "downsample", 0, first), first_norm)
        level = replace(level, relu=True, depthwise=depthwise_of(spread), probe=("downsample.3", 0))
        state = fold_batch_norm(convolution_level("downsample.4", "downsample", 1, mix), mix_norm)
        state = replace(state, probe=("downsample", 0))
        return ChannelGraph((input_level(level.incoming.columns), level, state), flat=False)

    @property
    def window(self) -> Window:
        """Of the state, that the features are the mean of."""
        return self._centre.start, self._centre.stop, self._centre.start, self._centre.stop


def depthwise(channels: int) -> nn.Conv2d:
    """A 3x3 depthwise convolution that keeps the size."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
