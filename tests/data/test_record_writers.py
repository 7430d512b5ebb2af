"""Records made from folders, archives and data sets hold what these hold, or nothing is left."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import data
from data import record_writers as writers
from data.sources import Request
from tests.data import tfrecords
from tests.data.test_streams import running


def picture(number: int, mode: str = "RGB", size: tuple[int, int] = (12, 10)) -> Image.Image:
    draws = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(draws).convert(mode)


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of 12 images and their labels."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for number in range(12):
        picture(number, size=(8, 8)).save(images / f"{number}.png")
        (labels / f"{number}.txt").write_text(f" {number % 4}\n")
    return images, labels


def waited(found: Callable[[], Any], seconds: float = 30) -> Any:
    """What is found within some seconds, or what is then."""
    deadline = time.monotonic() + seconds
    while not found() and time.monotonic() < deadline:
        time.sleep(0.05)
    return found()


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


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


def jpeg(number: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    picture(number, mode).save(file, "PNG" if mode == "P" else "JPEG")
    return file.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


ORDER = [1, 13, 4, 10, 3, 12, 7, 9, 0, 11, 6, 14, 5, 2, 8]
"""In which the names of its training images are dealt out."""
WNIDS = ("n01440764", "n02102040", "n03000684")


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """A small ILSVRC2012: 3 classes of 5 training images, 6 validation images; one is a PNG, one CMYK, one grey."""
    raw = tmp_path / "raw"
    raw.mkdir()
    number = 0
    with tarfile.open(raw / writers.TRAIN_ARCHIVE, "w") as outer:
        for wnid in reversed(WNIDS):
            inner_file = io.BytesIO()
            with tarfile.open(fileobj=inner_file, mode="w") as inner:
                for image in range(5):
                    number += 1
                    mode = {3: "P", 4: "CMYK", 7: "L"}.get(number, "RGB")
                    add(inner, f"{wnid}_{image}.JPEG", jpeg(number, mode))
            add(outer, f"{wnid}.tar", inner_file.getvalue())
    with tarfile.open(raw / writers.VALIDATION_ARCHIVE, "w") as outer:
        for number in reversed(range(1, 7)):
            add(outer, f"ILSVRC2012_val_{number:08d}.JPEG", jpeg(100 + number))
    (raw / writers.VALIDATION_LABELS).write_text("".join(f"{WNIDS[n % 3]}\n" for n in range(6)))
    return raw


def all_records(folder: Path) -> list[dict]:
    return [features for path in sorted(folder.glob("[a-z]*-of-*")) for features in tfrecords.records(path)]


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


def test_an_interrupted_conversion_goes_on(archives, tmp_path):
    out = tmp_path / "records"
    given = {"train_shards": 4, "validation_shards": 2, "progress": False}
    writers.write_imagenet(archives, out, **given)
    before = {path.name: path.stat().st_mtime_ns for path in (out / "train").glob("train*")}
    whole = (out / "train" / "train-00002-of-00004").read_bytes()
    (out / "train" / "train-00002-of-00004").unlink()
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    (out / "train" / f".train-00002-of-00004.{gone.pid}.tmp").write_bytes(b"half")
    of_another = out / "train" / f".train-00002-of-00004.{os.getppid()}.tmp"
    of_another.write_bytes(b"being written")
    assert writers.write_imagenet(archives, out, **given) == {"train": 4, "validation": 0}
    after = {path.name: path.stat().st_mtime_ns for path in (out / "train").glob("train*")}
    assert {name for name in after if after[name] != before[name]} == {"train-00002-of-00004"}
    assert (out / "train" / "train-00002-of-00004").read_bytes() == whole
    assert list((out / "train").glob(".*.tmp")) == [of_another]
    with pytest.raises(ValueError, match="into another number of files"):
        writers.write_imagenet(archives, out, **(given | {"train_shards": 5}))


def test_an_interrupted_conversion_does_not_go_on_with_other_labels(archives, tmp_path):
    out = tmp_path / "records"
    given = {"train_shards": 1, "validation_shards": 2, "progress": False}
    writers.write_imagenet(archives, out, **given)
    (out / "validation" / "validation-00001-of-00002").unlink()
    labels = archives / writers.VALIDATION_LABELS
    lines = labels.read_text().split()
    labels.write_text("\n".join([*lines[1:], lines[0]]))
    with pytest.raises(ValueError, match="validation-00000-of-00002, made from other images"):
        writers.write_imagenet(archives, out, **given)


def test_an_interrupted_conversion_does_not_go_on_with_other_pixels(cifar10):
    image_set = data.SETS["cifar10"].read(Request("cifar10", cifar10, verify=False))
    out = cifar10 / "copy"
    writers.write_image_set(image_set, out, 2, progress=False)
    (out / "test-00001-of-00002").unlink()
    assert writers.write_image_set(image_set, out, 2, progress=False) == {"train": 0, "test": 10}
    image_set.test.pixels[3] ^= 1
    with pytest.raises(ValueError, match="test-00000-of-00002, made from other images"):
        writers.write_image_set(image_set, out, 2, progress=False)


def test_a_conversion_goes_on_however_its_folder_is_spelt(photographs, tmp_path, monkeypatch):
    writers.write_image_folders(photographs / "birds", tmp_path / "out", 2, progress=False)
    monkeypatch.chdir(photographs)
    again = writers.write_image_folders(Path("birds"), tmp_path / "out", 2, progress=False)
    assert again == {"train": 0, "validation": 0}
    Path("birds/train/owl/owl_3.JPEG").rename("birds/train/crow/owl_3.JPEG")
    with pytest.raises(ValueError, match="made from other images"):
        writers.write_image_folders(Path("birds"), tmp_path / "out", 2, progress=False)


@dataclass(frozen=True)
class Slow:
    """Records of a few bytes that note their process, then take long or end it."""

    folder: Path
    ends: bool

    def __len__(self) -> int:
        return 2

    def fingerprint(self) -> str:
        return "slow"

    def record(self, index: int) -> dict:
        (self.folder / str(os.getpid())).touch()
        if self.ends:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
        return {}


def test_a_writing_process_that_ends_is_told(tmp_path):
    part = writers.Part(tmp_path / "out", Slow(tmp_path, ends=True), 2)
    with pytest.raises(ValueError, match=r"a writing process ended .* call again"):
        writers.write_parts(tmp_path / "out", {"train": part}, processes=2, progress=False)


PROGRAM = """
import sys
from pathlib import Path
from data import record_writers as writers
from tests.data.test_record_writers import Slow

if __name__ == "__main__":
    part = writers.Part(Path(sys.argv[1], "out"), Slow(Path(sys.argv[1]), ends=False), 2)
    writers.write_parts(part.folder, {"train": part}, processes=2, progress=False)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the states of processes from /proc")
def test_writing_processes_end_with_their_program(tmp_path):
    program, places = tmp_path / "program.py", tmp_path / "places"
    program.write_text(PROGRAM)
    places.mkdir()
    root = str(Path(data.__file__).parents[1])
    with subprocess.Popen([sys.executable, program, places], env={**os.environ, "PYTHONPATH": root}) as main:
        workers = waited(lambda: len(found := [name for name in left(places) if name.isdecimal()]) == 2 and found)
        main.kill()
    gone = waited(lambda: not any(map(running, map(int, workers))))
    for worker in map(int, workers):
        if running(worker):
            os.kill(worker, signal.SIGKILL)
    assert workers
    assert gone


def test_faults_of_the_archives_are_named(archives, tmp_path):
    given = {"train_shards": 2, "validation_shards": 2, "progress": False}
    labels = archives / writers.VALIDATION_LABELS
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
    train = archives / writers.TRAIN_ARCHIVE
    whole = train.read_bytes()
    train.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ValueError, match="is damaged, or no tar archive"):
        writers.write_imagenet(archives, tmp_path / "a", **given)
    train.write_bytes(whole.replace(jpeg(1), b"\0" * len(jpeg(1))))
    with pytest.raises(ValueError, match=f"{WNIDS[2]}_0.JPEG cannot be read as an image"):
        writers.write_imagenet(archives, tmp_path / "a", **given)


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


def test_shards_cannot_outnumber_the_images(tmp_path):
    image_set = data.SETS["digits"].read(Request("digits", None))
    with pytest.raises(ValueError, match="fit into 1 to"):
        writers.write_image_set(image_set, tmp_path / "d", 100_000, progress=False)


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
