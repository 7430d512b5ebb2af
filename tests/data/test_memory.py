from __future__ import annotations

import pytest
import torch

import data
from data import digits
from data.sources import Request
from tests.data.compared import joined, same


def batches(loader: data.Loader, epoch: int = 0, start: int = 0) -> list[data.Batch]:
    return list(loader.epoch(epoch, start))


@pytest.mark.parametrize("arguments", [{}, {"image_size": 20, "in_channels": 3}])
@pytest.mark.parametrize("world_size", [2, 3])
def test_slices_of_the_processes_are_the_batch_of_one_process(arguments, world_size):
    whole = data.load("digits", batch_size=100, seed=4, **arguments)
    ranks = [
        data.load("digits", batch_size=100, seed=4, rank=rank, world_size=world_size, **arguments)
        for rank in range(world_size)
    ]
    for part in ("train", "test"):
        loaders = [getattr(rank, part) for rank in ranks]
        expected = batches(getattr(whole, part), 2)
        slices = [batches(loader, 2) for loader in loaders]
        assert {len(loader) for loader in loaders} == {len(expected)}
        for step, batch in enumerate(expected):
            images, labels = joined([rank[step] for rank in slices])
            assert torch.equal(images, batch.images)
            assert torch.equal(labels, batch.labels)
            assert [rank[step].total for rank in slices] == [len(batch.labels)] * world_size


def test_starting_late_is_skipping_batches():
    loader = data.load("digits", batch_size=100, seed=4).train
    assert same(batches(loader, 3, start=5), batches(loader, 3)[5:])
    assert batches(loader, 3, start=len(loader)) == []


def test_epochs_differ_and_a_seed_repeats_them():
    loader = data.load("digits", batch_size=100, seed=4).train
    again = data.load("digits", batch_size=100, seed=4).train
    other = data.load("digits", batch_size=100, seed=5).train
    assert same(batches(loader, 1), batches(again, 1))
    assert not torch.equal(batches(loader, 0)[0].labels, batches(loader, 1)[0].labels)
    assert not torch.equal(batches(loader, 0)[0].labels, batches(other, 0)[0].labels)


def test_loading_leaves_the_programs_draws_alone():
    loader = data.load("digits", batch_size=100).train
    torch.manual_seed(3)
    undisturbed = torch.rand(4)
    torch.manual_seed(3)
    batches(loader)
    assert torch.equal(torch.rand(4), undisturbed)


def test_an_epoch_shows_every_training_image_once(mnist):
    loaded = data.load("mnist", mnist, batch_size=8, augment=False, verify=False)
    images, labels = joined(batches(loaded.train))
    levels = (images * loaded.std[0] + loaded.mean[0]).mul(255).round()[:, 0, 14, 14]
    assert sorted(levels.tolist()) == list(range(30))
    assert levels.tolist() != list(range(30))
    assert torch.equal(levels.long() % 10, labels)
    assert [batch.total for batch in batches(loaded.train)] == [8, 8, 8, 6]


def test_evaluation_keeps_the_order_and_changes_nothing():
    loaded = data.load("digits", batch_size=128, test_batch_size=50)
    first, second = batches(loaded.test, 0), batches(loaded.test, 1)
    assert same(first, second)
    assert [batch.total for batch in first] == [50] * 7 + [14]
    expected = digits.read(Request("digits", None)).test
    images, labels = joined(first)
    assert torch.equal(labels, expected.labels)
    pixels = (images * loaded.std[0] + loaded.mean[0]).mul(255).round()
    assert torch.equal(pixels, expected.pixels.float())


def test_more_processes_than_images_in_evaluation_leave_some_without():
    sizes = []
    for rank in range(5):
        loaded = data.load("digits", batch_size=400, test_batch_size=361, rank=rank, world_size=5, image_size=16)
        last = batches(loaded.test)[-1]
        assert last.total == 3
        assert last.images.shape == (len(last.labels), 1, 16, 16)
        sizes.append(len(last.labels))
    assert sorted(sizes) == [0, 0, 1, 1, 1]


def test_augmentation_moves_digits_by_a_pixel_and_mirrors_none(mnist):
    plain = batches(data.load("digits", batch_size=200, seed=1, augment=False).train)[0]
    moved = batches(data.load("digits", batch_size=200, seed=1).train)[0]
    assert torch.equal(plain.labels, moved.labels)
    black = plain.images.min()
    padded = torch.nn.functional.pad(plain.images, (1, 1, 1, 1), value=float(black))
    shifts = torch.stack([padded[:, :, y : y + 8, x : x + 8] for y in range(3) for x in range(3)])
    fits = (shifts == moved.images).flatten(2).all(2)
    assert fits.any(0).all()
    assert fits.any(1).all()


def test_grey_images_are_repeated_and_normalised_channel_by_channel():
    grey = batches(data.load("digits").test)[0].images
    colour = data.load("digits", in_channels=3, mean=[0.305, 0.0, 0.5], std=[0.376, 1.0, 0.5])
    images = batches(colour.test)[0].images
    assert colour.channels == 3
    assert torch.equal(images[:, :1], grey)
    assert torch.allclose(images[:, 1], grey[:, 0] * 0.376 + 0.305, atol=1e-6)
    assert images[:, 2].min() == -1


def test_images_are_as_large_as_asked_for():
    assert batches(data.load("digits").train)[0].images.shape == (128, 1, 8, 8)
    images = batches(data.load("digits", image_size=32).train)[0].images
    assert images.shape == (128, 1, 32, 32)
    assert images.dtype == torch.float32
