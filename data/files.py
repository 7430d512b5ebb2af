"""Image files that belong to no data set, in batches as evaluation has them: decoded, cut, normalised."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from data.augmentation import ResizedCentre, normalise, own_statistics, resize
from data.decoding import MODES, decode
from data.image_files import MAX_IMAGE_PIXELS, image_files
from data.registry import SETS
from data.sources import UnreadableImageError
from data.statistics import IMAGENET, Normalisation

WHOLE = ("digits", "cifar10", "cifar100", "mnist")
"""Data sets whose images are evaluated whole; those of others are cut at the edges."""
LONGEST = 10
"""Of an image that is longer than so many times its height, what lies further out is cut off before it is resized."""


@dataclass(frozen=True)
class Preparation:
    """What becomes of an image before a network sees it.

    Attributes:
        image_size: of what the network takes, in pixels.
        normalisation: one figure for each channel, 1 or 3.
        whole: the largest square in the middle is resized, so that nothing of a square image is lost: what evaluation
            does to data sets in memory. Else the centre is cut out, as in evaluation on photographs.
        standardise: each image is normalised by its own mean and deviation instead.
        max_pixels: of the largest image that is decoded.

    Raises ValueError where there are other channels.
    """

    image_size: int
    normalisation: Normalisation
    whole: bool
    standardise: bool = False
    max_pixels: int = MAX_IMAGE_PIXELS

    def __post_init__(self) -> None:
        if self.channels not in MODES:
            raise ValueError(f"image files are read with 1 or 3 channels, and the network takes {self.channels}")

    @property
    def channels(self) -> int:
        return len(self.normalisation.mean)

    def transform(self) -> Callable[[Tensor], Tensor]:
        """From uint8 [channels, height, width] to float32 [channels, image_size, image_size]."""
        cut = None if self.whole else ResizedCentre().transform(self.image_size)
        mean, std = (torch.tensor(figures).view(-1, 1, 1) for figures in self.normalisation)

        def prepare(image: Tensor) -> Tensor:
            square = middle(image, 1) if cut is None else cut(middle(image, LONGEST))
            if self.standardise:
                own_mean, deviation = own_statistics(square[None])
                return resize((square[None] - own_mean) / deviation, self.image_size)[0]
            return normalise(resize(square[None], self.image_size), mean, std)[0]

        return prepare


def normalisation_of(data: str, channels: int) -> Normalisation:
    """What images of a data set, or of a folder with another name, are normalised by where nothing else is known."""
    own = (SETS[data].normalisation if data in SETS else None) or IMAGENET
    if len(own.mean) == channels:
        return own
    return own.grey() if channels == 1 else Normalisation(own.mean * channels, own.std * channels)


def middle(image: Tensor, longest: int) -> Tensor:
    """The middle of an image [channels, height, width], its longer side at most `longest` times its shorter one."""
    height, width = image.shape[-2:]
    rows, columns = min(height, longest * width), min(width, longest * height)
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[:, top : top + rows, left : left + columns]


def named_files(places: Iterable[Path]) -> list[Path]:
    """The files that are named, whatever their endings, and the images in the folders that are named, at any depth.

    Raises ValueError where there is no such file, or no image in a folder.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = [place / name for name in image_files(place)]
            if not inside:
                raise ValueError(f"{place} has no images in it")
            found += inside
        elif place.exists():
            found.append(place)
        else:
            raise ValueError(f"there is no file {place}")
    return found


class FileBatch(NamedTuple):
    """Images of some files: float32 [n, channels, size, size], the n files, and what is wrong with the others."""

    images: Tensor
    files: list[Path]
    unreadable: dict[Path, str]


def file_batches(
    files: Sequence[Path], preparation: Preparation, batch_size: int, threads: int = 1
) -> Iterator[FileBatch]:
    """The images of files in their order, so many files a batch; those that cannot be read are told of and left out.

    Threads decode one batch ahead: no more than two batches are in memory, and an image of its full size a thread.
    """
    prepare = preparation.transform()
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[tuple[Sequence[Path], list[Future[Tensor]]]] = deque()
        for start in range(0, len(files), batch_size):
            names = files[start : start + batch_size]
            jobs = [pool.submit(_read, path, preparation, prepare) for path in names]
            waiting.append((names, jobs))
            if len(waiting) == 2:
                yield _gathered(*waiting.popleft(), preparation)
        while waiting:
            yield _gathered(*waiting.popleft(), preparation)


def _read(path: Path, preparation: Preparation, prepare: Callable[[Tensor], Tensor]) -> Tensor:
    return prepare(decode(path, str(path), preparation.channels, preparation.max_pixels))


def _gathered(names: Sequence[Path], jobs: Sequence[Future[Tensor]], preparation: Preparation) -> FileBatch:
    images, files, unreadable = [], [], {}
    for path, job in zip(names, jobs, strict=True):
        try:
            images.append(job.result())
            files.append(path)
        except UnreadableImageError as error:
            unreadable[path] = str(error)
    size = preparation.image_size
    empty = torch.empty(0, preparation.channels, size, size)
    return FileBatch(torch.stack(images) if images else empty, files, unreadable)
