"""CIFAR-10, CIFAR-100 and MNIST, read (and fetched) by torchvision from <data-dir>/<name>."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, VisionDataset
from torchvision.datasets.utils import check_integrity

from data import statistics
from data.augmentation import PadCropFlip
from data.sources import ImageSet, MemoryImages, Request
from data.statistics import Normalisation

MNIST_FILES = {
    "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def cifar10(request: Request) -> ImageSet:
    """CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 images 32x32, 10 classes."""
    return _read_cifar(request, CIFAR10, statistics.CIFAR10)


def cifar100(request: Request) -> ImageSet:
    """CIFAR-100 (Krizhevsky 2009): 50,000 + 10,000 images 32x32, 100 classes."""
    return _read_cifar(request, CIFAR100, statistics.CIFAR100)


def mnist(request: Request) -> ImageSet:
    """MNIST (LeCun and others 1998): 60,000 + 10,000 grey images 28x28, 10 classes."""
    root = request.folder
    advice = f"fetch its four .gz files from {MNIST.mirrors[0]} and unpack them in {root / 'MNIST' / 'raw'}"
    _make_present(request, MNIST_FILES, lambda: MNIST(str(root), download=True), advice)
    train, test = _read_both(request, MNIST)
    return ImageSet(
        train=_images(train.data.numpy()[..., None], train.targets),
        test=_images(test.data.numpy()[..., None], test.targets),
        class_names=[str(digit) for digit in range(10)],
        image_size=28,
        mean=statistics.MNIST.mean,
        std=statistics.MNIST.std,
        augmentation=PadCropFlip(pad=2, flip=False),
    )


def _read_cifar(request: Request, kind: type[CIFAR10], normalisation: Normalisation) -> ImageSet:
    root = request.folder
    listed = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
    files = {f"{kind.base_folder}/{name}": md5 for name, md5 in listed}
    advice = f"fetch {kind.url} and unpack it in {root}"
    _make_present(request, files, lambda: kind(str(root), download=True), advice)
    train, test = _read_both(request, _without_md5(kind))
    return ImageSet(
        train=_images(train.data, train.targets),
        test=_images(test.data, test.targets),
        class_names=list(train.classes),
        image_size=32,
        mean=normalisation.mean,
        std=normalisation.std,
        augmentation=PadCropFlip(pad=4, flip=True),
    )


def _make_present(request: Request, files: dict[str, str], fetch: Callable[[], VisionDataset], advice: str) -> None:
    """Fetches what is missing, where allowed; checks the md5 sums of what was there, where asked for."""
    root = request.folder
    missing = [file for file in files if not (root / file).is_file()]
    if missing:
        lack = f"{request.name} is not in {root}, which has no {missing[0]}"
        if not request.download:
            raise FileNotFoundError(f"{lack}: {advice}, or allow the download with --download true")
        absent = [folder for folder in (root, *root.parents) if not folder.exists()]
        try:
            fetch()
        except (OSError, RuntimeError, HTTPException) as error:
            _remove_empty([*sorted(root.rglob("*"), reverse=True), *absent])
            raise FileNotFoundError(f"{lack}, and cannot be downloaded ({_one_line(error)}): {advice}") from error
    elif request.verify:
        differing = [Path(file).name for file, md5 in files.items() if not check_integrity(root / file, md5)]
        if differing:
            raise ValueError(
                f"{request.name} in {root} is not as published, the md5 sums of {', '.join(differing)} "
                f"differ: trust these files with --verify false, or remove them and {advice}"
            )


def _remove_empty(paths: list[Path]) -> None:
    """Of these paths, deepest first, the folders that a download made and left empty."""
    for path in paths:
        with suppress(OSError):
            path.rmdir()


def _without_md5(kind: type[CIFAR10]) -> type[CIFAR10]:
    """The same data set for files whose sums have been checked, or are not to be."""
    lists = {key: [[name, None] for name, _ in getattr(kind, key)] for key in ("train_list", "test_list")}
    return type(kind.__name__, (kind,), {**lists, "meta": {**kind.meta, "md5": None}})


def _read_both(request: Request, kind: type[VisionDataset]) -> tuple[VisionDataset, VisionDataset]:
    try:
        return kind(str(request.folder), train=True), kind(str(request.folder), train=False)
    except Exception as error:  # a damaged pickle can raise anything
        raise ValueError(
            f"{request.name} in {request.folder} cannot be read ({_one_line(error)}): remove it and fetch it again"
        ) from error


def _images(pixels: np.ndarray, labels: torch.Tensor | list[int]) -> MemoryImages:
    """From uint8 [images, height, width, channels]."""
    channels_first = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return MemoryImages(channels_first, torch.as_tensor(labels, dtype=torch.int64))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
