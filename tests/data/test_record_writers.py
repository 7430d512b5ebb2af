"""Records made from folders and data sets hold what these hold, or nothing is left."""

from __future__ import annotations

import pytest
import torch

import data
from data import record_writers as writers
from data.sources import Request
from tests.data.record_pieces import all_records, left


def test_class_folders_become_shards(photographs, tmp_path):
    out = tmp_path / "shards"
    written = writers.write_image_folders(photographs / "birds", out, 3, progress=False)
    assert written == {"train": 24, "validation": 9}
    crows = [f for f in all_records(out / "train") if f["image/class/synset"] == b"crow"]
    assert {f["image/class/label"] for f in crows} == {1}
    same = data.load("shards", tmp_path, image_size=24, batch_size=9, workers=0)
    folder = data.load("birds", tmp_path, image_size=24, batch_size=9, workers=0)
    assert same.class_names == folder.class_names == ("crow", "heron", "owl")
    ours, theirs = next(same.test.epoch(0)), next(folder.test.epoch(0))
    assert torch.equal(ours.labels, theirs.labels)
    # the first image of each class is a PNG, which the JPEG in its record differs from a little
    jpegs = torch.tensor([index % 3 > 0 for index in range(9)])
    assert torch.equal(ours.images[jpegs], theirs.images[jpegs])
    assert float((ours.images - theirs.images).abs().mean()) < 0.1
    alone = writers.write_image_folders(photographs / "birds" / "val", tmp_path / "alone", 2, progress=False)
    assert alone == {"train": 9}


@pytest.mark.parametrize(("shards", "processes"), [(1, 1), (3, 1), (3, 2)])
def test_any_data_set_becomes_records_and_stays_itself(cifar10, shards, processes):
    image_set = data.SETS["cifar10"].read(Request("cifar10", cifar10, verify=False))
    written = writers.write_image_set(image_set, cifar10 / "copy", shards, processes=processes, progress=False)
    assert written == {"train": 60, "test": 20}
    original = data.load("cifar10", cifar10, verify=False, batch_size=20)
    copy = data.load("copy", cifar10, batch_size=20)
    assert (copy.class_names, copy.mean, copy.std) == (original.class_names, original.mean, original.std)
    if shards == 1:
        for mine, theirs in zip(copy.train.epoch(1), original.train.epoch(1), strict=True):
            assert torch.equal(mine.images, theirs.images)
            assert torch.equal(mine.labels, theirs.labels)
    ours, theirs = next(copy.test.epoch(0)), next(original.test.epoch(0))
    assert torch.equal(ours.images, theirs.images)


def test_digits_become_records(tmp_path):
    image_set = data.SETS["digits"].read(Request("digits", None))
    writers.write_image_set(image_set, tmp_path / "digits_records", progress=False)
    loaded = data.load("digits_records", tmp_path, batch_size=64)
    again = data.load("digits", batch_size=64)
    for mine, theirs in zip(loaded.train.epoch(0), again.train.epoch(0), strict=True):
        assert torch.equal(mine.images, theirs.images)


def test_two_sets_of_files_are_not_written_into_one_folder(labelled, tmp_path):
    image_set = data.SETS["digits"].read(Request("digits", None))
    for shards, others in ((1, 3), (3, 1), (3, 2)):
        out = tmp_path / f"{shards}{others}"
        writers.write_image_set(image_set, out, shards, progress=False)
        before = left(out)
        with pytest.raises(ValueError, match="remove these files, or write into another folder"):
            writers.write_image_set(image_set, out, others, progress=False)
        assert left(out) == before
    with pytest.raises(ValueError, match=r"31 holds train-00000-of-00003, .* together with train\.tfrecord"):
        writers.write_labelled(*labelled, tmp_path / "31" / "train.tfrecord", progress=False)


def test_a_refused_conversion_leaves_everything_as_it_was(archives, cifar10):
    digits = data.SETS["digits"].read(Request("digits", None))
    writers.write_image_set(digits, cifar10 / "set", 2, progress=False)
    image_set = data.SETS["cifar10"].read(Request("cifar10", cifar10, verify=False))
    with pytest.raises(ValueError, match="made from other images"):
        writers.write_image_set(image_set, cifar10 / "set", 2, progress=False)
    assert data.load("set", cifar10).class_names == tuple(digits.class_names)
    for out, given in (("a", {"validation_shards": 7}), ("b", {"validation_shards": 6, "train_shards": -3})):
        with pytest.raises(ValueError, match="records fit into 1 to"):
            writers.write_imagenet(archives, cifar10 / out, progress=False, **({"train_shards": 2} | given))
        assert not (cifar10 / out).exists()
    with pytest.raises(ValueError, match="not -3"):
        writers.write_image_set(image_set, cifar10 / "c", -3, progress=False)


def test_a_description_is_of_its_own_files(labelled, cifar10):
    image_set = data.SETS["cifar10"].read(Request("cifar10", cifar10, verify=False))
    out = cifar10 / "set"
    writers.write_image_set(image_set, out, progress=False)
    given = {"train_records": "set/other/train.tfrecord", "test_records": "set/other/train.tfrecord", "batch_size": 4}
    writers.write_labelled(*labelled, out / "other" / "train.tfrecord", progress=False)
    assert data.load("records", cifar10, **given).class_names == ("0", "1", "2", "3")
    assert data.load("set", cifar10).class_names == tuple(image_set.class_names)
    for name in ("train", "test"):
        writers.write_labelled(*labelled, out / f"{name}.tfrecord", progress=False)
    loaded = data.load("set", cifar10, batch_size=4)
    assert loaded.class_names == ("0", "1", "2", "3")
    assert not (out / "records.json").exists()
