"""TFRecord files made from folders of images, from ImageNet's archives, or from any data set that the project knows."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from tqdm import tqdm

from data.augmentation import PadCropFlip
from data.folders import FolderImages
from data.record_files import Features, write_records
from data.records import DESCRIPTION, MOST_CLASSES, description
from data.sources import Images, ImageSet, MemoryImages
from data.streams import end_with_parent, process_context

TRAIN_ARCHIVE, VALIDATION_ARCHIVE = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
VALIDATION_LABELS = "synset_labels.txt"
SHUFFLE_SEED = 2019


class Records(Protocol):
    """Records made one at a time, by index. Pickled once for each process."""

    def __len__(self) -> int: ...

    def record(self, index: int) -> Features: ...

    def fingerprint(self) -> str:
        """The same for the same records, wherever they are made from; of others it differs."""
        ...


def raw_record(pixels: np.ndarray, label: int) -> Features:
    """An image as uint8 [height, width, channels], and its class."""
    height, width = pixels.shape[:2]
    return {
        "height": (height, "int"),
        "width": (width, "int"),
        "label": (label, "int"),
        "image/raw": (np.ascontiguousarray(pixels).tobytes(), "byte"),
    }


def photograph_record(data: bytes, label: int, synset: str, name: str) -> Features:
    """A photograph as an RGB JPEG in ImageNet's form; `label` counts from 1. Grey JPEGs stay as they are.

    PNG files and CMYK JPEGs, which ImageNet has too, are converted. Raises ValueError where it is no image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if image.format != "JPEG" or image.mode not in ("RGB", "L"):
                converted = io.BytesIO()
                image.convert("RGB").save(converted, "JPEG", quality=100)
                data = converted.getvalue()
    except Exception as error:  # each of Pillow's formats has its own ways to fail
        raise ValueError(f"{name} cannot be read as an image ({error})") from error
    return {
        "image/encoded": (data, "byte"),
        "image/class/label": (label, "int"),
        "image/class/synset": (synset.encode(), "byte"),
        "image/height": (height, "int"),
        "image/width": (width, "int"),
        "image/channels": (3, "int"),
        "image/colorspace": (b"RGB", "byte"),
        "image/format": (b"JPEG", "byte"),
        "image/filename": (Path(name).name.encode(), "byte"),
    }


# --- a folder of images and a folder of labels


def _order(path: Path) -> tuple[int, int, str]:
    return (0, int(path.stem), "") if path.stem.isdecimal() else (1, 0, path.stem)


def label_pairs(image_dir: Path, label_dir: Path) -> list[tuple[Path, int]]:
    """Each image with the integer that the text file of its name holds, 0.png with 0.txt, numbers in their order.

    Raises FileNotFoundError or ValueError naming the image or label that has no partner, or no integer.
    """
    for folder in (image_dir, label_dir):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
    images = sorted(
        (path for path in image_dir.iterdir() if path.suffix.lower() in IMG_EXTENSIONS and path.name[0] != "."),
        key=_order,
    )
    if not images:
        raise ValueError(f"{image_dir} has no images")
    stems: dict[str, Path] = {}
    for path in images:
        if path.stem in stems:
            raise ValueError(
                f"{stems[path.stem].name} and {path.name} in {image_dir} would share the label {path.stem}.txt"
            )
        stems[path.stem] = path
    for path in sorted(label_dir.glob("*.txt"), key=_order):
        if path.stem not in stems:
            raise ValueError(f"the label {path} has no image in {image_dir}")
    return [(path, _label(label_dir / f"{path.stem}.txt", path)) for path in images]


def _label(path: Path, image: Path) -> int:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise ValueError(f"the image {image.name} has no label: there is no {path}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the label {path} is no text") from None
    if not re.fullmatch("[0-9]{1,6}", text) or int(text) >= MOST_CLASSES:
        raise ValueError(f"the label {path} must be an integer from 0 to {MOST_CLASSES - 1}, not {text[:40]!r}")
    return int(text)


def write_labelled(image_dir: Path, label_dir: Path, path: Path, progress: bool = True) -> int:
    """Write the raw records of a folder of images and one of labels into one file; their number.

    All images have as many channels as the first, 1 or 3. Raises as `label_pairs`, or ValueError at an image that
    cannot be read; no file is left then.
    """
    pairs = label_pairs(image_dir, label_dir)
    _check_no_shards(path)
    path.parent.mkdir(parents=True, exist_ok=True)

    def records() -> Iterator[Features]:
        mode = None
        for image_path, label in tqdm(pairs, desc=path.name, unit="image", disable=not progress):
            try:
                with Image.open(image_path) as opened:
                    image = _of_eight_bits(opened)
                    mode = mode or ("L" if image.mode in ("1", "L") else "RGB")
                    pixels = np.asarray(image.convert(mode))
            except Exception as error:  # each of Pillow's formats has its own ways to fail
                raise ValueError(f"{image_path} cannot be read as an image ({error})") from error
            yield raw_record(pixels, label)

    written = write_records(path, records())
    if other := description(path):
        other[0].unlink()
    return written


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits with its higher 8, where Pillow would clip; others as they are."""
    if not image.mode.startswith("I;16"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


# --- shards


def shard_name(name: str, shard: int, shards: int) -> str:
    return f"{name}-{shard:05d}-of-{shards:05d}"


class Part(NamedTuple):
    """Records that belong into so many files of a folder."""

    folder: Path
    records: Records
    shards: int


def write_parts(
    out: Path,
    parts: Mapping[str, Part],
    *,
    processes: int = 1,
    progress: bool = True,
    **facts: Any,
) -> dict[str, int]:
    """Write the files of each part, such as train, that are not there yet, and beside them in `out` what they are.

    Every record is in one file. Training records are dealt out at random, always in the same way. Files appear whole;
    a call that was interrupted goes on with what is missing. Returns the number of records written of each part.

    Raises ValueError, before anything is written, where a folder holds files of that name made from other records or
    into another number, be it a file without a number.
    """
    for name, part in parts.items():
        count = len(part.records)
        if not 1 <= part.shards <= count:
            raise ValueError(f"{count} {name} records fit into 1 to {count} files, not {part.shards}")
    for name, part in parts.items():
        _check_plan(name, part)
    (out / DESCRIPTION).unlink(missing_ok=True)
    written = {name: _write_part(name, part, processes, progress) for name, part in parts.items()}
    describe(out, [part.folder / name for name, part in parts.items()], **facts)
    return written


def _write_part(name: str, part: Part, processes: int, progress: bool) -> int:
    count = len(part.records)
    # the newer generators may draw otherwise in another version of NumPy
    shuffled = np.random.RandomState(SHUFFLE_SEED).permutation
    order = shuffled(count) if name == "train" else np.arange(count)
    paths = [part.folder / shard_name(name, shard, part.shards) for shard in range(part.shards)]
    indices = np.array_split(order, part.shards)
    jobs = [(path, some) for path, some in zip(paths, indices, strict=True) if not path.exists()]
    missing = sum(len(some) for _, some in jobs)
    with tqdm(total=count, initial=count - missing, desc=name, unit="image", disable=not progress) as bar:
        for written in _written(part.records, jobs, processes):
            bar.update(written)
    return missing


def _check_plan(name: str, part: Part) -> None:
    """Note what the files are made from, or compare it with what was noted."""
    folder = part.folder
    folder.mkdir(parents=True, exist_ok=True)
    plan = {"records": len(part.records), "shards": part.shards, "made_from": part.records.fingerprint()}
    noted = folder / f".{name}.plan.json"
    found = [*folder.glob(f"{name}.tfrecord"), *sorted(folder.glob(f"{name}-*-of-*"))]
    known = noted.exists() and json.loads(noted.read_text(encoding="utf-8")) == plan
    if found and (not known or found[0].suffix == ".tfrecord"):
        raise ValueError(
            f"{folder} holds {found[0].name}, made from other images or into another number of files: "
            "remove these files, or write into another folder"
        )
    for path in folder.glob(f".{name}-*.tmp"):
        if _ended(path.name.split(".")[-2]):
            path.unlink(missing_ok=True)
    noted.write_text(json.dumps(plan), encoding="utf-8")


def _ended(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False


def _check_no_shards(path: Path) -> None:
    """That a file which is to hold all records stands alone."""
    if found := sorted(path.parent.glob(f"{path.stem}-*-of-*")):
        raise ValueError(
            f"{path.parent} holds {found[0].name}, which would be read together with {path.name}: "
            "remove these files, or write into another folder"
        )


def _written(records: Records, jobs: Sequence[tuple[Path, np.ndarray]], processes: int) -> Iterator[int]:
    """How many records each finished file has, as they finish."""
    if processes <= 1 or len(jobs) <= 1:
        for path, indices in jobs:
            yield _write_shard(records, path, indices)
        return
    with ProcessPoolExecutor(min(processes, len(jobs)), process_context(), _begin, (records,)) as pool:
        futures: list[Future[int]] = [pool.submit(_work, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise ValueError("a writing process ended (out of memory?); call again to go on") from error
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


_own: Records


def _begin(records: Records) -> None:
    global _own
    _own = records
    torch.set_num_threads(1)
    end_with_parent()


def _work(path: Path, indices: np.ndarray) -> int:
    return _write_shard(_own, path, indices)


def _write_shard(records: Records, path: Path, indices: np.ndarray) -> int:
    return write_records(path, (records.record(int(index)) for index in indices))


def describe(folder: Path, files: Sequence[Path], **facts: Any) -> None:
    """Note in a folder what a reader of the images wants to know: names of the classes, mean, deviation.

    `files` are those in it that this holds of, without the number of a shard and the suffix.
    """
    facts["files"] = [file.relative_to(folder).as_posix() for file in files]
    temporary = folder / f".{DESCRIPTION}.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    temporary.replace(folder / DESCRIPTION)


# --- photographs: in class folders, or in ImageNet's archives


@dataclass(frozen=True)
class Photographs:
    """Files of photographs, or parts of an archive.

    Attributes:
        names: of each photograph; where there is no archive, its path.
        labels: of each, an index of `synsets`.
        archive: the file that holds them all, at `places` (offset and length of each).
    """

    names: Sequence[str]
    labels: Sequence[int]
    synsets: Sequence[str]
    archive: Path | None = None
    places: Sequence[tuple[int, int]] = ()

    def __len__(self) -> int:
        return len(self.names)

    def fingerprint(self) -> str:
        """Of name, size and class of each; paths as seen from the folder that holds all of them."""
        if self.archive is None:
            root = os.path.commonpath(self.names)
            names = [os.path.relpath(name, root) for name in self.names]
            sizes = map(os.path.getsize, self.names)
        else:
            names, sizes = self.names, (size for _, size in self.places)
        digest = hashlib.sha256(json.dumps([*self.synsets]).encode())
        for photograph in zip(names, sizes, self.labels, strict=True):
            digest.update(json.dumps(photograph).encode())
        return digest.hexdigest()

    def record(self, index: int) -> Features:
        label = self.labels[index]
        return photograph_record(self._data(index), label + 1, self.synsets[label], self.names[index])

    def _data(self, index: int) -> bytes:
        if self.archive is None:
            return Path(self.names[index]).read_bytes()
        offset, length = self.places[index]
        with self.archive.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)


def class_folders(folder: Path) -> Photographs:
    """The images in <folder>/<class>/. Raises ValueError where a class has none, or there is no class."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    images = FolderImages(folder, 3)
    return Photographs(images.paths(), images.labels.tolist(), images.class_names)


def write_image_folders(
    folder: Path, out: Path, shards: int, *, processes: int = 1, progress: bool = True
) -> dict[str, int]:
    """Shards of <folder>/{train,val}/<class>/<image> in <out>/{train,validation}; records written of each.

    Without such folders in it, `folder` is taken to hold the class folders themselves, and `out` gets train alone.
    """
    splits = {"train": folder / "train", "validation": folder / "val"}
    if not splits["train"].is_dir():
        splits = {"train": folder}
    found = {name: class_folders(place) for name, place in splits.items()}
    names = found["train"].synsets
    for name, photographs in found.items():
        if photographs.synsets != names:
            raise ValueError(f"the classes of {splits[name]} are not those of {splits['train']}")
    parts = {name: Part(out / name, photographs, min(shards, len(photographs))) for name, photographs in found.items()}
    return write_parts(out, parts, processes=processes, progress=progress, class_names=names)


class _Slice(io.RawIOBase):
    """A stretch of a file as a file of its own."""

    def __init__(self, path: Path, offset: int, length: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._offset, self._length, self._place = offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._length}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        length = max(0, min(len(buffer), self._length - self._place))
        data = os.pread(self._file.fileno(), length, self._offset + self._place)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _members(path: Path, offset: int, length: int) -> Iterator[tuple[str, int, int]]:
    """Name, offset in the whole file, and length of every file of a tar archive that is a part of a file."""
    part = _Slice(path, offset, length)
    try:
        with io.BufferedReader(part) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if member.isfile():
                    yield Path(member.name).name, offset + member.offset_data, member.size
    except tarfile.TarError as error:
        raise ValueError(f"{path} is damaged, or no tar archive ({error})") from error


def _whole(path: Path) -> Iterator[tuple[str, int, int]]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    return _members(path, 0, path.stat().st_size)


def training_archive(path: Path, progress: bool = True) -> Photographs:
    """ImageNet's training archive: a tar archive a class, each named after its WNID; classes in their order."""
    names, labels, places = [], [], []
    classes = sorted((name, offset, length) for name, offset, length in _whole(path) if name.endswith(".tar"))
    if not classes:
        raise ValueError(f"{path} has no archives of classes, such as n01440764.tar")
    for label, (_, offset, length) in enumerate(tqdm(classes, desc=f"listing {path.name}", disable=not progress)):
        for name, place, size in sorted(_members(path, offset, length)):
            names.append(name)
            labels.append(label)
            places.append((place, size))
    return Photographs(names, labels, [name.removesuffix(".tar") for name, _, _ in classes], path, places)


def validation_archive(path: Path, labels_path: Path, synsets: Sequence[str]) -> Photographs:
    """ImageNet's validation archive; `labels_path` has a line with the WNID of each image, in the order of names."""
    if not labels_path.is_file():
        raise FileNotFoundError(f"there is no {labels_path}")
    found = sorted(_whole(path))
    lines = labels_path.read_text(encoding="utf-8").split()
    if len(lines) != len(found):
        raise ValueError(f"{labels_path} has {len(lines)} labels for the {len(found)} images of {path.name}")
    numbers = {synset: label for label, synset in enumerate(synsets)}
    if unknown := [line for line in lines if line not in numbers]:
        raise ValueError(f"{labels_path} names {unknown[0]}, which {TRAIN_ARCHIVE} has no class of")
    names, places = [name for name, _, _ in found], [(offset, length) for _, offset, length in found]
    return Photographs(names, [numbers[line] for line in lines], synsets, path, places)


def write_imagenet(
    raw: Path,
    out: Path,
    *,
    train_shards: int = 1024,
    validation_shards: int = 128,
    processes: int = 1,
    progress: bool = True,
) -> dict[str, int]:
    """Shards of ILSVRC2012 in <out>/{train,validation} from its two archives and the labels of the second, in `raw`.

    Labels count the sorted WNIDs from 1. Called again it goes on with the shards that are missing. Returns the number
    of records written of each. Raises FileNotFoundError or ValueError where an archive is missing, damaged, or does
    not fit.
    """
    for name in (TRAIN_ARCHIVE, VALIDATION_ARCHIVE, VALIDATION_LABELS):
        if not (raw / name).is_file():
            raise FileNotFoundError(f"there is no {raw / name}")
    train = training_archive(raw / TRAIN_ARCHIVE, progress)
    validation = validation_archive(raw / VALIDATION_ARCHIVE, raw / VALIDATION_LABELS, train.synsets)
    parts = {
        "train": Part(out / "train", train, train_shards),
        "validation": Part(out / "validation", validation, validation_shards),
    }
    return write_parts(out, parts, processes=processes, progress=progress, class_names=list(train.synsets))


# --- any data set


@dataclass(frozen=True)
class RawImages:
    """The images of a part of a data set, undistorted, as raw records."""

    images: Images

    def __len__(self) -> int:
        return len(self.images.labels)

    def fingerprint(self) -> str:
        """Of labels and pixels; of images that are read one at a time, of their labels and kind."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images.labels))
        if isinstance(self.images, MemoryImages):
            digest.update(np.ascontiguousarray(self.images.pixels))
        digest.update(type(self.images).__name__.encode())
        return digest.hexdigest()

    def record(self, index: int) -> Features:
        return raw_record(self._pixels(index).permute(1, 2, 0).numpy(), int(self.images.labels[index]))

    def _pixels(self, index: int) -> Tensor:
        images = self.images
        return images.pixels[index] if isinstance(images, MemoryImages) else images.decode(index)


def write_image_set(
    image_set: ImageSet, out: Path, shards: int = 1, *, processes: int = 1, progress: bool = True
) -> dict[str, int]:
    """Raw records of a data set's training and test images, in <out>/{train,test}.tfrecord or so many shards.

    Photographs in class folders become records in ImageNet's form, as `write_image_folders` makes them.
    Returns the number of records written of each part.
    """
    augmentation = image_set.augmentation
    facts: dict[str, Any] = {"class_names": list(image_set.class_names), "image_size": image_set.image_size}
    facts |= {"mean": image_set.mean, "std": image_set.std}
    if isinstance(augmentation, PadCropFlip):
        facts |= {"pad": augmentation.pad, "flip": augmentation.flip}
    parts = {"train": _records(image_set.train), "test": _records(image_set.test)}
    if shards != 1:
        given = {name: Part(out, records, shards) for name, records in parts.items()}
        return write_parts(out, given, processes=processes, progress=progress, **facts)
    out.mkdir(parents=True, exist_ok=True)
    paths = {name: out / f"{name}.tfrecord" for name in parts}
    for path in paths.values():
        _check_no_shards(path)
    (out / DESCRIPTION).unlink(missing_ok=True)
    written = {}
    for name, records in parts.items():
        order = tqdm(range(len(records)), desc=name, unit="image", disable=not progress)
        written[name] = write_records(paths[name], map(records.record, order))
    describe(out, [out / name for name in parts], **facts)
    return written


def _records(images: Images) -> Records:
    if isinstance(images, FolderImages):
        return Photographs(images.paths(), images.labels.tolist(), images.class_names)
    return RawImages(images)
