from __future__ import annotations

import pytest
import torch

import data


def test_a_name_that_is_no_set_is_refused_with_the_names(tmp_path):
    with pytest.raises(ValueError, match="no data set cifar1: its name is one of digits, cifar10, cifar100"):
        data.load("cifar1", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"one of digits, .*, or that of a folder in a data directory: give"):
        data.load("cifar1")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"mean": [0.5, 0.5]}, r"mean has 2 numbers for images of 1 channel"),
        ({"in_channels": 3, "std": [0.5]}, r"std has 1 numbers for images of 3 channel"),
        ({"std": [0.0]}, r"std must be positive"),
        ({"batch_size": 2, "world_size": 3}, r"batch_size 2 is less than an image for each of 3 processes"),
    ],
)
def test_arguments_that_do_not_fit_end_in_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        data.load("digits", **arguments)


def test_colour_images_are_not_made_grey(cifar10):
    with pytest.raises(ValueError, match="the images of cifar10 have 3 channels, not in_channels 1"):
        data.load("cifar10", cifar10, verify=False, in_channels=1)


def test_validation_is_a_fixed_stratified_part_of_the_training_images():
    whole = data.load("digits", augment=False)
    assert whole.validation is None
    parts = [data.load("digits", augment=False, validation_share=0.1, seed=seed) for seed in (0, 1)]
    held = [torch.cat([batch.images for batch in part.validation.epoch(0)]) for part in parts]
    labels = torch.cat([batch.labels for batch in parts[0].validation.epoch(0)])
    assert torch.equal(*held)
    assert set(torch.bincount(labels).tolist()) <= {14, 15}

    def rows(loader: data.Loader) -> set[bytes]:
        return {image.numpy().tobytes() for batch in loader.epoch(0) for image in batch.images}

    kept = rows(parts[0].train)
    assert not kept & rows(parts[0].validation)
    assert len(kept) + len(labels) > 1380  # all but one small last batch
    assert rows(parts[0].test) == rows(whole.test)


def test_validation_images_are_not_augmented():
    plain = data.load("digits", validation_share=0.1, augment=False)
    augmented = data.load("digits", validation_share=0.1)
    for one, other in zip(plain.validation.epoch(0), augmented.validation.epoch(0), strict=True):
        assert torch.equal(one.images, other.images)
    assert not torch.equal(next(plain.train.epoch(0)).images, next(augmented.train.epoch(0)).images)


def test_what_a_set_says_of_itself():
    loaded = data.load("digits")
    assert (loaded.classes, loaded.channels, loaded.skipped) == (10, 1, 0)
    assert loaded.class_names == tuple("0123456789")
    assert (loaded.mean, loaded.std) == ((0.305,), (0.376,))
    assert data.load("digits", mean=[0.1], std=[0.2]).mean == (0.1,)
