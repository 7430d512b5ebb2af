"""scikit-learn's handwritten digits: 1,797 real images of 8x8 pixels, embedded in the package."""

from __future__ import annotations

import torch

from data.augmentation import PadCropFlip
from data.sources import ImageSet, MemoryImages, Request
from data.splits import stratified_split
from data.statistics import DIGITS

HELD_OUT_SHARE = 0.2
HELD_OUT_SEED = 8
LEVELS = 16  # grey levels above black


def read(request: Request) -> ImageSet:
    """The digits: at least 20 % of every class are the test images, always the same ones.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """
    from sklearn.datasets import load_digits  # takes a second, and worker processes need none of it

    digits = load_digits()
    pixels = torch.from_numpy(digits.images).mul(255 / LEVELS).round().to(torch.uint8)[:, None]
    images = MemoryImages(pixels, torch.from_numpy(digits.target).long())
    train, test = stratified_split(images.labels, HELD_OUT_SHARE, HELD_OUT_SEED, at_least=True)
    return ImageSet(
        train=images.subset(train),
        test=images.subset(test),
        class_names=[str(name) for name in digits.target_names],
        image_size=8,
        mean=DIGITS.mean,
        std=DIGITS.std,
        # a shift by a pixel; a mirrored 2 or 5 would be another sign
        augmentation=PadCropFlip(pad=1, flip=False),
    )
