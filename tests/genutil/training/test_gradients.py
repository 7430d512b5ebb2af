"""Parts of a batch, and what an image weighs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from genutil.training.gradients import Shares, backward, shares
from tests.genutil.parts import Batch, make_data, recipe


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def gradients(fabric: Fabric, images: int, **settings) -> tuple[Tensor, list[int], tuple[Tensor, Tensor]]:
    """The gradient of a batch in float64, the sizes of its parts, and what was returned."""
    batch = next(make_data(images, images, dtype=torch.float64).train.epoch(0))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).double()
    sizes: list[int] = []
    network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    returned = backward(fabric, fabric.setup(network), batch, recipe(**settings))
    return network[1].weight.grad, sizes, returned


@pytest.mark.parametrize(
    ("images", "accumulate", "sizes"), [(11, 2, [6, 5]), (11, 4, [3, 3, 3, 2]), (11, 9, [3, 2, 2, 2, 2]), (3, 4, [3])]
)
def test_a_batch_in_parts_has_the_gradient_of_the_whole(
    fabric: Fabric, images: int, accumulate: int, sizes: list[int]
) -> None:
    expected, whole, (loss, correct) = gradients(fabric, images)
    found, parts, (own_loss, own_correct) = gradients(fabric, images, accumulate=accumulate)
    assert (whole, parts) == ([images], sizes)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    assert own_loss == pytest.approx(float(loss), abs=1e-12)
    assert own_correct == correct


def test_every_image_weighs_as_one_of_the_whole_batch(fabric: Fabric) -> None:
    """Where this process has a part of it: its sum over the images of all, not over its own."""
    batch = next(make_data(8, 8, dtype=torch.float64).train.epoch(0))
    own = Batch(batch.images[:3], batch.labels[:3], 8)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).double()
    (expected,) = torch.autograd.grad(
        F.cross_entropy(network(own.images), own.labels, reduction="sum") / 8, [network[1].weight]
    )
    backward(fabric, fabric.setup(network), own, recipe())
    torch.testing.assert_close(network[1].weight.grad, expected, rtol=0, atol=1e-14)


def test_one_process_knows_its_share(fabric: Fabric) -> None:
    batch = next(make_data(9, 9).train.epoch(0))
    assert shares(fabric, batch, uncertain=True) == Shares(9, 9)
