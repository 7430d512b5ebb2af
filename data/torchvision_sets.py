"""CIFAR-10, CIFAR-100 and MNIST in torchvision's layout in <data-dir>/<name>, fetched by it where absent.

CIFAR's files are pickles; they are read as plain values (`data.plain_pickle`), so that nothing in them is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100, MNIST
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

from data import plain_pickle, statistics
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
    with _named(request):
        train, test = MNIST(str(root), train=True), MNIST(str(root), train=False)
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
    archive = {"filename": kind.filename, "md5": kind.tgz_md5}
    _make_present(request, files, lambda: download_and_extract_archive(kind.url, str(root), **archive), advice)
    home = root / kind.base_folder
    with _named(request):
        names = _class_names(home / kind.meta["filename"], kind.meta["key"])
        train, test = (_batches(home, [name for name, _ in part]) for part in (kind.train_list, kind.test_list))
    return ImageSet(
        train=train,
        test=test,
        class_names=names,
        image_size=32,
        mean=normalisation.mean,
        std=normalisation.std,
        augmentation=PadCropFlip(pad=4, flip=True),
    )


def _make_present(request: Request, files: dict[str, str], fetch: Callable[[], object], advice: str) -> None:
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


@contextmanager
def _named(request: Request) -> Iterator[None]:
    """What goes wrong in reading a data set's files is said of it."""
    try:
        yield
    except Exception as error:  # damaged files can raise anything
        raise ValueError(
            f"{request.name} in {request.folder} cannot be read ({_one_line(error)}): remove it and fetch it again"
        ) from error


def _batches(home: Path, names: Sequence[str]) -> MemoryImages:
    """The images of some of CIFAR's files, and their labels (CIFAR-100's fine ones)."""
    parts = [_batch(home / name) for name in names]
    pixels, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return MemoryImages(torch.from_numpy(pixels), torch.from_numpy(labels))


def _batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [images, 3, 32, 32] and int64 [images]. Raises ValueError naming the file."""
    entry = _entry(path)
    pixels, labels = (_array(path, entry, *keys) for keys in (("data",), ("labels", "fine_labels")))
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3 * 32 * 32:
        raise ValueError(f"data of {path.name} is no uint8 [images, 3072]")
    if labels.shape != (len(pixels),) or labels.dtype.kind not in "iu":
        raise ValueError(f"the labels of {path.name} are not one whole number for each of {len(pixels)} images")
    return pixels.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def _class_names(path: Path, key: str) -> list[str]:
    names = _entry(path).get(key)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key} of {path.name} is no list of names")
    return names


def _entry(path: Path) -> dict[Any, Any]:
    """What a file holds by the names of its parts."""
    try:
        content = plain_pickle.load(path)
    except plain_pickle.PlainPickleError as error:
        raise ValueError(f"of {path.name}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no dict")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}


def _array(path: Path, entry: dict[Any, Any], *keys: str) -> np.ndarray:
    """The part that has one of these names, as an array."""
    value = next((entry[key] for key in keys if key in entry), None)
    if isinstance(value, plain_pickle.PickledArray):
        return value.array()
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        raise ValueError(f"{keys[0]} of {path.name} is neither an array nor a list of whole numbers")
    return np.array(value)


def _images(pixels: np.ndarray, labels: torch.Tensor | list[int]) -> MemoryImages:
    """From uint8 [images, height, width, channels]."""
    channels_first = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return MemoryImages(channels_first, torch.as_tensor(labels, dtype=torch.int64))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
