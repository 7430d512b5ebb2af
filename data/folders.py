"""Image folders in ImageNet's form: <data-dir>/<name>/{train,val}/<class>/<image>."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from data.augmentation import ResizedCropFlip
from data.decoding import MODES, decode
from data.image_files import MAX_IMAGE_PIXELS, image_files, open_regular
from data.sources import ImageSet, Request, UnreadableImageError
from data.statistics import IMAGENET

IMAGE_SIZE = 224


class PackedNames:
    """A list of strings in two tensors, which worker processes share; of a list each would hold a copy."""

    def __init__(self, names: Sequence[str]) -> None:
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._bytes = torch.frombuffer(bytearray(b"".join(encoded)) or bytearray(1), dtype=torch.uint8)
        self._ends = torch.tensor([0, *map(len, encoded)]).cumsum(0)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> str:
        start, end = self._ends[index], self._ends[index + 1]
        return self._bytes[start:end].numpy().tobytes().decode("utf-8", "surrogateescape")


class FolderImages:
    """A `Source`: the images of the class folders in `folder`, in the order of their names.

    Each real file is one image of its class, however many links lead to it (`data.image_files`); images of more than
    `max_pixels` are not decoded. Raises ValueError where a class has no image, or there is no class.
    """

    def __init__(self, folder: Path, channels: int, max_pixels: int = MAX_IMAGE_PIXELS) -> None:
        self.folder = str(folder)
        self.channels = channels
        self.max_pixels = max_pixels
        self.class_names = sorted(
            entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")
        )
        if not self.class_names:
            raise ValueError(f"{folder} has no class folders: its images belong in {folder / '<class>'}")
        found = [image_files(folder / name) for name in self.class_names]
        self._names = PackedNames(
            [f"{name}/{path}" for name, paths in zip(self.class_names, found, strict=True) for path in paths]
        )
        self.labels = torch.repeat_interleave(torch.tensor([len(paths) for paths in found]))
        counts = torch.bincount(self.labels, minlength=len(self.class_names))
        if empty := [name for name, count in zip(self.class_names, counts.tolist(), strict=True) if not count]:
            raise ValueError(f"{folder / empty[0]} has no images ({len(empty)} such class folder(s))")

    def paths(self) -> list[str]:
        """The path of every image."""
        return [str(Path(self.folder, name)) for name in self._names]

    def encoded(self, index: int) -> tuple[bytes, str]:
        """The contents of an image's file, and its path; raises `UnreadableImageError`."""
        path = str(Path(self.folder, self._names[index]))
        try:
            with open_regular(path) as file:
                return file.read(), path
        except (OSError, ValueError) as error:
            raise UnreadableImageError(f"{path} cannot be read as an image ({error})") from error

    def decode(self, index: int) -> Tensor:
        """uint8 [channels, height, width]; raises `UnreadableImageError`."""
        path = str(Path(self.folder, self._names[index]))
        return decode(path, path, self.channels, self.max_pixels)


def imagenet(request: Request) -> ImageSet:
    """ImageNet (ILSVRC2012), or its like, in <data-dir>/imagenet."""
    return _read(request, "fetch ILSVRC2012 from https://image-net.org and unpack it")


def any_folder(request: Request) -> ImageSet:
    """The images in <data-dir>/<name>, whose class folders say how many classes there are."""
    return _read(request, "put the images")


def _read(request: Request, advice: str) -> ImageSet:
    """Images are normalised as ImageNet's; grey ones by the mean over the channels of those figures."""
    channels = request.in_channels or 3
    if channels not in MODES:
        raise ValueError(f"image files are read with 1 or 3 channels, not in_channels {channels}")
    train, test = request.folder / "train", request.folder / "val"
    for folder in (train, test):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{request.name} is not in {request.folder}, which has no {folder.name}: "
                f"{advice} as {train / '<class>' / '<image>'} and {test / '<class>' / '<image>'}"
            )
    pixels = request.max_image_pixels
    sources = FolderImages(train, channels, pixels), FolderImages(test, channels, pixels)
    _check_same_classes(request.folder, *sources)
    mean, std = IMAGENET if channels == 3 else IMAGENET.grey()
    return ImageSet(
        *sources,
        class_names=sources[0].class_names,
        image_size=IMAGE_SIZE,
        mean=mean,
        std=std,
        augmentation=ResizedCropFlip(),
    )


def _check_same_classes(folder: Path, train: FolderImages, test: FolderImages) -> None:
    if differing := set(train.class_names) ^ set(test.class_names):
        name = min(differing)
        there, missing = ("train", "val") if name in train.class_names else ("val", "train")
        raise ValueError(
            f"the classes of train and val in {folder} differ: {name} is in {there} and not in {missing} "
            f"({len(differing)} such class folder(s))"
        )
