"""Photographs for measurements: JPEG files of a folder data set, drawn so that they are as large as real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 4
SIDES = {224: (500, 400), 32: (32, 32)}
"""Width and height of the files by the pixels that a network sees; ImageNet's are about that large."""


def drawn(seed: int, width: int, height: int) -> Image.Image:
    """An RGB image with structure at all scales, as photographs have it: noise, enlarged from several sizes."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for divisor, share in ((64, 0.4), (16, 0.3), (4, 0.2), (1, 0.06)):
        small = generator.random((max(2, height // divisor), max(2, width // divisor), 3), np.float32)
        coarse = Image.fromarray((small * 255).astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        total += share * np.asarray(coarse, np.float32)
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def write_folder(folder: Path, images: int, size: int) -> int:
    """Write a folder data set of so many training images, and as many test images as classes.

    Args:
        folder: gets train/<class>/<image>.jpg and val/<class>/<image>.jpg.
        images: for training.
        size: pixels that a network sees; see SIDES.

    Returns:
        The mean size of a training file in bytes.
    """
    written = 0
    for part, count in (("train", images), ("val", CLASSES)):
        for number in range(count):
            path = folder / part / f"class_{number % CLASSES}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn(number, *SIDES.get(size, (size, size))).save(path, quality=90)
            written += path.stat().st_size if part == "train" else 0
    return round(written / images)
