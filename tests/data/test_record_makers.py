"""Images and labels become records of just these."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from data import record_writers as writers
from tests.data import tfrecords
from tests.data.record_pieces import left, picture


def spoil(labelled, what):
    images, labels = labelled
    match what:
        case "missing label":
            (labels / "7.txt").unlink()
        case "no integer":
            (labels / "7.txt").write_text("seven")
        case "-3" | "1_0" | "100000" | "100000000000000000000":
            (labels / "7.txt").write_text(what)
        case "binary label":
            (labels / "7.txt").write_bytes(b"\xff\xfe\x00")
        case "label alone":
            (labels / "99.txt").write_text("1")
        case "two images":
            picture(0).save(images / "7.jpg")
        case "broken image":
            (images / "7.png").write_bytes((images / "7.png").read_bytes()[:80])
        case "no images":
            for path in images.iterdir():
                path.unlink()
        case "no folder":
            for path in labels.iterdir():
                path.unlink()
            labels.rmdir()


def test_images_and_labels_are_paired_by_name(labelled, tmp_path):
    out = tmp_path / "out" / "test.tfrecord"
    assert writers.write_labelled(*labelled, out, progress=False) == 12
    for number, features in enumerate(tfrecords.records(out)):
        assert features == {
            "height": 8,
            "width": 8,
            "label": number % 4,
            "image/raw": np.asarray(picture(number, size=(8, 8))).tobytes(),
        }
    assert left(tmp_path / "out") == ["test.tfrecord"]


def test_grey_images_have_one_channel(labelled, tmp_path):
    for path in labelled[0].iterdir():
        Image.open(path).convert("L").save(path)
    writers.write_labelled(*labelled, tmp_path / "grey.tfrecord", progress=False)
    assert {len(features["image/raw"]) for features in tfrecords.records(tmp_path / "grey.tfrecord")} == {64}


def test_grey_images_of_16_bits_keep_the_higher_eight(labelled, tmp_path):
    for path in labelled[0].iterdir():
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024).save(path)
    writers.write_labelled(*labelled, tmp_path / "grey.tfrecord", progress=False)
    expected = np.arange(0, 256, 4, dtype=np.uint8).tobytes()
    assert {features["image/raw"] for features in tfrecords.records(tmp_path / "grey.tfrecord")} == {expected}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("missing label", r"the image 7\.png has no label: there is no .*7\.txt"),
        ("no integer", r"the label .*7\.txt must be an integer from 0 to 99999, not 'seven'"),
        ("-3", r"the label .*7\.txt must be an integer .* not '-3'"),
        ("1_0", r"the label .*7\.txt must be an integer .* not '1_0'"),
        ("100000", r"the label .*7\.txt must be an integer .* not '100000'"),
        (f"1{'0' * 20}", r"the label .*7\.txt must be an integer .* not '100000000000000000000'"),
        ("binary label", r"the label .*7\.txt is no text"),
        ("label alone", r"the label .*99\.txt has no image"),
        ("two images", r"7\.(jpg|png) and 7\.(jpg|png) in .* would share the label 7\.txt"),
        ("broken image", r"7\.png cannot be read as an image"),
        ("no images", "has no images"),
        ("no folder", "there is no folder .*labels"),
    ],
)
def test_mistakes_in_the_folders_are_named_and_leave_nothing(labelled, tmp_path, what, words):
    spoil(labelled, what)
    out = tmp_path / "out" / "train.tfrecord"
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        writers.write_labelled(*labelled, out, progress=False)
    assert not out.exists()
    assert not (tmp_path / "out").exists() or left(tmp_path / "out") == []
