"""Tiny data sets in the forms that the real ones have."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import imagenet_archives
from tests.data.record_pieces import WNIDS, add, jpeg, picture, write_raw


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


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of 12 images and their labels."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for number in range(12):
        picture(number, size=(8, 8)).save(images / f"{number}.png")
        (labels / f"{number}.txt").write_text(f" {number % 4}\n")
    return images, labels


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """A small ILSVRC2012: 3 classes of 5 training images, 6 validation images; one is a PNG, one CMYK, one grey."""
    raw = tmp_path / "raw"
    raw.mkdir()
    number = 0
    with tarfile.open(raw / imagenet_archives.TRAIN_ARCHIVE, "w") as outer:
        for wnid in reversed(WNIDS):
            inner_file = io.BytesIO()
            with tarfile.open(fileobj=inner_file, mode="w") as inner:
                for image in range(5):
                    number += 1
                    mode = {3: "P", 4: "CMYK", 7: "L"}.get(number, "RGB")
                    add(inner, f"{wnid}_{image}.JPEG", jpeg(number, mode))
            add(outer, f"{wnid}.tar", inner_file.getvalue())
    with tarfile.open(raw / imagenet_archives.VALIDATION_ARCHIVE, "w") as outer:
        for number in reversed(range(1, 7)):
            add(outer, f"ILSVRC2012_val_{number:08d}.JPEG", jpeg(100 + number))
    (raw / imagenet_archives.VALIDATION_LABELS).write_text("".join(f"{WNIDS[n % 3]}\n" for n in range(6)))
    return raw


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A --data-dir with a set `squares` of 40 + 15 raw examples in five and three shards."""
    for shard in range(5):
        write_raw(tmp_path / "squares" / "train" / f"train-{shard:05d}-of-00005", range(8 * shard, 8 * shard + 8))
    for shard in range(3):
        write_raw(tmp_path / "squares" / f"test{shard}.tfrecords", range(100 + 5 * shard, 105 + 5 * shard))
    return tmp_path
