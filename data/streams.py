"""Batches of images that are decoded one at a time, by worker processes ahead of need."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from data.augmentation import (
    ResizedCentre,
    ResizedCropFlip,
    mixed_seed,
    normalise,
    own_statistics,
    torch_seeded,
)
from data.batches import Batch, Settings
from data.sources import Source, UnreadableImageError
from data.steps import Steps, epoch_generator, shuffled
from data.workers import begin_worker, deaf_to_signals, process_context

BATCHES_AHEAD = 4  # of each worker

Job = tuple[int, list[int]]
"""An epoch, and the indices of the images to be read for it."""
Result = tuple[Tensor, Tensor, list[tuple[int, str]]]
"""Images uint8 [n, channels, size, size], their indices int64 [n], the other indices with what is wrong."""


class Reader(Dataset[Result]):
    """What a worker process does: decode, crop, flip. Draws depend on seed, epoch and index only."""

    def __init__(self, source: Source, size: int, transform: Callable[[Tensor], Tensor], seed: int | None) -> None:
        self.source, self.size, self.transform, self.seed = source, size, transform, seed

    def __getitem__(self, job: Job) -> Result:
        epoch, indices = job
        images, readable, unreadable = [], [], []
        for index in indices:
            try:
                decoded = self.source.decode(index)
            except UnreadableImageError as error:
                unreadable.append((index, str(error)))
                continue
            images.append(self._transformed(decoded, epoch, index))
            readable.append(index)
        empty = torch.empty(0, self.source.channels, self.size, self.size, dtype=torch.uint8)
        return torch.stack(images) if images else empty, torch.tensor(readable, dtype=torch.int64), unreadable

    def _transformed(self, image: Tensor, epoch: int, index: int) -> Tensor:
        seed = self.seed
        with nullcontext() if seed is None else torch_seeded(mixed_seed(seed, epoch, index + 1)):
            return self.transform(image)


class Jobs(Sampler[Job]):
    """The jobs of the epoch that was last asked for, one a step."""

    def __init__(self, images: Tensor, steps: Steps, seed: int | None) -> None:
        self.images, self.steps, self.seed = images, steps, seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return len(self.steps) - self.start

    def __iter__(self) -> Iterator[Job]:
        epoch, order = self.epoch, self.images
        if self.seed is not None:
            order = order[shuffled(len(order), epoch_generator(self.seed, epoch))]
        for number in range(self.start, len(self.steps)):
            step = self.steps[number]
            yield epoch, order[step.start : step.stop].tolist()


class StreamLoader:
    """Batches of some images of a `Source`: those of `indices` (int64 [n]).

    Training shuffles. Images are cropped as in evaluation where there is no `augmentation`. Grey images are repeated
    to the channels of `settings`.
    An unreadable image raises ValueError with its name, or is left out and counted (`skip_unreadable`).
    One epoch runs at a time: a new one ends the one before.
    """

    def __init__(
        self,
        source: Source,
        indices: Tensor,
        steps: Steps,
        settings: Settings,
        augmentation: ResizedCropFlip | None = None,
    ) -> None:
        self.source, self.steps, self.settings = source, steps, settings
        self.unreadable: dict[int, str] = {}
        size, seed = settings.image_size, settings.seed
        transform = (augmentation or ResizedCentre()).transform(size)
        self._jobs = Jobs(indices, steps, seed if steps.training else None)
        draws = seed if augmentation else None
        reader: Dataset[Any] = Reader(source, size, transform, draws)
        self._finish: Callable[[Any], Result] = _as_it_is
        if settings.decode_on_device:
            from data.device_decoding import DeviceDecoder, FileReader  # import torchvision's decoders

            reader, self._finish = FileReader(source), DeviceDecoder(source, size, transform, draws, settings.device)
        with warnings.catch_warnings():
            # more workers than processors may pay where the files lie far away
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            self._results = DataLoader(
                reader,
                sampler=self._jobs,
                batch_size=None,
                collate_fn=_as_it_is,
                generator=torch.Generator(),  # so that none of the program's own draws is used up
                pin_memory=settings.device.type == "cuda",
                **_worker_options(settings.workers),
            )

    @property
    def skipped(self) -> int:
        """Unreadable images that this process has left out so far, each counted once."""
        return len(self.unreadable)

    def __len__(self) -> int:
        return len(self.steps)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, for this process."""
        self._jobs.epoch, self._jobs.start = epoch, start
        with deaf_to_signals() if self.settings.workers else nullcontext():
            results = iter(self._results)  # starts the workers, where there are none yet
        for number, result in enumerate(results, start):
            images, indices, unreadable = self._finish(result)
            self._leave_out(unreadable)
            step = self.steps[number]
            if self.steps.training and unreadable and len(images) < 2:
                raise ValueError(f"too few readable images in a training batch: {unreadable[0][1]}")
            yield self._batch(images, indices, step.total - len(unreadable))

    def _leave_out(self, unreadable: list[tuple[int, str]]) -> None:
        if unreadable and not self.settings.skip_unreadable:
            raise ValueError(f"{unreadable[0][1]}; --skip-unreadable leaves out and counts such files")
        self.unreadable.update(unreadable)

    def _batch(self, images: Tensor, indices: Tensor, total: int) -> Batch:
        settings = self.settings
        on_device = images.to(settings.device, non_blocking=True).expand(-1, len(settings.mean), -1, -1)
        labels = self.source.labels[indices].to(settings.device)
        if settings.standardise:
            mean, deviation = own_statistics(on_device)
            return Batch((on_device - mean) / deviation, labels, total)
        return Batch(normalise(on_device, settings.mean, settings.std), labels, total)


def _as_it_is(result: Any) -> Any:
    return result


def _worker_options(workers: int) -> dict[str, Any]:
    if workers == 0:
        return {"num_workers": 0}
    return {
        "num_workers": workers,
        "multiprocessing_context": process_context(),
        "persistent_workers": True,
        "prefetch_factor": BATCHES_AHEAD,
        "worker_init_fn": begin_worker,
    }
