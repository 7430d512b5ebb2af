"""One decoder in all four places: folders of images, encoded records, and records made of either kind of folder."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import default_loader

import data
from data import record_writers
from data.decoding import decode, open_image
from data.folders import FolderImages
from data.record_files import write_records
from data.record_makers import photograph_record
from data.records import RecordImages, make_index
from data.sources import UnreadableImageError

ROWS = np.repeat(np.arange(0, 65521, 1040, dtype=np.uint16)[:, None], 32, 1)
"""64 rows of grey in 16 bits."""


def folder_of(image: Path) -> Path:
    """A folder of one class with one image, a link to that given."""
    folder = image.parent / "folder"
    (folder / "class").mkdir(parents=True)
    (folder / "class" / image.name).symlink_to(image)
    return folder


def from_folder(image: Path, **limit: int) -> Tensor:
    return FolderImages(folder_of(image), 3, **limit).decode(0)


def from_encoded_record(image: Path, **limit: int) -> Tensor:
    path = image.parent / "a.tfrecord"
    write_records(path, [{"image/encoded": (image.read_bytes(), "byte"), "image/class/label": (1, "int")}])
    return RecordImages(make_index([path]), 3, 1, **limit).decode(0)


def from_record_of_a_photograph(image: Path, **limit: int) -> Tensor:
    record_writers.write_image_folders(folder_of(image), image.parent / "out", 1, progress=False, **limit)
    return RecordImages(make_index([image.parent / "out/train/train-00000-of-00001"]), 3, 1).decode(0)


def from_labelled_record(image: Path, **limit: int) -> Tensor:
    labels = image.parent / "labels"
    labels.mkdir()
    (labels / f"{image.stem}.txt").write_text("0")
    path = image.parent / "b.tfrecord"
    record_writers.write_labelled(folder_of(image) / "class", labels, path, progress=False, **limit)
    return RecordImages(make_index([path]), 3, 0).decode(0)


PLACES = [from_folder, from_encoded_record, from_record_of_a_photograph, from_labelled_record]
everywhere = pytest.mark.parametrize("place", PLACES)


@everywhere
@pytest.mark.parametrize("name", ["grey.png", "grey.pgm", "grey.tif"])
def test_grey_of_16_bits_keeps_its_upper_byte(place: Callable[..., Tensor], name: str, tmp_path: Path):
    Image.fromarray(ROWS).save(tmp_path / name)
    found = place(tmp_path / name)
    assert found.shape == (3, 64, 32)
    expected = torch.from_numpy((ROWS >> 8).astype(np.uint8)).expand(3, -1, -1)
    if place is from_record_of_a_photograph:  # a JPEG of quality 100
        assert (found.int() - expected.int()).abs().max() <= 2
    else:
        assert torch.equal(found, expected)
        assert len(found.unique()) == 64
        assert found.double().mean() == pytest.approx(127, abs=1)


@everywhere
@pytest.mark.parametrize(("kind", "mode"), [(np.int32, "I, integers of 32"), (np.float32, "F, floating-point numbers")])
def test_values_without_a_range_are_refused(place: Callable[..., Tensor], kind: type, mode: str, tmp_path: Path):
    Image.fromarray(ROWS.astype(kind)).save(tmp_path / "raw.tiff")
    with pytest.raises(ValueError, match=rf"(raw\.tiff|a\.tfrecord).*\(its mode is {mode}.*whose range is not defined"):
        place(tmp_path / "raw.tiff")
    assert not (tmp_path / "b.tfrecord").exists()


@everywhere
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(place: Callable[..., Tensor], tmp_path: Path):
    whole = io.BytesIO()
    Image.new("RGB", (2000, 50)).save(whole, "PNG")
    (tmp_path / "bomb.png").write_bytes(whole.getvalue()[:100])  # of its pixels nothing is there
    with pytest.raises(ValueError, match="is an image of 2000x50 pixels, which is more than max_image_pixels 99999 a"):
        place(tmp_path / "bomb.png", max_pixels=99_999)
    (tmp_path / "bomb.png").write_bytes(whole.getvalue())
    for left in ("folder", "labels"):
        if (tmp_path / left).exists():
            (tmp_path / left).rename(tmp_path / f"{left} before")
    assert place(tmp_path / "bomb.png", max_pixels=100_000).shape == (3, 50, 2000)


def test_pillow_s_own_limit_is_neither_asked_nor_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", "a", 3).shape == (3, 20, 20)
    with pytest.raises(UnreadableImageError), open_image(tmp_path / "a.png", "a", 399):
        pass
    assert Image.MAX_IMAGE_PIXELS == 10


def picture(mode: str) -> Image.Image:
    draws = np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8)
    return Image.fromarray(draws, "RGBA").convert(mode)


@pytest.mark.filterwarnings("ignore:Palette images")
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_other_form_is_what_torchvision_makes_of_it(mode: str, tmp_path: Path):
    path = tmp_path / f"a.{'tif' if mode in ('CMYK', 'YCbCr') else 'png'}"
    picture(mode).save(path)
    expected = torch.from_numpy(np.array(default_loader(str(path)))).permute(2, 0, 1)
    assert torch.equal(decode(path, "a", 3), expected)
    assert decode(path.read_bytes(), "a", 1).shape == (1, 6, 8)


def test_a_rotation_in_exif_is_not_applied(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    picture("RGB").save(tmp_path / "a.jpg", exif=exif)
    assert decode(tmp_path / "a.jpg", "a", 3).shape == (3, 6, 8)


def test_twelve_bits_of_a_tiff_fill_the_range(tmp_path: Path):
    """Two samples a row of 12 bits, packed: 0xFFF and 0x080."""
    tags = ((256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3))
    entries = b"".join(tag.to_bytes(2, "little") + b"\3\0\1\0\0\0" + value.to_bytes(4, "little") for tag, value in tags)
    head = b"II*\0" + (12).to_bytes(4, "little") + bytes([0xFF, 0xF0, 0x80, 0])
    (tmp_path / "a.tif").write_bytes(head + len(tags).to_bytes(2, "little") + entries + bytes(4))
    assert decode(tmp_path / "a.tif", "a", 1).tolist() == [[[255, 8]]]


def test_a_format_that_runs_another_program_is_no_image(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(UnreadableImageError, match=r"cannot be read as an image \(cannot identify"):
        decode(tmp_path / "a.jpg", "a.jpg", 3)


def test_a_pipe_among_the_labels_is_refused_at_once(tmp_path: Path):
    picture("RGB").save(tmp_path / "a.png")
    (tmp_path / "labels").mkdir()
    os.mkfifo(tmp_path / "labels" / "a.txt")
    with pytest.raises(ValueError, match=r"a\.txt is a pipe, not a regular file"):
        record_writers.write_labelled(tmp_path, tmp_path / "labels", tmp_path / "o.tfrecord", progress=False)


def test_the_limit_reaches_folders_and_records_by_the_data_set_s_name(photographs: Path, tmp_path: Path):
    limit = {"max_image_pixels": 1199, "workers": 0}
    with pytest.raises(ValueError, match="40x30 pixels, which is more than max_image_pixels 1199"):
        next(iter(data.load("birds", photographs, **limit).test.epoch(0)))
    loaded = data.load("birds", photographs, **limit, skip_unreadable=True)
    assert next(iter(loaded.test.epoch(0))).total == 0
    assert loaded.skipped == 9
    record_writers.write_image_folders(photographs / "birds", tmp_path / "written", 1, progress=False)
    with pytest.raises(ValueError, match=r"at byte 0 is an image of 40x30 pixels"):
        next(iter(data.load("written", tmp_path, **limit).test.epoch(0)))


def test_a_photograph_of_16_bits_becomes_a_jpeg_of_its_upper_byte():
    file = io.BytesIO()
    Image.fromarray(ROWS).save(file, "PNG")
    made, _ = photograph_record(file.getvalue(), 1, "n1", "a.png")["image/encoded"]
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(made)).convert("L")))) == 64
