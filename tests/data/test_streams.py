from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torchvision.transforms import v2

import data
from data.folders import FolderImages
from tests.data.compared import joined, same


def load(photographs: Path, **arguments) -> data.Data:
    given = {"image_size": 24, "batch_size": 5, "test_batch_size": 4, "workers": 0, "seed": 3}
    return data.load("birds", photographs, **(given | arguments))


def ruin(photographs: Path, split: str, *names: str) -> None:
    for name in names:
        (photographs / "birds" / split / name.split("_")[0] / name).write_bytes(b"no image")


def test_evaluation_sees_every_image_once_in_order(photographs):
    loaded = load(photographs)
    images, labels = joined(list(loaded.test.epoch(0)))
    assert labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert [batch.total for batch in loaded.test.epoch(0)] == [4, 4, 1]
    source = FolderImages(photographs / "birds" / "val", 3)
    crop = v2.Compose([v2.Resize(27, antialias=True), v2.CenterCrop(24)])
    for index in range(9):
        expected = v2.functional.normalize(crop(source.decode(index)) / 255, loaded.mean, loaded.std)
        assert torch.equal(images[index], expected)


def test_training_shows_every_image_once_and_is_drawn_by_seed_and_epoch(photographs):
    images, labels = joined(list(load(photographs, augment=False, batch_size=8).train.epoch(0)))
    assert torch.bincount(labels).tolist() == [8, 8, 8]
    assert len(torch.unique(images.flatten(1), dim=0)) == 24
    train, again, other = (load(photographs, batch_size=8, seed=seed).train for seed in (3, 3, 4))
    assert same(list(train.epoch(1)), list(again.epoch(1)))
    assert not same(list(train.epoch(0)), list(other.epoch(0)))
    augmented, augmented_labels = joined(list(train.epoch(0)))
    assert torch.equal(augmented_labels, labels)
    assert not torch.equal(augmented, images)
    assert not torch.equal(joined(list(train.epoch(1)))[1], labels)


def test_every_image_of_every_epoch_has_draws_of_its_own(photographs):
    folder = photographs / "birds" / "train"
    for path in folder.glob("*/*"):
        if path.name != "owl_1.JPEG":
            shutil.copy(folder / "owl" / "owl_1.JPEG", path)
    train = load(photographs, batch_size=8).train
    crops = {image.numpy().tobytes() for epoch in range(2) for image in joined(list(train.epoch(epoch)))[0]}
    assert len(crops) == 2 * 24


@pytest.mark.parametrize("world_size", [2, 3])
def test_slices_of_the_processes_are_the_batch_of_one_process(photographs, world_size):
    whole = load(photographs, batch_size=9)
    ranks = [load(photographs, batch_size=9, rank=rank, world_size=world_size) for rank in range(world_size)]
    for part in ("train", "test"):
        slices = [list(getattr(rank, part).epoch(2)) for rank in ranks]
        for step, batch in enumerate(getattr(whole, part).epoch(2)):
            images, labels = joined([rank[step] for rank in slices])
            assert torch.equal(images, batch.images)
            assert torch.equal(labels, batch.labels)
            assert [rank[step].total for rank in slices] == [len(batch.labels)] * world_size


def test_starting_late_is_skipping_batches(photographs):
    loader = load(photographs).train
    assert len(loader) == 5
    assert same(list(loader.epoch(3, start=2)), list(loader.epoch(3))[2:])
    assert list(loader.epoch(3, start=5)) == []


def test_loading_leaves_the_programs_draws_alone(photographs):
    loader = load(photographs).train
    torch.manual_seed(3)
    undisturbed = torch.rand(4)
    torch.manual_seed(3)
    list(loader.epoch(0))
    assert torch.equal(torch.rand(4), undisturbed)


def test_an_unreadable_image_stops_with_its_name(photographs):
    ruin(photographs, "train", "owl_3.JPEG")
    ruin(photographs, "val", "crow_1.JPEG")
    loaded = load(photographs)
    with pytest.raises(ValueError, match=r"owl_3\.JPEG cannot be read as an image .* --skip-unreadable"):
        list(loaded.train.epoch(0))
    with pytest.raises(ValueError, match=r"crow_1\.JPEG cannot be read"):
        list(loaded.test.epoch(0))


def test_unreadable_images_are_left_out_and_counted(photographs):
    before = list(load(photographs).train.epoch(0))
    ruin(photographs, "train", "owl_3.JPEG", "heron_1.JPEG")
    ruin(photographs, "val", "crow_0.png", "crow_1.JPEG", "crow_2.JPEG", "heron_0.png")
    loaded = load(photographs, skip_unreadable=True)
    assert loaded.skipped == 0
    for _ in range(2):
        train, test = list(loaded.train.epoch(0)), list(loaded.test.epoch(0))
        assert sum(batch.total for batch in train) == 22
        assert torch.bincount(joined(train)[1]).tolist() == [8, 7, 7]
        assert [batch.total for batch in test] == [0, 4, 1]
        assert joined(test)[1].tolist() == [1, 1, 2, 2, 2]
        assert (loaded.train.skipped, loaded.test.skipped, loaded.skipped) == (2, 4, 6)
    for batch, full in zip(train, before, strict=True):
        assert batch.total == len(batch.labels) == len(batch.images)
        kept = [any(torch.equal(image, other) for other in batch.images) for image in full.images]
        assert sum(kept) == batch.total
        assert torch.equal(full.images[torch.tensor(kept)], batch.images)
        assert torch.equal(full.labels[torch.tensor(kept)], batch.labels)


def test_a_training_batch_with_nothing_to_read_stops(photographs):
    for name in ("crow", "heron", "owl"):
        ruin(photographs, "train", *(f"{name}_{image}.JPEG" for image in range(1, 8)))
    with pytest.raises(ValueError, match=r"too few readable images in a training batch: .* cannot be read"):
        list(load(photographs, skip_unreadable=True, batch_size=3).train.epoch(0))


def rows(loader: data.Loader) -> set[bytes]:
    return {image.numpy().tobytes() for batch in loader.epoch(0) for image in batch.images}


def test_validation_images_are_held_out_and_not_augmented(photographs):
    loaded = load(photographs, validation_share=0.25, batch_size=6)
    _, labels = joined(list(loaded.validation.epoch(0)))
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    plain = load(photographs, augment=False, batch_size=6)
    trained = load(photographs, validation_share=0.25, augment=False, batch_size=6)
    assert len(rows(trained.train)) == 18
    assert not rows(trained.train) & rows(loaded.validation)
    assert rows(trained.train) | rows(loaded.validation) == rows(plain.train)


@contextmanager
def busy_threads() -> Iterator[None]:
    """Two threads that calculate, and hold locks, all the time."""
    stop = threading.Event()

    def calculate() -> None:
        while not stop.wait(0.001):
            torch.rand(64, 64) @ torch.rand(64, 64)

    threads = [threading.Thread(target=calculate) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()


def test_workers_change_nothing_even_beside_busy_threads(photographs):
    ruin(photographs, "train", "owl_3.JPEG")
    here = load(photographs, skip_unreadable=True).train
    expected = [list(here.epoch(epoch)) for epoch in range(3)]
    there = load(photographs, skip_unreadable=True, workers=2).train
    with busy_threads():
        for epoch in range(2):
            assert same(list(there.epoch(epoch)), expected[epoch])
        next(there.epoch(0))  # an epoch that is left in the middle
        assert same(list(there.epoch(2, start=1)), expected[2][1:])
    assert there.skipped == 1


def test_workers_of_two_processes_share_a_batch(photographs):
    ranks = [load(photographs, workers=1, rank=rank, world_size=2).train for rank in range(2)]
    images, labels = joined([next(rank.epoch(0)) for rank in ranks])
    expected = next(load(photographs).train.epoch(0))
    assert torch.equal(images, expected.images)
    assert torch.equal(labels, expected.labels)


def test_an_unreadable_image_in_a_worker_stops_with_one_sentence(photographs):
    ruin(photographs, "val", "crow_1.JPEG")
    with pytest.raises(ValueError, match=r"^\S*crow_1\.JPEG cannot be read") as caught:
        list(load(photographs, workers=1).test.epoch(0))
    assert "\n" not in str(caught.value)


PROGRAM = """
import sys, time, data
if __name__ == "__main__":
    loaded = data.load("birds", sys.argv[1], image_size=24, batch_size=5, workers=2)
    batches = loaded.train.epoch(0)
    next(batches), next(batches)  # one of each worker
    print(*(worker.pid for worker in loaded.train._results._iterator._workers), flush=True)
    for batch in batches:
        time.sleep(0.1)
    print("all batches", flush=True)
    time.sleep(60)
"""


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the states of processes from /proc")
def test_workers_outlive_what_is_sent_to_all_processes_but_not_their_program(photographs, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = Path(data.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, str(program), str(photographs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as main:
        workers = [int(word) for word in main.stdout.readline().split()]
        try:
            assert len(workers) == 2
            server = int(Path(f"/proc/{workers[0]}/stat").read_text().rsplit(")", 1)[1].split()[1])
            assert server != main.pid
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
                for process in (*workers, server):
                    os.kill(process, number)
            assert main.stdout.readline() == "all batches\n"
            assert all(running(worker) for worker in workers)
        finally:
            main.kill()
    deadline = time.monotonic() + 10
    while any(running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [worker for worker in workers if running(worker)]
    for worker in left:
        os.kill(worker, signal.SIGKILL)
    assert not left


def test_a_worker_ends_where_its_parent_asks(photographs):
    loader = load(photographs, workers=1).train
    next(loader.epoch(0))
    (worker,) = loader._results._iterator._workers
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 1


def test_real_photographs(real_data):
    loaded = data.load("imagenette224", real_data, batch_size=64, test_batch_size=50, workers=0)
    assert loaded.classes == 10
    assert len(loaded.train) == 32
    assert len(loaded.test) == 20
    assert loaded.class_names[0] == "n01440764"
    batch = next(iter(loaded.train.epoch(0)))
    assert batch.images.shape == (64, 3, 224, 224)
    assert batch.images.mean().abs() < 0.5
    assert 0.7 < batch.images.std() < 1.4
    assert batch.labels.unique().numel() > 5
    assert next(iter(loaded.test.epoch(0))).labels.tolist() == [0] * 50
