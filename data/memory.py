"""Batches of a data set that lies in memory, on the device: gathered, cropped and flipped there."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from data.augmentation import Moves, PadCropFlip, Windows, normalise, own_statistics, resize
from data.batches import Batch, Settings
from data.sources import MemoryImages
from data.steps import Steps, epoch_generator, shuffled

STATISTICS_OF = 4096  # images at a time


class MemoryLoader:
    """Batches of the images of `indices` (int64 [n]) among `images`; pixels stay on the device as uint8.

    Training shuffles, and crops and flips where it has an `augmentation`: at the images' own size, before
    they are resized to `settings.image_size`. Grey images are repeated to the channels of `settings`.
    """

    skipped = 0

    def __init__(
        self,
        images: MemoryImages,
        indices: Tensor,
        steps: Steps,
        settings: Settings,
        augmentation: PadCropFlip | None = None,
    ) -> None:
        self.steps = steps
        self.settings = settings
        self.augmentation = augmentation
        pixels = images.pixels[indices].to(settings.device)
        self._labels = images.labels[indices].to(settings.device)
        if settings.standardise:
            parts = [own_statistics(part) for part in pixels.split(STATISTICS_OF)]
            self._means, self._deviations = (torch.cat(column) for column in zip(*parts, strict=True))
        self._pixels = pixels if augmentation is None else Windows(pixels, augmentation)

    def __len__(self) -> int:
        return len(self.steps)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, for this process."""
        order, moves = self._draw(epoch)
        for number in range(start, len(self.steps)):
            step = self.steps[number]
            part = slice(step.start, step.stop)
            chosen, own_moves = order[part], moves[part] if moves else None
            images = self._gather(chosen, own_moves)
            finished = (
                self._standardised(images, chosen, own_moves) if self.settings.standardise else self._finish(images)
            )
            yield Batch(finished, self._labels.index_select(0, chosen), step.total)

    def _draw(self, epoch: int) -> tuple[Tensor, Moves | None]:
        images, device = len(self._labels), self.settings.device
        if not self.steps.training:
            return torch.arange(images, device=device), None
        generator = epoch_generator(self.settings.seed, epoch)
        order = shuffled(images, generator).to(device)
        return order, self.augmentation.draw(images, generator).to(device) if self.augmentation else None

    def _gather(self, indices: Tensor, moves: Moves | None) -> Tensor:
        if isinstance(self._pixels, Windows):
            assert moves is not None
            return self._pixels.gather(indices, moves)
        return self._pixels.index_select(0, indices)

    def _standardised(self, images: Tensor, indices: Tensor, moves: Moves | None) -> Tensor:
        """By the statistics of the whole image; what a crop has of the padding is 0 after that, not before."""
        images = (images - self._means[indices]) / self._deviations[indices]
        if moves is not None and isinstance(self._pixels, Windows):
            images = images * self._pixels.inside(moves)
        return resize(images, self.settings.image_size).expand(-1, len(self.settings.mean), -1, -1)

    def _finish(self, images: Tensor) -> Tensor:
        settings = self.settings
        grey = images.shape[1] != len(settings.mean)
        images = resize(images, settings.image_size)
        # every channel of a grey image has its own mean and deviation, so that these may be overridden
        images = images.expand(-1, len(settings.mean), -1, -1) if grey else images
        return normalise(images, settings.mean, settings.std)
