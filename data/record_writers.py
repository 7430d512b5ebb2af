"""TFRecord files made from folders of images, from ImageNet's archives, or from any data set that the project knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data.augmentation import PadCropFlip
from data.image_files import MAX_IMAGE_PIXELS
from data.imagenet_archives import (
    TRAIN_ARCHIVE,
    VALIDATION_ARCHIVE,
    VALIDATION_LABELS,
    training_archive,
    validation_archive,
)
from data.record_descriptions import DESCRIPTION, description
from data.record_files import write_records
from data.record_makers import class_folders, label_pairs, labelled_records, records_of
from data.record_shards import Part, check_no_shards, describe, write_parts
from data.sources import ImageSet


def write_labelled(
    image_dir: Path, label_dir: Path, path: Path, progress: bool = True, *, max_pixels: int = MAX_IMAGE_PIXELS
) -> int:
    """Write the raw records of a folder of images and one of labels into one file; their number.

    All images have as many channels as the first, 1 or 3. Raises as `label_pairs`, or ValueError at an image that
    cannot be read; no file is left then.
    """
    pairs = label_pairs(image_dir, label_dir)
    check_no_shards(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = tqdm(pairs, desc=path.name, unit="image", disable=not progress)
    written = write_records(path, labelled_records(shown, max_pixels))
    if other := description(path):
        other[0].unlink()
    return written


def write_image_folders(
    folder: Path,
    out: Path,
    shards: int,
    *,
    processes: int = 1,
    progress: bool = True,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> dict[str, int]:
    """Shards of <folder>/{train,val}/<class>/<image> in <out>/{train,validation}; records written of each.

    Without such folders in it, `folder` is taken to hold the class folders themselves, and `out` gets train alone.
    """
    splits = {"train": folder / "train", "validation": folder / "val"}
    if not splits["train"].is_dir():
        splits = {"train": folder}
    found = {name: class_folders(place, max_pixels) for name, place in splits.items()}
    names = found["train"].synsets
    for name, photographs in found.items():
        if photographs.synsets != names:
            raise ValueError(f"the classes of {splits[name]} are not those of {splits['train']}")
    parts = {name: Part(out / name, photographs, min(shards, len(photographs))) for name, photographs in found.items()}
    return write_parts(out, parts, processes=processes, progress=progress, class_names=names)


def write_imagenet(
    raw: Path,
    out: Path,
    *,
    train_shards: int = 1024,
    validation_shards: int = 128,
    processes: int = 1,
    progress: bool = True,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> dict[str, int]:
    """Shards of ILSVRC2012 in <out>/{train,validation} from its two archives and the labels of the second, in `raw`.

    Labels count the sorted WNIDs from 1. Called again it goes on with the shards that are missing. Returns the number
    of records written of each. Raises FileNotFoundError or ValueError where an archive is missing, damaged, or does
    not fit.
    """
    for name in (TRAIN_ARCHIVE, VALIDATION_ARCHIVE, VALIDATION_LABELS):
        if not (raw / name).is_file():
            raise FileNotFoundError(f"there is no {raw / name}")
    train = replace(training_archive(raw / TRAIN_ARCHIVE, progress), max_pixels=max_pixels)
    validation = validation_archive(raw / VALIDATION_ARCHIVE, raw / VALIDATION_LABELS, train.synsets)
    validation = replace(validation, max_pixels=max_pixels)
    parts = {
        "train": Part(out / "train", train, train_shards),
        "validation": Part(out / "validation", validation, validation_shards),
    }
    return write_parts(out, parts, processes=processes, progress=progress, class_names=list(train.synsets))


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
    parts = {"train": records_of(image_set.train), "test": records_of(image_set.test)}
    if shards != 1:
        given = {name: Part(out, records, shards) for name, records in parts.items()}
        return write_parts(out, given, processes=processes, progress=progress, **facts)
    out.mkdir(parents=True, exist_ok=True)
    paths = {name: out / f"{name}.tfrecord" for name in parts}
    for path in paths.values():
        check_no_shards(path)
    (out / DESCRIPTION).unlink(missing_ok=True)
    written = {}
    for name, records in parts.items():
        order = tqdm(range(len(records)), desc=name, unit="image", disable=not progress)
        written[name] = write_records(paths[name], map(records.record, order))
    describe(out, [out / name for name in parts], **facts)
    return written
