"""ImageNet's archives become shards; their faults are named."""

from __future__ import annotations

import io

import pytest
from PIL import Image

import data
from data import imagenet_archives
from data import record_writers as writers
from tests.data.record_pieces import WNIDS, all_records, jpeg

ORDER = [1, 13, 4, 10, 3, 12, 7, 9, 0, 11, 6, 14, 5, 2, 8]
"""In which the names of its training images are dealt out."""


@pytest.mark.parametrize("processes", [1, 2])
def test_imagenet_from_its_archives(archives, tmp_path, processes):
    out = tmp_path / "records"
    given = {"train_shards": 4, "validation_shards": 2, "progress": False}
    written = writers.write_imagenet(archives, out, processes=processes, **given)
    assert written == {"train": 15, "validation": 6}
    assert [path.name for path in sorted((out / "train").glob("train*"))] == [
        f"train-0000{n}-of-00004" for n in range(4)
    ]
    train, validation = all_records(out / "train"), all_records(out / "validation")
    assert len({features["image/filename"] for features in train}) == 15
    names = sorted(features["image/filename"] for features in train)
    order = [names.index(features["image/filename"]) for features in train]
    assert order == ORDER, "training images are dealt out at random, always in the same way"
    for features in train:
        wnid = features["image/filename"].split(b"_")[0]
        assert features["image/class/synset"] == wnid
        assert features["image/class/label"] == 1 + WNIDS.index(wnid.decode())
        image = Image.open(io.BytesIO(features["image/encoded"]))
        assert (image.format, image.mode in ("RGB", "L")) == ("JPEG", True)
        assert image.size == (features["image/width"], features["image/height"]) == (12, 10)
        kinds = {key: features[f"image/{key}"] for key in ("channels", "colorspace", "format")}
        assert kinds == {"channels": 3, "colorspace": b"RGB", "format": b"JPEG"}
    assert [features["image/class/label"] for features in validation] == [1, 2, 3, 1, 2, 3]
    assert validation[0]["image/filename"] == b"ILSVRC2012_val_00000001.JPEG"
    assert validation[0]["image/encoded"] == jpeg(101)

    loaded = data.load("records", tmp_path, image_size=8, batch_size=4, workers=0)
    assert loaded.class_names == WNIDS
    assert sum(len(batch.labels) for batch in loaded.test.epoch(0)) == 6


def test_faults_of_the_archives_are_named(archives, tmp_path):
    given = {"train_shards": 2, "validation_shards": 2, "progress": False}
    labels = archives / imagenet_archives.VALIDATION_LABELS
    good = labels.read_text()
    labels.write_text(good + "n01440764\n")
    with pytest.raises(ValueError, match="7 labels for the 6 images"):
        writers.write_imagenet(archives, tmp_path / "a", **given)
    labels.write_text(good.replace(WNIDS[1], "n99999999"))
    with pytest.raises(ValueError, match="names n99999999"):
        writers.write_imagenet(archives, tmp_path / "a", **given)
    labels.unlink()
    with pytest.raises(FileNotFoundError, match=r"synset_labels\.txt"):
        writers.write_imagenet(archives, tmp_path / "a", **given)
    labels.write_text(good)
    train = archives / imagenet_archives.TRAIN_ARCHIVE
    whole = train.read_bytes()
    train.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ValueError, match="is damaged, or no tar archive"):
        writers.write_imagenet(archives, tmp_path / "a", **given)
    train.write_bytes(whole.replace(jpeg(1), b"\0" * len(jpeg(1))))
    with pytest.raises(ValueError, match=f"{WNIDS[2]}_0.JPEG cannot be read as an image"):
        writers.write_imagenet(archives, tmp_path / "a", **given)
