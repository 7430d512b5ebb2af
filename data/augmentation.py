"""Random changes of training images, what evaluation does instead, and normalisation.

Images in memory are cropped and flipped in batches, wherever they lie; images of a source are cropped one
at a time by worker processes. Every draw is a function of the seed, the epoch and the image's place or
index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

EVALUATION_ENLARGEMENT = 256 / 224  # the shorter side before the centre crop, over the crop's


def mixed_seed(*numbers: int) -> int:
    """A well mixed seed from non-negative numbers, the same on every machine and version."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """Draws of torch on the CPU start from `seed` inside, and go on as if nothing had been drawn outside."""
    state = torch.get_rng_state()
    # torch.manual_seed would seed (or queue a seeding of) the GPUs as well
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


@dataclass(frozen=True)
class Moves:
    """How each of n images is cropped and flipped: top, left int64 [n] in padded pixels, flips bool [n]."""

    top: Tensor
    left: Tensor
    flips: Tensor

    def to(self, device: torch.device) -> Moves:
        return Moves(self.top.to(device), self.left.to(device), self.flips.to(device))

    def __getitem__(self, chosen: slice) -> Moves:
        return Moves(self.top[chosen], self.left[chosen], self.flips[chosen])


@dataclass(frozen=True)
class PadCropFlip:
    """For images in memory: `pad` black pixels on each side, a random crop of the old size, a random flip.

    Without `flip` nothing is mirrored.
    """

    pad: int
    flip: bool

    def draw(self, images: int, generator: torch.Generator) -> Moves:
        """Moves for so many images, from a generator of the CPU."""
        offsets = torch.randint(0, 2 * self.pad + 1, (2, images), generator=generator)
        flips = torch.rand(images, generator=generator) < 0.5
        return Moves(offsets[0], offsets[1], flips if self.flip else torch.zeros_like(flips))


class Windows:
    """Images of one size, padded once, from which crops are gathered in batches.

    pixels: uint8 [images, channels, height, width], on any device.
    """

    def __init__(self, pixels: Tensor, augmentation: PadCropFlip) -> None:
        self.pad = pad = augmentation.pad
        self.size = pixels.shape[1:]
        self.flip = augmentation.flip
        padded = F.pad(pixels, (pad, pad, pad, pad)).contiguous()
        self._image, plane, self._row = padded.stride()[:3]
        channels, height, width = self.size
        # every run of `width` pixels as a row of one table: a crop is then channels * height rows of it
        self._runs = padded.flatten().unfold(0, width, 1)
        rows = torch.arange(height) * self._row
        self._offsets = (torch.arange(channels)[:, None] * plane + rows).flatten().to(pixels.device)

    def inside(self, moves: Moves) -> Tensor:
        """bool [n, 1, height, width]: which pixels of the crops lie in the image, and not in its padding."""
        _, height, width = self.size
        rows, columns = (self._within(start, extent) for start, extent in ((moves.top, height), (moves.left, width)))
        columns = torch.where(moves.flips[:, None], columns.flip(1), columns) if self.flip else columns
        return (rows[:, :, None] & columns[:, None, :])[:, None]

    def _within(self, start: Tensor, extent: int) -> Tensor:
        place = start[:, None] + torch.arange(extent, device=start.device)
        return (place >= self.pad) & (place < self.pad + extent)

    def gather(self, indices: Tensor, moves: Moves) -> Tensor:
        """uint8 [n, channels, height, width] for indices int64 [n], each image with its own move."""
        first = indices * self._image + moves.top * self._row + moves.left
        runs = self._runs.index_select(0, (first[:, None] + self._offsets).flatten())
        images = runs.view(len(indices), *self.size)
        return torch.where(moves.flips[:, None, None, None], images.flip(3), images) if self.flip else images


def resize(images: Tensor, size: int) -> Tensor:
    """[n, channels, size, size], uint8 or float: antialiased bilinear; the same tensor where it has that size.

    The values are those of torchvision's resize, whose import takes as long as torch's.
    """
    if images.shape[-2:] == (size, size):
        return images
    if not len(images):
        return images.new_empty(*images.shape[:2], size, size)
    as_float = images.dtype == torch.uint8 and images.device.type != "cpu"  # torch has no kernel for bytes there
    resized = F.interpolate(images.float() if as_float else images, (size, size), mode="bilinear", antialias=True)
    return resized.round_().to(images.dtype) if as_float else resized


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """float32 from uint8 [n, channels, height, width]: (images / 255 - mean) / std, both [channels, 1, 1]."""
    return images.float().div_(255).sub_(mean).div_(std)


def own_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each image's pixel values, [n, 1, 1, 1], of uint8 [n, channels, height, width].

    A deviation is at least 1/sqrt(values), so that an image of one colour can be divided by it.
    """
    values = images.float()
    deviation, mean = torch.std_mean(values, dim=(1, 2, 3), correction=0, keepdim=True)
    return mean, deviation.clamp_(min=values[:1].numel() ** -0.5)


@dataclass(frozen=True)
class ResizedCropFlip:
    """For images of a source: a crop of random area and aspect, resized to the size wanted, a random flip."""

    def transform(self, size: int) -> Callable[[Tensor], Tensor]:
        """uint8 [channels, height, width] to [channels, size, size]; draws from torch's own generator."""
        from torchvision.transforms import v2

        return v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])


@dataclass(frozen=True)
class ResizedCentre:
    """What evaluation does to photographs: shorter side to 256/224 of the size asked for, centre crop."""

    def transform(self, size: int) -> Callable[[Tensor], Tensor]:
        """uint8 [channels, height, width] to uint8 [channels, size, size]."""
        from torchvision.transforms import v2

        enlarged = round(size * EVALUATION_ENLARGEMENT)
        return v2.Compose([v2.Resize(enlarged, antialias=True), v2.CenterCrop(size)])


Augmentation = PadCropFlip | ResizedCropFlip
