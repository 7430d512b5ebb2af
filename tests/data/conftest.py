"""Tiny data sets in the forms that the real ones have."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_cifar(home: Path, files: dict[str, int], label_key: str, classes: int) -> None:
    """Pickled batches of so many images a file, in CIFAR's form, with the names of the classes."""
    home.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for name, images in files.items():
        labels = (np.arange(images) % classes).tolist()
        pixels = draws.integers(0, 256, (images, 3072), dtype=np.uint8)
        (home / name).write_bytes(pickle.dumps({label_key: labels, "data": pixels}, protocol=2))


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    """A --data-dir with a cifar10 of 5 x 12 + 20 images."""
    home = tmp_path / "cifar10" / "cifar-10-batches-py"
    write_cifar(home, {f"data_batch_{part}": 12 for part in range(1, 6)} | {"test_batch": 20}, "labels", 10)
    names = [f"class {label}" for label in range(10)]
    (home / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    return tmp_path


@pytest.fixture
def cifar100(tmp_path: Path) -> Path:
    """A --data-dir with a cifar100 of 200 + 100 images."""
    home = tmp_path / "cifar100" / "cifar-100-python"
    write_cifar(home, {"train": 200, "test": 100}, "fine_labels", 100)
    names = [f"class {label}" for label in range(100)]
    (home / "meta").write_bytes(pickle.dumps({"fine_label_names": names}, protocol=2))
    return tmp_path


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """A --data-dir with a mnist of 30 + 10 images: image i is i grey everywhere, of class i % 10."""
    home = tmp_path / "mnist" / "MNIST" / "raw"
    home.mkdir(parents=True)
    for stem, images in (("train", 30), ("t10k", 10)):
        pixels = np.full((images, 28, 28), np.arange(images)[:, None, None], dtype=np.uint8)
        labels = (np.arange(images) % 10).astype(np.uint8)
        for array, kind in ((pixels, "images-idx3"), (labels, "labels-idx1")):
            numbers = (0x0800 + array.ndim, *array.shape)
            head = b"".join(number.to_bytes(4, "big") for number in numbers)
            (home / f"{stem}-{kind}-ubyte").write_bytes(head + array.tobytes())
    return tmp_path


def write_photograph(path: Path, number: int, width: int = 40, height: int = 30) -> None:
    draws = np.random.default_rng(number)
    small = Image.fromarray(draws.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    small.resize((width, height), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A --data-dir with a set `birds` of 3 classes, 8 training and 3 validation images each, JPEG and PNG."""
    number = 0
    for split, images in (("train", 8), ("val", 3)):
        for name in ("crow", "heron", "owl"):
            folder = tmp_path / "birds" / split / name
            folder.mkdir(parents=True)
            for image in range(images):
                number += 1
                suffix = "png" if image == 0 else "JPEG"
                write_photograph(folder / f"{name}_{image}.{suffix}", number)
    return tmp_path
