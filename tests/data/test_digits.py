from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from data import digits
from data.sources import Request


def test_the_held_out_part_is_fixed_stratified_and_a_fifth_at_least():
    image_set = digits.read(Request("digits", None))
    whole = torch.bincount(torch.from_numpy(load_digits().target))
    held = torch.bincount(image_set.test.labels)
    assert (held >= 0.2 * whole).all()
    assert (held < 0.2 * whole + 1).all()
    assert len(image_set.test.labels) == 364
    assert len(image_set.train.labels) == 1797 - 364


def test_no_image_is_in_both_parts_and_none_is_lost():
    originals = torch.from_numpy(load_digits().images)
    image_set = digits.read(Request("digits", None))
    train, test = (part.pixels[:, 0].double() / 255 * 16 for part in (image_set.train, image_set.test))
    expected_test = originals[HELD_OUT_FIRST]
    assert torch.equal(test[: len(HELD_OUT_FIRST)].round(), expected_test)
    both = torch.cat([train, test]).round().flatten(1)
    assert torch.equal(torch.unique(both, dim=0), torch.unique(originals.flatten(1), dim=0))
    assert len(both) == len(originals)


def test_constants_are_those_of_the_training_images():
    image_set = digits.read(Request("digits", None))
    pixels = image_set.train.pixels.float() / 255
    assert abs(pixels.mean() - image_set.mean[0]) < 1e-3
    assert abs(pixels.std() - image_set.std[0]) < 1e-3
    assert image_set.train.pixels.max() == 255
    assert list(image_set.class_names) == [str(digit) for digit in range(10)]


HELD_OUT_FIRST = [1, 2, 4, 8, 10, 19, 24, 25]
