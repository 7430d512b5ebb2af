from __future__ import annotations

import pickle
import shutil

import pytest
import torch
from PIL import Image

import data
from data.folders import FolderImages, PackedNames
from data.sources import UnreadableImageError


@pytest.mark.parametrize("names", [[], ["a"], ["", "x/y.png", "ünï", "\udcff bytes"]])
def test_packed_names_are_the_names(names):
    packed = PackedNames(names)
    assert list(packed) == names
    assert list(pickle.loads(pickle.dumps(packed))) == names


def test_images_are_listed_by_class_and_name(photographs):
    images = FolderImages(photographs / "birds" / "train", 3)
    assert images.class_names == ["crow", "heron", "owl"]
    assert images.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    decoded = images.decode(8)
    assert decoded.dtype == torch.uint8
    assert decoded.shape == (3, 30, 40)
    with Image.open(photographs / "birds" / "train" / "heron" / "heron_0.png") as expected:
        assert decoded[:, 5, 9].tolist() == list(expected.getpixel((9, 5)))


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_images_of_every_mode_are_read_as_the_network_sees_them(mode, photographs):
    path = photographs / "birds" / "train" / "crow" / "crow_00.tif"
    Image.new("RGB", (20, 10), (200, 100, 50)).convert(mode).save(path)
    for channels in (1, 3):
        images = FolderImages(photographs / "birds" / "train", channels)
        assert images.decode(1).shape == (channels, 10, 20)


def test_other_files_and_hidden_ones_are_not_images(photographs):
    folder = photographs / "birds" / "train"
    (folder / ".cache").mkdir()
    (folder / "crow" / "Thumbs.db").write_bytes(b"x")
    (folder / "crow" / "._crow_1.JPEG").write_bytes(b"x")
    assert len(FolderImages(folder, 3).labels) == 24


def test_an_image_that_cannot_be_read_names_its_file(photographs):
    folder = photographs / "birds" / "train"
    whole = (folder / "crow" / "crow_2.JPEG").read_bytes()
    images = FolderImages(folder, 3)
    for damage in (b"", b"no image", whole[: len(whole) // 2]):
        (folder / "crow" / "crow_2.JPEG").write_bytes(damage)
        with pytest.raises(UnreadableImageError, match=r"crow_2\.JPEG cannot be read as an image"):
            images.decode(2)
    (folder / "crow" / "crow_2.JPEG").unlink()
    with pytest.raises(UnreadableImageError, match=r"crow_2\.JPEG"):
        images.decode(2)


def test_folders_that_do_not_fit_end_in_a_sentence(photographs):
    birds = photographs / "birds"
    shutil.copytree(birds / "val" / "owl", birds / "val" / "wren")
    with pytest.raises(ValueError, match=r"train and val in .* differ: wren is in val and not in train"):
        data.load("birds", photographs)
    shutil.rmtree(birds / "val" / "wren")
    for image in (birds / "train" / "heron").iterdir():
        image.unlink()
    with pytest.raises(ValueError, match="heron has no images"):
        data.load("birds", photographs)
    shutil.rmtree(birds / "val")
    with pytest.raises(FileNotFoundError, match=r"birds .* has no val: put the images as .*train/<class>"):
        data.load("birds", photographs)
    (birds / "val").mkdir()
    shutil.rmtree(birds / "train")
    (birds / "train").mkdir()
    with pytest.raises(ValueError, match="train has no class folders"):
        data.load("birds", photographs)


def test_imagenet_says_where_it_comes_from(photographs):
    with pytest.raises(FileNotFoundError, match=r"imagenet is not in .*: fetch ILSVRC2012 from https://"):
        data.load("imagenet", photographs)
    (photographs / "birds").rename(photographs / "imagenet")
    loaded = data.load("imagenet", photographs, workers=0)
    assert loaded.class_names == ("crow", "heron", "owl")
    assert loaded.mean == (0.485, 0.456, 0.406)
    assert loaded.std == (0.229, 0.224, 0.225)


def test_photographs_have_one_or_three_channels(photographs):
    with pytest.raises(ValueError, match="1 or 3 channels, not in_channels 4"):
        data.load("birds", photographs, in_channels=4)
    grey = data.load("birds", photographs, in_channels=1, image_size=16, workers=0)
    assert next(iter(grey.test.epoch(0))).images.shape == (9, 1, 16, 16)
    assert len(grey.mean) == 1
