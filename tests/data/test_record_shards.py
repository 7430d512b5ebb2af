"""A conversion goes on where it stopped, and with nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import data
from data import imagenet_archives, record_shards
from data import record_writers as writers
from data.sources import Request
from tests.data.record_pieces import left, waited
from tests.data.test_streams import running


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
    labels = archives / imagenet_archives.VALIDATION_LABELS
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


def test_a_writing_process_that_ends_is_told(tmp_path):
    part = record_shards.Part(tmp_path / "out", Slow(tmp_path, ends=True), 2)
    with pytest.raises(ValueError, match=r"a writing process ended .* call again"):
        record_shards.write_parts(tmp_path / "out", {"train": part}, processes=2, progress=False)


PROGRAM = """
import sys
from pathlib import Path
from data import record_shards
from tests.data.test_record_shards import Slow

if __name__ == "__main__":
    part = record_shards.Part(Path(sys.argv[1], "out"), Slow(Path(sys.argv[1]), ends=False), 2)
    record_shards.write_parts(part.folder, {"train": part}, processes=2, progress=False)
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


def test_shards_cannot_outnumber_the_images(tmp_path):
    image_set = data.SETS["digits"].read(Request("digits", None))
    with pytest.raises(ValueError, match="fit into 1 to"):
        writers.write_image_set(image_set, tmp_path / "d", 100_000, progress=False)
