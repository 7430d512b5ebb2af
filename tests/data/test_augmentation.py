from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from data.augmentation import (
    Moves,
    PadCropFlip,
    ResizedCentre,
    ResizedCropFlip,
    Windows,
    mixed_seed,
    normalise,
    resize,
    torch_seeded,
)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (7, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("pad", "flip"), [(4, True), (1, False), (0, True)])
def test_gather_is_padding_cropping_and_flipping_each_image(pixels, pad, flip):
    augmentation = PadCropFlip(pad, flip)
    indices = torch.tensor([3, 0, 6, 3, 5])
    moves = augmentation.draw(len(indices), torch.Generator().manual_seed(1))
    got = Windows(pixels, augmentation).gather(indices, moves)
    for place, index in enumerate(indices.tolist()):
        padded = v2.functional.pad(pixels[index], [pad], fill=0)
        expected = v2.functional.crop(padded, int(moves.top[place]), int(moves.left[place]), 12, 12)
        if moves.flips[place]:
            expected = v2.functional.horizontal_flip(expected)
        assert torch.equal(got[place], expected)


def test_draws_reach_every_offset_and_mirror_half_of_the_images():
    moves = PadCropFlip(4, True).draw(4000, torch.Generator().manual_seed(0))
    assert set(moves.top.tolist()) == set(moves.left.tolist()) == set(range(9))
    assert abs(moves.flips.float().mean() - 0.5) < 0.05
    assert (moves.top != moves.left).any()
    assert not PadCropFlip(4, False).draw(4000, torch.Generator().manual_seed(0)).flips.any()


def test_the_border_is_black(pixels):
    white = torch.full_like(pixels, 255)
    zero = torch.zeros(1, dtype=torch.int64)
    corner = Moves(top=zero, left=zero, flips=zero.bool())
    crop = Windows(white, PadCropFlip(4, True)).gather(zero, corner)[0]
    assert (crop[:, :4] == 0).all()
    assert (crop[:, :, :4] == 0).all()
    assert (crop[:, 4:, 4:] == 255).all()


def test_normalise_is_torchvisions(pixels):
    mean, std = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
    expected = v2.functional.normalize(pixels.float() / 255, mean, std)
    got = normalise(pixels, torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1))
    assert torch.equal(got, expected)


def test_resize(pixels):
    assert resize(pixels, 12) is pixels
    assert resize(pixels, 20).shape == (7, 3, 20, 20)
    assert resize(pixels[:0], 20).shape == (0, 3, 20, 20)
    flat = torch.full((1, 1, 8, 8), 77, dtype=torch.uint8)
    assert (resize(flat, 31) == 77).all()
    # antialiased: halving a checkerboard gives its mean, not one of its colours
    board = ((torch.arange(16)[:, None] + torch.arange(16)) % 2 * 200).to(torch.uint8)[None, None]
    assert (resize(board, 4).float() - 100).abs().max() <= 2


@pytest.mark.parametrize("size", [5, 8, 31, 32])
@pytest.mark.parametrize("shape", [(7, 3, 12, 12), (1, 1, 8, 8), (2, 3, 9, 16), (0, 3, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_resize_is_torchvisions(shape, size, dtype):
    images = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = v2.functional.resize(images, [size, size], antialias=True)
    got = resize(images, size)
    assert got.dtype == dtype
    assert torch.equal(got, expected)


def test_evaluation_resizes_the_shorter_side_and_cuts_the_centre():
    image = torch.zeros(3, 256, 300, dtype=torch.uint8)
    image[:, 16:240, 38:262] = 255
    assert (ResizedCentre().transform(224)(image) == 255).all()
    assert ResizedCentre().transform(64)(image).shape == (3, 64, 64)


def test_training_transform_draws_only_inside_its_seed():
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    transform = ResizedCropFlip().transform(32)
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    with torch_seeded(1):
        first = transform(image)
    with torch_seeded(1):
        again = transform(image)
    with torch_seeded(2):
        other = transform(image)
    assert torch.equal(torch.rand(3), undisturbed)
    assert first.shape == (3, 32, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_mixed_seeds_are_fixed_and_different():
    assert mixed_seed(0, 0) == 7896617691693857887
    few = range(5)
    assert len({mixed_seed(seed, epoch, image) for seed in few for epoch in few for image in few}) == 125
