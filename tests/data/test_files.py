"""Image files that belong to no data set, as evaluation would see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data
from data.files import FileBatch, Preparation, file_batches, middle, named_files, normalisation_of
from data.sources import MemoryImages
from data.statistics import CIFAR10, IMAGENET, MNIST, Normalisation

HALF = Normalisation((0.5,) * 3, (0.25,) * 3)


def saved(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def only(files: list[Path], preparation: Preparation) -> FileBatch:
    (batch,) = file_batches(files, preparation, len(files))
    return batch


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_images_of_a_set_in_memory_are_prepared_as_its_evaluation_does(tmp_path, standardise, in_channels):
    loaded = data.load("digits", image_size=12, in_channels=in_channels, standardise=standardise, test_batch_size=5)
    expected = next(loaded.test.epoch(0)).images
    images = data.find(data.sources.Request("digits", None)).test
    assert isinstance(images, MemoryImages)
    files = [saved(tmp_path / f"{i}.png", images.pixels[i, 0].numpy()) for i in range(5)]
    preparation = Preparation(12, Normalisation(loaded.mean, loaded.std), loaded.whole_images, standardise)
    torch.testing.assert_close(only(files, preparation).images, expected, rtol=0, atol=2e-6)


def test_photographs_are_prepared_as_their_evaluation_does(tmp_path):
    files = []
    for part in ("train", "val"):
        for name, shape in (("heron", (40, 60, 3)), ("owl", (50, 30, 3))):
            files.append(saved(tmp_path / "birds" / part / name / "a.png", noise(*shape)))
    loaded = data.load("birds", tmp_path, image_size=24, workers=0, test_batch_size=2)
    assert not loaded.whole_images
    preparation = Preparation(24, Normalisation(loaded.mean, loaded.std), loaded.whole_images)
    torch.testing.assert_close(
        only(files[2:], preparation).images, next(loaded.test.epoch(0)).images, rtol=0, atol=2e-6
    )


def test_order_is_kept_and_files_that_cannot_be_read_are_told(tmp_path):
    good = [saved(tmp_path / f"{i}.png", np.full((4, 4, 3), 10 * i, np.uint8)) for i in range(7)]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    files = [*good[:3], bad, *good[3:]]
    batches = list(file_batches(files, Preparation(4, HALF, whole=True), 3, threads=4))
    assert [batch.files for batch in batches] == [good[:3], good[3:5], good[5:]]
    assert [list(batch.unreadable) for batch in batches] == [[], [bad], []]
    assert "cannot be read as an image" in batches[1].unreadable[bad]
    values = torch.cat([batch.images[:, 0, 0, 0] for batch in batches])
    torch.testing.assert_close(values, (torch.arange(7) * 10 / 255 - 0.5) / 0.25)


def test_an_image_with_more_pixels_than_are_allowed_is_left_out(tmp_path):
    path = saved(tmp_path / "large.png", noise(9, 9))
    batch = only([path], Preparation(4, HALF, whole=True, max_pixels=80))
    assert "more than max_image_pixels 80 allows" in batch.unreadable[path]


def test_a_batch_of_broken_files_is_empty(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    batch = only([tmp_path / "bad.png"], Preparation(4, HALF, whole=True))
    assert batch.images.shape == (0, 3, 4, 4)


def test_files_of_folders_are_found_at_any_depth(tmp_path):
    inside = [saved(tmp_path / "set" / name, noise(2, 2)) for name in ("a/2.png", "a/10.bmp", "b.jpg")]
    (tmp_path / "set" / "notes.txt").write_text("no image")
    saved(tmp_path / "set" / ".hidden.png", noise(2, 2))
    odd = saved(tmp_path / "photo.png", noise(2, 2)).rename(tmp_path / "photo")
    assert named_files([odd, tmp_path / "set"]) == [odd, inside[2], inside[1], inside[0]]
    with pytest.raises(ValueError, match="there is no file"):
        named_files([tmp_path / "missing.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no images"):
        named_files([tmp_path / "empty"])


def test_a_long_image_keeps_its_middle():
    image = torch.arange(2 * 9).view(1, 2, 9)
    assert torch.equal(middle(image, 1), image[:, :, 3:5])
    assert torch.equal(middle(image.mT, 2), image[:, :, 2:6].mT)
    assert torch.equal(middle(image, 5), image)


def test_a_very_long_image_takes_no_more_memory_than_its_middle(tmp_path):
    path = saved(tmp_path / "line.png", noise(1, 60_000))
    batch = only([path], Preparation(224, HALF, whole=False))  # resized as a whole it would be 11 GB
    assert batch.images.shape == (1, 3, 224, 224)


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [("cifar10", 3, CIFAR10), ("birds", 3, IMAGENET), ("birds", 1, IMAGENET.grey()), ("records", 3, IMAGENET)],
)
def test_normalisation_where_nothing_else_is_known(name, channels, expected):
    assert normalisation_of(name, channels) == expected


def test_grey_figures_are_repeated():
    assert normalisation_of("mnist", 3) == Normalisation(MNIST.mean * 3, MNIST.std * 3)


def test_two_channels_are_refused():
    with pytest.raises(ValueError, match="1 or 3 channels, and the network takes 2"):
        Preparation(8, Normalisation((0.5,) * 2, (0.5,) * 2), whole=True)
