"""Decoding by a device gives the images that the workers' decoding gives; here the device is the processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from data import device_decoding, load
from data.device_decoding import FileReader
from data.folders import FolderImages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of JPEG files of two forms, and of a PNG file."""
    generator = torch.Generator().manual_seed(0)
    for part in ("train", "val"):
        for number in range(6):
            small = torch.randint(256, (5, 6, 3), generator=generator, dtype=torch.uint8).numpy()
            image = Image.fromarray(small).resize((60, 50), Image.Resampling.BICUBIC)
            path = tmp_path / "birds" / part / f"class_{number % 2}" / f"{number}.{'png' if number == 5 else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            (image.convert("L") if number == 4 else image).save(path)
    return tmp_path


def images(folder: Path, **settings) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The first batch of training and of the test images, with labels."""
    given = {"image_size": 32, "batch_size": 6, "workers": 0, **settings}
    loaded = load("birds", folder, **given)
    return {name: next(iter(loader.epoch(1)))[:2] for name, loader in (("train", loaded.train), ("test", loaded.test))}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_device_gives_what_workers_would(folder: Path, workers: int, channels: int) -> None:
    expected = images(folder, in_channels=channels)
    found = images(folder, in_channels=channels, workers=workers, decode_on_device=True)
    for part, (pictures, labels) in found.items():
        assert torch.equal(labels, expected[part][1])
        assert pictures.shape == expected[part][0].shape
        # two decoders round differently: by some of the 255 levels, here divided by deviations of about 0.22
        assert (pictures - expected[part][0]).abs().max() < 8 / 255 / 0.22


def test_workers_decode_only_what_is_no_plain_jpeg(folder: Path) -> None:
    source = FolderImages(folder / "birds" / "train", 3)
    files, indices, unreadable = FileReader(source)[3, list(range(6))]
    assert [len(shape) for shape in files.shapes] == [1, 1, 1, 1, 1, 3]
    assert (indices.tolist(), unreadable, files.epoch) == (list(range(6)), [], 3)
    assert files.parts()[0].numpy().tobytes() == Path(source.paths()[0]).read_bytes()


def test_a_file_that_the_device_cannot_decode_is_named(folder: Path) -> None:
    path = folder / "birds" / "train" / "class_0" / "2.jpg"
    path.write_bytes(path.read_bytes()[:300])  # its head is whole
    with pytest.raises(ValueError, match=r"2\.jpg cannot be read as an image"):
        images(folder, decode_on_device=True)
    pictures, labels = images(folder, decode_on_device=True, skip_unreadable=True)["train"]
    assert len(pictures) == len(labels) == 5


def test_a_file_that_is_no_image_is_named(folder: Path) -> None:
    (folder / "birds" / "train" / "class_0" / "0.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"0\.jpg cannot be read as an image"):
        images(folder, decode_on_device=True)


def test_a_torchvision_without_decoders_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_) -> None:
        raise RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support")

    monkeypatch.setattr(device_decoding, "decode_jpeg", refuse)
    with pytest.raises(ValueError, match="decode: gpu needs a torchvision that decodes on GPUs"):
        images(folder, decode_on_device=True)
