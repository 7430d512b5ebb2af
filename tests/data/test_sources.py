"""What a data set is before any loader: checked when it is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data.augmentation import PadCropFlip
from data.sources import ImageSet, MemoryImages, Request


def images(labels: list[int]) -> MemoryImages:
    pixels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return MemoryImages(pixels, torch.tensor(labels))


def test_images_and_labels_are_as_many() -> None:
    with pytest.raises(ValueError, match="there are 3 images and 2 labels"):
        MemoryImages(images([0, 1, 2]).pixels, torch.tensor([0, 1]))


def test_some_of_the_images_are_copied() -> None:
    whole = images([4, 5, 6])
    some = whole.subset(torch.tensor([2, 0]))
    assert (some.labels.tolist(), some.pixels[:, 0, 0, 0].tolist(), some.channels) == ([6, 4], [2, 0], 3)
    some.labels[0] = 9
    assert whole.labels.tolist() == [4, 5, 6]


@pytest.mark.parametrize(("train", "test"), [([0, 2], [1]), ([0, 1], [-1]), ([-1], [1])])
def test_labels_outside_of_the_classes_are_refused(train: list[int], test: list[int]) -> None:
    with pytest.raises(ValueError, match="there are labels outside of the 2 classes"):
        ImageSet(images(train), images(test), ["a", "b"], 2, (0.5,), (0.2,), PadCropFlip(pad=0, flip=False))


def test_a_folder_needs_a_data_directory(tmp_path: Path) -> None:
    assert Request("birds", tmp_path).folder == tmp_path / "birds"
    with pytest.raises(FileNotFoundError, match=r"The data set birds needs a data directory: give --data-dir DIR"):
        _ = Request("birds", None).folder
