"""Means and standard deviations of each channel of images in 0..1, by which networks expect them normalised."""

from __future__ import annotations

from typing import NamedTuple


class Normalisation(NamedTuple):
    """Of each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def grey(self) -> Normalisation:
        """For one channel: the means over the channels of these figures."""
        return Normalisation((sum(self.mean) / len(self.mean),), (sum(self.std) / len(self.std),))


DIGITS = Normalisation((0.305,), (0.376,))
MNIST = Normalisation((0.1307,), (0.3081,))
CIFAR10 = Normalisation((0.491, 0.482, 0.447), (0.247, 0.243, 0.262))
CIFAR100 = Normalisation((0.507, 0.487, 0.441), (0.267, 0.256, 0.276))
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""torchvision's, which nearly all published networks for photographs were trained with."""
