"""Record files are read whole or refused by name and byte, and every example is seen once an epoch."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import data
from data.record_files import frames, write_records
from data.record_makers import raw_record
from data.records import holds_records, make_index, record_files
from tests.data.record_pieces import pixels, write_raw


def encoded_record(number: int, label: int, form: str = "JPEG") -> dict:
    file = io.BytesIO()
    Image.fromarray(pixels(number, 6)).resize((40, 30)).save(file, form)
    return {"image/encoded": (file.getvalue(), "byte"), "image/class/label": (label, "int")}


@pytest.fixture
def encoded(tmp_path: Path) -> Path:
    for split, count in (("train", 24), ("validation", 9)):
        folder = tmp_path / "birds" / split
        folder.mkdir(parents=True)
        records = (encoded_record(number, 1 + number % 3, "PNG" if number == 4 else "JPEG") for number in range(count))
        write_records(folder / f"{split}-00000-of-00001", records)
    return tmp_path


def seen(loader: data.Loader, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(loader.epoch(epoch))
    return torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches])


def test_images_in_memory_are_those_of_the_files(raw):
    loaded = data.load("squares", raw, batch_size=8, augment=False, mean=[0, 0, 0], std=[1, 1, 1])
    images, labels = seen(loaded.test)
    expected = torch.stack([torch.from_numpy(pixels(number)).permute(2, 0, 1) for number in range(100, 115)])
    torch.testing.assert_close(images, expected / 255)
    assert labels.tolist() == [number % 5 for number in range(100, 115)]
    assert (loaded.classes, loaded.channels, len(loaded.train)) == (5, 3, 5)


@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (3, 0), (2, 2)])
def test_every_example_once_an_epoch_over_processes_and_workers(encoded, world_size, workers):
    loaders = [
        data.load(
            "birds", encoded, image_size=16, batch_size=8, workers=workers, rank=rank, world_size=world_size,
            augment=False, seed=1,
        )
        for rank in range(world_size)
    ]  # fmt: skip
    whole = data.load("birds", encoded, image_size=16, batch_size=8, workers=0, augment=False, seed=1)
    orders = []
    for epoch in range(2):
        images = torch.cat([seen(loader.train, epoch)[0] for loader in loaders])
        assert len(torch.unique(images.flatten(1), dim=0)) == len(images) == 24
        expected, _ = seen(whole.train, epoch)
        assert {image.numpy().tobytes() for image in images} == {image.numpy().tobytes() for image in expected}
        orders.append(expected)
    assert not torch.equal(*orders)
    tests = torch.cat([seen(loader.test)[0] for loader in loaders])
    assert len(torch.unique(tests.flatten(1), dim=0)) == len(tests) == 9


def test_encoded_labels_count_from_one(encoded):
    loaded = data.load("birds", encoded, image_size=16, batch_size=8, workers=0)
    assert loaded.classes == 3
    assert seen(loaded.test)[1].tolist() == [number % 3 for number in range(9)]
    with_background = data.load("birds", encoded, image_size=16, batch_size=8, workers=0, label_offset=0)
    assert with_background.classes == 4
    grey = data.load("birds", encoded, image_size=16, batch_size=8, workers=0, in_channels=1)
    assert seen(grey.test)[0].shape == (9, 1, 16, 16)


def test_files_can_be_named_from_where_one_is(raw, monkeypatch):
    monkeypatch.chdir(raw / "squares")
    given = {"train_records": "train/train-*", "test_records": "test*", "batch_size": 8}
    assert len(data.load("records", raw / "elsewhere", **given).train) == 5


def test_files_can_be_named(raw):
    given = {"batch_size": 8, "test_records": str(raw / "squares" / "test*")}
    by_folder = data.load("records", raw, train_records="squares/train", **given)
    by_file = data.load("records", None, train_records=str(raw / "squares/train/train-00001-of-00005"), **given)
    assert (len(by_folder.train), len(by_file.train)) == (5, 1)
    (raw / "squares" / "train" / "old").mkdir()
    for _ in range(2):  # the second time an index lies there
        assert len(data.load("records", raw, train_records="squares/train/*", **given).train) == 5
    with pytest.raises(FileNotFoundError, match=r"no TFRecord files at .*nowhere"):
        data.load("records", raw, train_records="nowhere", **given)
    with pytest.raises(FileNotFoundError, match="needs a data directory"):
        data.load("records", None)
    assert holds_records(raw / "squares")
    assert not holds_records(raw)
    assert len(record_files(raw / "squares")) == 3


def test_a_folder_holds_one_whole_set_of_files(raw, tmp_path):
    train = raw / "squares" / "train"
    last = train / "train-00004-of-00005"
    content = last.read_bytes()
    last.unlink()
    with pytest.raises(ValueError, match=r"train lacks train-00004-of-00005: its conversion was not finished"):
        data.load("squares", raw)
    assert len(record_files(train / "train-*")) == 4, "a pattern says which files are wanted"
    last.write_bytes(content)
    for other in ("train-00000-of-00001", "train.tfrecord", "more-00000-of-00005"):
        write_raw(train / other, range(3))
        with pytest.raises(ValueError, match=r"train holds two sets of files: .* belong to different ones"):
            data.load("squares", raw)
        (train / other).unlink()
    assert len(record_files(train)) == 5


def test_images_of_several_sizes_are_read_one_at_a_time(tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("train", "test"):
        write_records(folder / f"{name}.tfrecord", (raw_record(pixels(n, 20 + n), 0) for n in range(6)))
    loaded = data.load("mixed", tmp_path, image_size=16, batch_size=3, workers=0)
    assert seen(loaded.train)[0].shape == (6, 3, 16, 16)


def test_grey_images_of_several_sizes_train_networks_of_three_channels(tmp_path):
    for name in ("train", "test"):
        path = tmp_path / "mixed" / f"{name}.tfrecord"
        path.parent.mkdir(exist_ok=True)
        write_records(path, (raw_record(pixels(n, 20 + n, 1), 0) for n in range(6)))
    given = {"image_size": 16, "in_channels": 3, "batch_size": 3, "workers": 0}
    for standardise in (False, True):
        images, _ = seen(data.load("mixed", tmp_path, standardise=standardise, **given).train)
        assert images.shape == (6, 3, 16, 16)
        assert torch.equal(images[:, 0], images[:, 2])


def test_raw_grey_images_train_networks_of_three_channels(tmp_path):
    for name in ("train", "test"):
        write_raw(tmp_path / "grey" / f"{name}.tfrecord", range(6), channels=1)
    assert data.load("grey", tmp_path, batch_size=3).channels == 1
    loaded = data.load("grey", tmp_path, batch_size=3, in_channels=3, augment=False)
    images, _ = seen(loaded.test)
    assert torch.equal(images[:, 0], images[:, 2])


def test_an_index_is_kept_and_made_anew_for_changed_files(raw):
    files = sorted((raw / "squares" / "train").glob("train-*"))
    first = make_index(files)
    kept = list((raw / "squares" / "train").glob(".*.npz"))
    assert len(kept) == 1
    assert make_index(files).label.tolist() == first.label.tolist()
    write_raw(files[0], range(200, 203))
    assert len(make_index(files)) == 40 - 8 + 3
    whole = kept[0].read_bytes()
    for content in (b"no index", b"", b"PK\x03\x04 no zip", whole[: len(whole) // 2]):
        kept[0].write_bytes(content)
        assert len(make_index(files)) == 35
        assert kept[0].read_bytes() == whole, "made anew"


def test_an_index_is_written_by_each_process_for_itself_and_whole(raw, monkeypatch):
    files = record_files(raw / "squares" / "train")
    names = set()

    def full_disk(path, **arrays):
        path.write_bytes(b"half")
        names.add(path.name)
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    for process in (1, 2):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        assert len(make_index(files)) == 40
    assert len(names) == 2
    assert not list(files[0].parent.glob(".*"))


def place(path: Path, number: int) -> int:
    """The byte at which a record begins."""
    return [frame.offset - 12 for frame, _ in frames(path)][number]


def test_cut_and_damaged_files_are_named_with_the_byte(raw):
    path = raw / "squares" / "train" / "train-00002-of-00005"
    good = path.read_bytes()
    second, last = place(path, 1), place(path, 7)

    path.write_bytes(good[:-3])
    with pytest.raises(ValueError, match=f"{path.name} is cut short: the record at byte {last} lacks 3 bytes"):
        data.load("squares", raw)
    path.write_bytes(good[: last + 5])
    with pytest.raises(ValueError, match=f"cut short: its last record begins at byte {last} and has 5 bytes"):
        data.load("squares", raw)
    path.write_bytes(good[:second] + struct.pack("<Q", 7) + good[second + 8 :])
    with pytest.raises(ValueError, match=f"is damaged: the length of the record at byte {second}"):
        data.load("squares", raw)
    middle = second + 100
    path.write_bytes(good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :])
    with pytest.raises(ValueError, match=f"{path.name} is damaged: the record at byte {second} does not fit"):
        data.load("squares", raw)
    path.write_bytes(b"an ordinary text file, no records")
    with pytest.raises(ValueError, match="is no TFRecord file"):
        data.load("squares", raw)
    path.write_bytes(b"")
    assert len(make_index([path, path.with_name("train-00001-of-00005")])) == 8
    with pytest.raises(ValueError, match="holds no records"):
        make_index([path])


def test_a_record_of_an_absurd_label_is_said_to_be_damaged_where_it_is(tmp_path):
    path = tmp_path / "huge.tfrecord"
    write_records(path, [encoded_record(0, 10**6)])
    content = bytearray(path.read_bytes())
    content[content.index(b"JFIF")] ^= 1  # the label itself is whole
    path.write_bytes(content)
    given = {"train_records": str(path), "test_records": str(path), "batch_size": 1}
    with pytest.raises(ValueError, match=r"huge\.tfrecord is damaged: the record at byte 0 does not fit"):
        data.load("records", None, **given)


def test_a_damaged_photograph_is_named_or_skipped(encoded):
    path = encoded / "birds" / "validation" / "validation-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[place(path, 3) + 60] ^= 255
    path.write_bytes(content)
    given = {"image_size": 16, "batch_size": 8, "workers": 0}
    with pytest.raises(ValueError, match=f"byte {place(path, 3)} does not fit its checksum; --skip-unreadable"):
        seen(data.load("birds", encoded, **given).test)
    loaded = data.load("birds", encoded, skip_unreadable=True, **given)
    assert len(seen(loaded.test)[0]) == 8
    assert loaded.skipped == 1


SIZE = {"height": (8, "int"), "width": (9, "int")}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (SIZE | {"label": (1, "int")}, "there is no image/raw"),
        (SIZE | {"label": (1, "int"), "image/raw": (b"abc", "byte")}, "3 bytes for 8x9"),
        ({"height": (8, "int")}, "record at byte 0 has no integer label or image/class/label"),
        ({"label": (b"one", "byte")}, "record at byte 0 is damaged: it is no tf.train.Example"),
        (SIZE | {"label": (-1, "int"), "image/raw": (bytes(72), "byte")}, "least label is -1"),
        (SIZE | {"label": (10**6, "int"), "image/raw": (bytes(72), "byte")}, "byte 0 has the label 1000000"),
        (
            SIZE | {"label": (1, "int"), "image/raw": (b"abc", "byte"), "height": (0, "int")},
            r"train\S* the image at byte 0 \(0x9 is no size",
        ),
        (
            SIZE | {"label": (1, "int"), "image/raw": (bytes(72), "byte"), "height": (-8, "int")},
            r"byte 0 \(-8x9 is no size",
        ),
    ],
)
def test_records_of_another_form_are_refused(tmp_path, record, words):
    for name in ("train", "test"):
        write_records(tmp_path / f"{name}.tfrecord", [record])
    with pytest.raises(ValueError, match=words):
        data.load("records", tmp_path, train_records="train.tfrecord", test_records="test.tfrecord", batch_size=1)


def test_standardised_images_have_their_own_mean_and_deviation(raw):
    loaded = data.load("squares", raw, batch_size=8, standardise=True)
    for image in seen(loaded.test)[0]:
        assert float(image.mean()) == pytest.approx(0, abs=1e-5)
        assert float(image.std(correction=0)) == pytest.approx(1, abs=1e-5)
    originals = {}
    for number in range(40):
        values = torch.from_numpy(pixels(number)).permute(2, 0, 1).float()
        originals[number] = torch.nn.functional.pad((values - values.mean()) / values.std(correction=0), (1, 1, 1, 1))
    crops = []
    for image in seen(loaded.train)[0]:
        # zeros around the standardised image, then a crop and perhaps a flip
        found = [
            number
            for number, padded in originals.items()
            for top in range(3)
            for left in range(3)
            for candidate in (padded[:, top : top + 8, left : left + 8],)
            if torch.allclose(image, candidate, atol=1e-4) or torch.allclose(image, candidate.flip(2), atol=1e-4)
        ]
        crops += found
    assert sorted(crops) == list(range(40))


def test_an_image_of_one_colour_can_be_standardised(tmp_path):
    for name in ("train", "test"):
        records = (raw_record(np.full((8, 8, 3), 7, dtype=np.uint8), 0) for _ in range(4))
        write_records(tmp_path / f"{name}.tfrecord", records)
    given = {"train_records": "train.tfrecord", "test_records": "test.tfrecord", "batch_size": 4}
    assert not seen(data.load("records", tmp_path, standardise=True, **given).test)[0].any()
